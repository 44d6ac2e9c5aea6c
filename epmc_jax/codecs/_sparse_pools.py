"""How `SparseFixedRate` spends the bits of a pool, as jnp code."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import round16
from epmc_jax.codecs._quantize import EXPONENT, MAX_RANGE, MIN_RANGE
from epmc_jax.codecs._rows import (
    BLOCK,
    bits_to_float,
    float_bits,
    pack_planes,
    unpack_planes,
)

# Against one budget per row, pools of 16384 lose little (64x14x14x128 ReLU outputs at
# 4.125 bits: error 0.0117, whole rows 0.0114), and a pool fits a GPU thread block.
POOL = 16384
MAX_WIDTH = 16
SIGN = np.uint32(0x80000000)


def pool_nbytes(payload_nbytes: int, elements: int) -> int:
    """Bytes for the values of a pool of `elements`; a full one has `payload_nbytes`."""
    return round16(-(-payload_nbytes * elements // POOL))


class Cut(NamedTuple):
    """How rows are cut: arrays of them are [rows, pools, groups, group_size]."""

    groups: int  # of a row
    shape: tuple[int, int, int]
    valid: np.ndarray  # bool, `shape`: what the row has
    group_elements: np.ndarray  # int32[pools, groups]
    elements: np.ndarray  # int32[pools]
    words: np.ndarray  # int32[pools]: of payload

    @classmethod
    def of(cls, elements: int, size: int, payload_nbytes: int) -> Cut:
        """`size`: of groups. `payload_nbytes`: of a full pool."""
        groups, pools = -(-elements // size), -(-elements // POOL)
        shape = (pools, min(groups, POOL // size), size)
        valid = (np.arange(np.prod(shape)) < elements).reshape(shape)
        group_elements = valid.sum(axis=-1).astype(np.int32)
        in_pool = group_elements.sum(axis=-1).astype(np.int32)
        nbytes = [pool_nbytes(payload_nbytes, int(count)) for count in in_pool]
        words = np.asarray(nbytes, np.int32) // 4
        return cls(groups, shape, valid, group_elements, in_pool, words)

    def pools(self, rows: jax.Array) -> jax.Array:
        padding = self.valid.size - rows.shape[1]
        return jnp.pad(rows, ((0, 0), (0, padding))).reshape(-1, *self.shape)

    def by_group(self, part: jax.Array) -> jax.Array:
        padding = self.group_elements.size - part.shape[1]
        return jnp.pad(part, ((0, 0), (0, padding))).reshape(-1, *self.shape[:2])

    def payload(self, values: jax.Array) -> jax.Array:
        """Words [rows, pools, words of a pool], zeros behind the last pool's."""
        longest = int(self.words.max())
        padding = longest * self.shape[0] - values.shape[1]
        padded = jnp.pad(values, ((0, 0), (0, padding)))
        return padded.reshape(-1, self.shape[0], longest)

    @property
    def slots(self) -> int:
        """Places for values: two streams, each padded to blocks."""
        return self.shape[1] * self.shape[2] + 2 * BLOCK


class Widths(NamedTuple):
    """What bitmap and flags say about the values of each pool."""

    bits: jax.Array  # of payload per value, [rows, pools, groups]
    rank: jax.Array  # of an element among the values of its group
    number: jax.Array  # the same in its pool
    slot: jax.Array  # the same with the first stream padded to blocks
    width: jax.Array  # planes of the second stream, [rows, pools]
    wide_blocks: jax.Array  # blocks of the first stream, [rows, pools]


def widths_of(is_value: jax.Array, words: np.ndarray, dtype: Any) -> Widths:
    values = jnp.sum(is_value, axis=-1, dtype=jnp.int32)
    total = jnp.sum(values, axis=-1, dtype=jnp.int32)
    most = MAX_WIDTH if jnp.dtype(dtype).itemsize == 4 else MAX_WIDTH - 1
    width = jnp.minimum(most, words // jnp.maximum(1, _blocks(total)))
    before = jnp.cumsum(values, axis=-1) - values  # values of the first m groups
    cost = _blocks(before) * (width + 1)[..., None]
    cost += _blocks(total[..., None] - before) * width[..., None]
    fits = (cost <= words[:, None]) & (width < most)[..., None]
    group = np.arange(values.shape[-1], dtype=np.int32)
    wide_groups = jnp.max(jnp.where(fits, group, 0), axis=-1, keepdims=True)
    wide = jnp.take_along_axis(before, wide_groups, axis=-1)
    is_wide = group < wide_groups
    rank = jnp.cumsum(is_value.astype(jnp.int32), axis=-1) - is_value
    shift = jnp.where(is_wide, 0, _blocks(wide) * BLOCK - wide)
    number = before[..., None] + rank
    bits = width[..., None] + is_wide
    wide_blocks = _blocks(wide[..., 0])
    return Widths(bits, rank, number, number + shift[..., None], width, wide_blocks)


def _blocks(count: jax.Array) -> jax.Array:
    return (count + BLOCK - 1) // BLOCK


def is_exact(nonzeros: jax.Array, words: np.ndarray, dtype: Any) -> jax.Array:
    total = jnp.sum(nonzeros, axis=-1, dtype=jnp.int32)
    return _blocks(total) * (8 * jnp.dtype(dtype).itemsize) <= words


def code_bits_of(bits: jax.Array, is_dense: jax.Array) -> jax.Array:
    """A dense group has a bit more per code: its bitmap."""
    return jnp.minimum(bits + is_dense, MAX_WIDTH)


def raw_bits(x: jax.Array) -> jax.Array:
    width = jnp.uint32 if x.dtype.itemsize == 4 else jnp.uint16
    return lax.bitcast_convert_type(x, width).astype(jnp.uint32)


def normal_bits(bits: jax.Array) -> jax.Array:
    """Subnormals as the smallest normal number of their sign: nonzeros stay nonzero."""
    is_subnormal = (bits & EXPONENT) == 0
    return jnp.where(is_subnormal, (bits & SIGN) | np.uint32(0x00800000), bits)


def scales_of(
    x32: jax.Array, is_nonzero: jax.Array, code_bits: jax.Array, is_dense: jax.Array
) -> tuple[Any, Any]:
    x = bits_to_float(normal_bits(x32))
    lo = jnp.min(jnp.where(is_nonzero, x, jnp.inf), axis=-1)
    hi = jnp.max(jnp.where(is_nonzero, x, -jnp.inf), axis=-1)
    span = hi - lo
    finite = jnp.all(~is_nonzero | ((x32 & EXPONENT) != EXPONENT), axis=-1)
    is_nan = ~(finite & (span <= MAX_RANGE))
    last = np.maximum(1, 2 ** np.arange(17) - np.array([[1], [2]])).astype(np.float32)
    inverse = jnp.asarray(np.float32(1) / last)[is_dense.astype(jnp.int32), code_bits]
    # As many significant bits as keep code * step exact.
    below = (np.uint32(1) << jnp.maximum(8, code_bits).astype(jnp.uint32)) - 1
    step = bits_to_float((float_bits(span * inverse) + below) & ~below)
    is_flat = span < MIN_RANGE
    has_levels = (1 << code_bits) - 1 - is_dense > 0
    lo = jnp.where(is_flat | has_levels, lo, lo + np.float32(0.5) * span)
    step = jnp.where(is_nan | is_flat | ~has_levels, np.float32(0), step)
    lo = jnp.where(is_nan, np.float32(np.nan), lo)
    is_empty = ~jnp.any(is_nonzero, axis=-1)
    return jnp.where(is_empty, 0, lo), jnp.where(is_empty, 0, step)


def taken(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values[index]` of each pool; an index behind the last value takes that."""
    rows, pools = index.shape[:2]
    flat = jnp.clip(index.reshape(rows, pools, -1), 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, flat, axis=-1).reshape(index.shape)


def units_of(payload: jax.Array, dtype: Any) -> jax.Array:
    """Words as numbers of the width of `dtype`, in uint32."""
    if jnp.dtype(dtype).itemsize == 4:
        return payload
    halves = jnp.stack([payload & 0xFFFF, payload >> 16], axis=-1)
    return halves.reshape(*payload.shape[:2], -1)


def payload_of(
    stored: Any, is_value: Any, exact: Any, widths: Widths, cut: Cut, dtype: Any
) -> jax.Array:
    """Words [rows, pools, words]; `stored` is what each value has there."""
    rows, pools = stored.shape[:2]
    slot = jnp.where(exact[..., None, None], widths.number, widths.slot)
    slot = jnp.where(is_value, slot, cut.slots).reshape(rows, pools, -1)
    at = (np.arange(rows)[:, None, None], np.arange(pools)[:, None], slot)
    compact = jnp.zeros((rows, pools, cut.slots), jnp.uint32)
    compact = compact.at[at].set(stored.reshape(rows, pools, -1), mode="drop")
    longest = int(cut.words.max())
    per_word = 4 // jnp.dtype(dtype).itemsize
    units = jnp.pad(compact, ((0, 0), (0, 0), (0, longest * per_word)))
    units = units[..., : longest * per_word].reshape(rows, pools, longest, per_word)
    shifts = np.arange(per_word, dtype=np.uint32) * np.uint32(16)
    raw = jnp.sum(units << shifts, axis=-1, dtype=jnp.uint32)
    planes = pack_planes(compact.reshape(rows, pools, -1, BLOCK), MAX_WIDTH)
    word = np.arange(longest, dtype=np.int32)
    width, wide_blocks = widths.width[..., None], widths.wide_blocks[..., None]
    wide_words = wide_blocks * (width + 1)
    narrow, width_or_1 = word - wide_words, jnp.maximum(width, 1)
    is_wide = narrow < 0
    block = jnp.where(is_wide, word // (width + 1), wide_blocks + narrow // width_or_1)
    plane = jnp.where(is_wide, word % (width + 1), narrow % width_or_1)
    found = taken(planes.reshape(rows, pools, -1), block * MAX_WIDTH + plane)
    is_used = (is_wide | (width > 0)) & (block < cut.slots // BLOCK)
    return jnp.where(exact[..., None], raw, jnp.where(is_used, found, 0))


def unpacked(payload: jax.Array, widths: Widths, cut: Cut) -> jax.Array:
    """The values of all slots, uint32[rows, pools, slots]."""
    block = jnp.arange(cut.slots // BLOCK, dtype=jnp.int32)
    width, wide_blocks = widths.width[..., None], widths.wide_blocks[..., None]
    bits = width + (block < wide_blocks)
    first = block * width + jnp.minimum(block, wide_blocks)
    plane = jnp.arange(MAX_WIDTH, dtype=jnp.int32)
    words = taken(payload, first[..., None] + plane)
    planes = jnp.where(plane < bits[..., None], words, 0)
    return unpack_planes(planes).reshape(*payload.shape[:2], -1)
