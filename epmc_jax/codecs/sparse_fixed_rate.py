"""Nonzeros at the precision that a fixed rate leaves them: it cannot overflow."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, round16, split_rows
from epmc_jax.codecs._rows import (
    BLOCK,
    FLOATS,
    as_rows,
    bits_to_float,
    float_bits,
    from_bytes,
    join_parts,
    num_blocks,
    pack_bits,
    pack_planes,
    split_parts,
    unpack_bits,
    unpack_planes,
)
from epmc_jax.codecs.group_quant import _inverse_step16, _mix

# Against one budget per row, pools of 16384 lose little (64x14x14x128 ReLU outputs at
# 4.125 bits: error 0.0117, whole rows 0.0114), and a pool fits a GPU thread block.
POOL = 16384
_GROUP_SIZES = (64, 128, 256, 512, 1024)
_MIN_RATE, _MAX_RATE = 1.5, 16
_MAX_WIDTH = 16
_MAX_SEED = 2**32 - 1
_MAX_RANGE = np.float32(2.0**126)
_MIN_RANGE = np.float32(2.0**-100)
_EXPONENT = np.uint32(0x7F800000)
_SIGN = np.uint32(0x80000000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseFixedRate(AbstractCodec):
    """Keeps `rate` bits per element: 1 says where nonzeros are, the rest what they are.

    A row is cut into pools of 16384 elements, a pool into groups of `group_size`. All
    values of a pool share its bits, so that dense places borrow from sparse ones. The
    fewer nonzeros there are, the more precise they get; if all fit as they are, the
    pool is exact, NaN included. A group too dense for a bitmap to pay does without.
    Parts of a row, of `n` elements in `g` groups: `bitmap` (`ceil(n / 32)` words), `lo`
    and `step` (float32[g] each), `values`.

    Zeros are exact (-0 becomes +0). Where no `x` is negative, decoded > 0 exactly where
    x > 0. Error of a nonzero in a group of codes of `k` bits: at most `step / 2` with
    `rounding="nearest"`, below `step` with `"stochastic"` (both up to 2^-8 of a step),
    plus rounding to the array's dtype; `step` is the range of the group's nonzeros over
    its `2^k - 1` levels (`2^k - 2` without bitmap), up to 2^-7 of it more. A pool with
    no bit left per value keeps the middle of each group's range. The nonzeros of a
    group with a NaN, an infinity or a range above 2^126 decode to NaN, unless exact.

    Rows of fewer than 16384 elements have a higher rate: parts are padded to 16 bytes.
    Takes float32, bfloat16 and float16. Raises: `ValueError` for parameters out of
    range. Reference: Chen et al., EPMC, 2022, doi 10.1007/s00521-021-06433-5.
    """

    exact: ClassVar[bool] = False
    preserves_zero: ClassVar[bool] = True

    rate: float = 4.125
    group_size: int = 512
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0

    def __post_init__(self):
        if self.group_size not in _GROUP_SIZES:
            raise ValueError(
                f"group_size must be one of {_GROUP_SIZES}, got {self.group_size}: "
                f"groups fill pools of {POOL} elements."
            )
        if not _MIN_RATE <= self.rate <= _MAX_RATE:
            raise ValueError(
                f"rate must be from {_MIN_RATE} to {_MAX_RATE} bits, got {self.rate}. "
                "BitMask keeps 1 bit, Raw everything."
            )
        if self.rate <= 1 + 64 / self.group_size:
            raise ValueError(
                f"rate must be above {1 + 64 / self.group_size} with group_size "
                f"{self.group_size}, got {self.rate}: bitmap, lo and step take all of "
                "it. Raise rate or group_size."
            )
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(
                f'rounding must be "nearest" or "stochastic", got {self.rounding!r}.'
            )
        if not 0 <= self.seed <= _MAX_SEED:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {self.seed}.")

    @property
    def payload_nbytes(self) -> int:
        """Bytes of the values of a full pool."""
        nbytes = int((self.rate - 1 - 64 / self.group_size) * POOL / 8)
        return max(16, nbytes // 16 * 16)

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return sum(round16(nbytes) for nbytes in self._part_nbytes(row_elements))

    def for_site(self, site_hash: int) -> SparseFixedRate:
        """Each site rounds with a dither of its own, the same in every run."""
        return dataclasses.replace(self, seed=self.seed ^ site_hash)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        count, elements = split_rows(x.shape)
        cut = _Cut.of(elements, self)
        raw = cut.pools(_raw_bits(as_rows(x)))
        x32 = cut.pools(float_bits(as_rows(x).astype(jnp.float32)))
        if x.dtype == jnp.bfloat16:  # a shift, which keeps subnormals
            x32 = raw << 16
        is_nonzero = (raw & np.uint32(2 ** (8 * x.dtype.itemsize - 1) - 1)) != 0
        nonzeros = jnp.sum(is_nonzero, axis=-1, dtype=jnp.int32)
        is_dense = nonzeros * (32 * cut.words + cut.elements)[:, None] > (
            cut.group_elements * 32 * cut.words[:, None]
        )
        exact = _is_exact(nonzeros, cut.words, x.dtype)
        is_dense &= ~exact[..., None]
        is_value = jnp.where(is_dense[..., None], cut.valid, is_nonzero)
        widths = _widths(is_value, cut.words, x.dtype)
        code_bits = _code_bits(widths.bits, is_dense)
        lo, step = _scales(x32, is_nonzero, code_bits, is_dense)
        lo, step = (jnp.where(exact[..., None], 0, part) for part in (lo, step))
        codes = self._codes(x32, (lo, step), code_bits, is_dense, widths.rank, cut)
        codes = jnp.where(is_nonzero, codes + is_dense[..., None], 0).astype(jnp.uint32)
        top = (codes >> (code_bits - 1)[..., None].astype(jnp.uint32)) & 1
        bitmap = jnp.where(is_dense[..., None], top != 0, is_nonzero)
        below_top = (np.uint32(1) << (code_bits - 1).astype(jnp.uint32)) - 1
        codes = jnp.where(is_dense[..., None], codes & below_top[..., None], codes)
        stored = jnp.where(exact[..., None, None], raw, codes)
        payload = _payload(stored, is_value, exact, widths, cut, x.dtype)
        signs = jnp.where(is_dense, _SIGN, np.uint32(0))
        words = pack_bits(bitmap.reshape(count, -1, BLOCK))[:, : num_blocks(elements)]
        scales = [lo, bits_to_float(float_bits(step) | signs)]
        scales = [part.reshape(count, -1)[:, : cut.groups] for part in scales]
        values = payload.reshape(count, -1)[:, : sum(cut.words.tolist())]
        return join_parts([words, *scales, values])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        count, elements = split_rows(shape)
        cut = _Cut.of(elements, self)
        parts = split_parts(rows, self._part_nbytes(elements))
        words, lo, step, values = (from_bytes(part, jnp.uint32) for part in parts)
        bits = unpack_bits(words).reshape(count, -1)[:, :elements]
        bitmap = cut.pools(bits) != 0
        lo, step = (cut.by_group(part) for part in (lo, step))
        is_dense = (step & _SIGN) != 0
        nonzeros = jnp.sum(bitmap, axis=-1, dtype=jnp.int32)
        exact = _is_exact(nonzeros, cut.words, dtype) & ~jnp.any(is_dense, axis=-1)
        is_value = jnp.where(is_dense[..., None], cut.valid, bitmap)
        widths = _widths(is_value, cut.words, dtype)
        payload = cut.payload(values)
        codes = _taken(_unpacked(payload, widths, cut), widths.slot)
        top = (_code_bits(widths.bits, is_dense) - 1).astype(jnp.uint32)
        high = bitmap.astype(jnp.uint32) << top[..., None]
        codes = jnp.where(is_dense[..., None], codes | high, codes).astype(jnp.int32)
        is_zero = jnp.where(is_dense[..., None], codes == 0, ~bitmap)
        levels = (codes - is_dense[..., None]).astype(jnp.float32)
        lo, step = bits_to_float(lo), bits_to_float(step & ~_SIGN)
        x = (lo[..., None] + levels * step[..., None]).astype(dtype)
        raw = _taken(_units(payload, dtype), widths.number)
        found = jnp.where(exact[..., None, None], raw, _raw_bits(x))
        found = jnp.where(is_zero, 0, found).reshape(count, -1)[:, :elements]
        width = jnp.uint32 if jnp.dtype(dtype).itemsize == 4 else jnp.uint16
        return lax.bitcast_convert_type(found.astype(width), dtype).reshape(shape)

    def _part_nbytes(self, row_elements: int) -> tuple[int, int, int, int]:
        scales = 4 * -(-row_elements // self.group_size)
        full, rest = divmod(row_elements, POOL)
        values = full * self.payload_nbytes + self._payload_of(rest)
        return 4 * num_blocks(row_elements), scales, scales, values

    def _payload_of(self, elements: int) -> int:
        return round16(-(-self.payload_nbytes * elements // POOL))

    def _codes(
        self, x32: Any, scale: Any, code_bits: Any, is_dense: Any, rank: Any, cut: _Cut
    ) -> jax.Array:
        """Codes counted from `lo`, int32, of the shape of `x32`."""
        lo, step = scale
        digits = jnp.minimum(16, 24 - code_bits)
        # 2^16 / (step * 2^(16 - digits)): the product is exact.
        exponent = (16 - digits).astype(jnp.uint32) << 23
        scaled = bits_to_float(float_bits(step) + exponent)
        inverse = _inverse_step16(jnp.where(step == 0, np.float32(0), scaled))
        steps = (bits_to_float(_normal(x32)) - lo[..., None]) * inverse[..., None]
        steps = jnp.where((step == 0)[..., None], np.float32(0), steps)
        dither = self._dither16(lo, step, rank, cut) >> (16 - digits)[..., None]
        codes = (steps.astype(jnp.int32) + dither) >> digits[..., None]
        last = jnp.where(step == 0, 0, (1 << code_bits) - 1 - is_dense)
        return jnp.minimum(codes, last[..., None])

    def _dither16(
        self, lo: jax.Array, step: jax.Array, rank: jax.Array, cut: _Cut
    ) -> jax.Array:
        if self.rounding == "nearest":
            return jnp.full(rank.shape, 1 << 15, jnp.int32)
        rows = np.arange(lo.shape[0], dtype=np.uint32)[:, None]
        group = np.arange(lo.shape[1] * lo.shape[2], dtype=np.uint32)
        number = jnp.asarray(rows * np.uint32(cut.groups) + group).reshape(lo.shape)
        rotated = (float_bits(step) << 16) | (float_bits(step) >> 16)
        key = _mix((np.uint32(self.seed) ^ _mix(number) ^ float_bits(lo)) + rotated)
        pair = (rank // BLOCK * 16 + rank % 16).astype(jnp.uint32)
        hashes = _mix(key[..., None] + pair * np.uint32(0x9E3779B9))
        is_high = rank % BLOCK >= 16
        return jnp.where(is_high, hashes >> 16, hashes & 0xFFFF).astype(jnp.int32)


class _Cut(NamedTuple):
    """How rows are cut: arrays of them are [rows, pools, groups, group_size]."""

    groups: int  # of a row
    shape: tuple[int, int, int]
    valid: np.ndarray  # bool, `shape`: what the row has
    group_elements: np.ndarray  # int32[pools, groups]
    elements: np.ndarray  # int32[pools]
    words: np.ndarray  # int32[pools]: of payload

    @classmethod
    def of(cls, elements: int, codec: SparseFixedRate) -> _Cut:
        size = codec.group_size
        groups, pools = -(-elements // size), -(-elements // POOL)
        shape = (pools, min(groups, POOL // size), size)
        valid = (np.arange(np.prod(shape)) < elements).reshape(shape)
        group_elements = valid.sum(axis=-1).astype(np.int32)
        in_pool = group_elements.sum(axis=-1).astype(np.int32)
        nbytes = [codec._payload_of(int(count)) for count in in_pool]
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


class _Widths(NamedTuple):
    """What bitmap and flags say about the values of each pool."""

    bits: jax.Array  # of payload per value, [rows, pools, groups]
    rank: jax.Array  # of an element among the values of its group
    number: jax.Array  # the same in its pool
    slot: jax.Array  # the same with the first stream padded to blocks
    width: jax.Array  # planes of the second stream, [rows, pools]
    wide_blocks: jax.Array  # blocks of the first stream, [rows, pools]


def _widths(is_value: jax.Array, words: np.ndarray, dtype: Any) -> _Widths:
    values = jnp.sum(is_value, axis=-1, dtype=jnp.int32)
    total = jnp.sum(values, axis=-1, dtype=jnp.int32)
    most = _MAX_WIDTH if jnp.dtype(dtype).itemsize == 4 else _MAX_WIDTH - 1
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
    return _Widths(bits, rank, number, number + shift[..., None], width, wide_blocks)


def _blocks(count: jax.Array) -> jax.Array:
    return (count + BLOCK - 1) // BLOCK


def _is_exact(nonzeros: jax.Array, words: np.ndarray, dtype: Any) -> jax.Array:
    total = jnp.sum(nonzeros, axis=-1, dtype=jnp.int32)
    return _blocks(total) * (8 * jnp.dtype(dtype).itemsize) <= words


def _code_bits(bits: jax.Array, is_dense: jax.Array) -> jax.Array:
    """A dense group has a bit more per code: its bitmap."""
    return jnp.minimum(bits + is_dense, _MAX_WIDTH)


def _raw_bits(x: jax.Array) -> jax.Array:
    width = jnp.uint32 if x.dtype.itemsize == 4 else jnp.uint16
    return lax.bitcast_convert_type(x, width).astype(jnp.uint32)


def _normal(bits: jax.Array) -> jax.Array:
    """Subnormals as the smallest normal number of their sign: nonzeros stay nonzero."""
    is_subnormal = (bits & _EXPONENT) == 0
    return jnp.where(is_subnormal, (bits & _SIGN) | np.uint32(0x00800000), bits)


def _scales(
    x32: jax.Array, is_nonzero: jax.Array, code_bits: jax.Array, is_dense: jax.Array
) -> tuple[Any, Any]:
    x = bits_to_float(_normal(x32))
    lo = jnp.min(jnp.where(is_nonzero, x, jnp.inf), axis=-1)
    hi = jnp.max(jnp.where(is_nonzero, x, -jnp.inf), axis=-1)
    span = hi - lo
    finite = jnp.all(~is_nonzero | ((x32 & _EXPONENT) != _EXPONENT), axis=-1)
    is_nan = ~(finite & (span <= _MAX_RANGE))
    last = np.maximum(1, 2 ** np.arange(17) - np.array([[1], [2]])).astype(np.float32)
    inverse = jnp.asarray(np.float32(1) / last)[is_dense.astype(jnp.int32), code_bits]
    # As many significant bits as keep code * step exact.
    below = (np.uint32(1) << jnp.maximum(8, code_bits).astype(jnp.uint32)) - 1
    step = bits_to_float((float_bits(span * inverse) + below) & ~below)
    is_flat = span < _MIN_RANGE
    has_levels = (1 << code_bits) - 1 - is_dense > 0
    lo = jnp.where(is_flat | has_levels, lo, lo + np.float32(0.5) * span)
    step = jnp.where(is_nan | is_flat | ~has_levels, np.float32(0), step)
    lo = jnp.where(is_nan, np.float32(np.nan), lo)
    is_empty = ~jnp.any(is_nonzero, axis=-1)
    return jnp.where(is_empty, 0, lo), jnp.where(is_empty, 0, step)


def _taken(values: jax.Array, index: jax.Array) -> jax.Array:
    """`values[index]` of each pool; an index behind the last value takes that."""
    rows, pools = index.shape[:2]
    flat = jnp.clip(index.reshape(rows, pools, -1), 0, values.shape[-1] - 1)
    return jnp.take_along_axis(values, flat, axis=-1).reshape(index.shape)


def _units(payload: jax.Array, dtype: Any) -> jax.Array:
    """Words as numbers of the width of `dtype`, in uint32."""
    if jnp.dtype(dtype).itemsize == 4:
        return payload
    halves = jnp.stack([payload & 0xFFFF, payload >> 16], axis=-1)
    return halves.reshape(*payload.shape[:2], -1)


def _payload(
    stored: Any, is_value: Any, exact: Any, widths: _Widths, cut: _Cut, dtype: Any
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
    planes = pack_planes(compact.reshape(rows, pools, -1, BLOCK), _MAX_WIDTH)
    word = np.arange(longest, dtype=np.int32)
    width, wide_blocks = widths.width[..., None], widths.wide_blocks[..., None]
    wide_words = wide_blocks * (width + 1)
    narrow, width_or_1 = word - wide_words, jnp.maximum(width, 1)
    is_wide = narrow < 0
    block = jnp.where(is_wide, word // (width + 1), wide_blocks + narrow // width_or_1)
    plane = jnp.where(is_wide, word % (width + 1), narrow % width_or_1)
    found = _taken(planes.reshape(rows, pools, -1), block * _MAX_WIDTH + plane)
    is_used = (is_wide | (width > 0)) & (block < cut.slots // BLOCK)
    return jnp.where(exact[..., None], raw, jnp.where(is_used, found, 0))


def _unpacked(payload: jax.Array, widths: _Widths, cut: _Cut) -> jax.Array:
    """The values of all slots, uint32[rows, pools, slots]."""
    block = jnp.arange(cut.slots // BLOCK, dtype=jnp.int32)
    width, wide_blocks = widths.width[..., None], widths.wide_blocks[..., None]
    bits = width + (block < wide_blocks)
    first = block * width + jnp.minimum(block, wide_blocks)
    plane = jnp.arange(_MAX_WIDTH, dtype=jnp.int32)
    words = _taken(payload, first[..., None] + plane)
    planes = jnp.where(plane < bits[..., None], words, 0)
    return unpack_planes(planes).reshape(*payload.shape[:2], -1)
