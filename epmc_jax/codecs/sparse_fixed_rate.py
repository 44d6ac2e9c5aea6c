"""Nonzeros at the precision that a fixed rate leaves them: it cannot overflow."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._quantize import inverse_step16, mix
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
    split_parts,
    unpack_bits,
)
from epmc_jax.codecs._sparse_pools import (
    POOL,
    SIGN,
    Cut,
    code_bits_of,
    is_exact,
    normal_bits,
    payload_of,
    pool_nbytes,
    raw_bits,
    scales_of,
    taken,
    units_of,
    unpacked,
    widths_of,
)

_GROUP_SIZES = (64, 128, 256, 512, 1024)
_MIN_RATE, _MAX_RATE = 1.5, 16
_MAX_SEED = 2**32 - 1


class _Reading(NamedTuple):
    """What the bytes of rows say: arrays of [rows, pools, groups(, group_size)]."""

    rows: int
    elements: int  # of a row
    lo: jax.Array  # bits
    step: jax.Array  # bits, without the flag
    payload: jax.Array
    number: jax.Array
    exact: jax.Array
    is_dense: jax.Array
    codes: jax.Array
    is_zero: jax.Array


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
    decode_fuses: ClassVar[bool] = False

    rate: float = 4.125
    group_size: int = 512
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
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

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        attributes = {
            **self.attributes(),
            "is_stochastic": self.rounding == "stochastic",
            "seed": np.int64(self.seed),
        }
        return Kernel("epmc_sparse_fixed_rate_encode", attributes)

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_sparse_fixed_rate_decode", self.attributes())

    def encode_reference(self, x: jax.Array) -> jax.Array:
        count, elements = split_rows(x.shape)
        cut = self._cut(elements)
        raw = cut.pools(raw_bits(as_rows(x)))
        x32 = cut.pools(float_bits(as_rows(x).astype(jnp.float32)))
        if x.dtype == jnp.bfloat16:  # a shift, which keeps subnormals
            x32 = raw << 16
        is_nonzero = (raw & np.uint32(2 ** (8 * x.dtype.itemsize - 1) - 1)) != 0
        nonzeros = jnp.sum(is_nonzero, axis=-1, dtype=jnp.int32)
        is_dense = nonzeros * (32 * cut.words + cut.elements)[:, None] > (
            cut.group_elements * 32 * cut.words[:, None]
        )
        exact = is_exact(nonzeros, cut.words, x.dtype)
        is_dense &= ~exact[..., None]
        is_value = jnp.where(is_dense[..., None], cut.valid, is_nonzero)
        widths = widths_of(is_value, cut.words, x.dtype)
        code_bits = code_bits_of(widths.bits, is_dense)
        lo, step = scales_of(x32, is_nonzero, code_bits, is_dense)
        lo, step = (jnp.where(exact[..., None], 0, part) for part in (lo, step))
        codes = self._codes(x32, (lo, step), code_bits, is_dense, widths.rank, cut)
        codes = jnp.where(is_nonzero, codes + is_dense[..., None], 0).astype(jnp.uint32)
        top = (codes >> (code_bits - 1)[..., None].astype(jnp.uint32)) & 1
        bitmap = jnp.where(is_dense[..., None], top != 0, is_nonzero)
        below_top = (np.uint32(1) << (code_bits - 1).astype(jnp.uint32)) - 1
        codes = jnp.where(is_dense[..., None], codes & below_top[..., None], codes)
        stored = jnp.where(exact[..., None, None], raw, codes)
        payload = payload_of(stored, is_value, exact, widths, cut, x.dtype)
        signs = jnp.where(is_dense, SIGN, np.uint32(0))
        words = pack_bits(bitmap.reshape(count, -1, BLOCK))[:, : num_blocks(elements)]
        scales = [lo, bits_to_float(float_bits(step) | signs)]
        scales = [part.reshape(count, -1)[:, : cut.groups] for part in scales]
        values = payload.reshape(count, -1)[:, : sum(cut.words.tolist())]
        return join_parts([words, *scales, values])

    def mask_codec(self, dtype: Any) -> AbstractCodec:
        value_bits = 8 * jnp.dtype(dtype).itemsize
        return SparseMask(encoded=self, value_bits=value_bits, ways=self.ways)

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        read = self._read(rows, shape, dtype)
        lo, step = (bits_to_float(part) for part in (read.lo, read.step))
        levels = (read.codes - read.is_dense[..., None]).astype(jnp.float32)
        x = (lo[..., None] + levels * step[..., None]).astype(dtype)
        raw = taken(units_of(read.payload, dtype), read.number)
        found = jnp.where(read.exact[..., None, None], raw, raw_bits(x))
        found = jnp.where(read.is_zero, 0, found)
        found = found.reshape(read.rows, -1)[:, : read.elements]
        width = jnp.uint32 if jnp.dtype(dtype).itemsize == 4 else jnp.uint16
        return lax.bitcast_convert_type(found.astype(width), dtype).reshape(shape)

    def nonzeros_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        """Which elements are not zero, as booleans; `dtype`: of the encoded array."""
        read = self._read(rows, shape, dtype)
        nonzeros = ~read.is_zero.reshape(read.rows, -1)
        return nonzeros[:, : read.elements].reshape(shape)

    def _read(self, rows: jax.Array, shape: tuple[int, ...], dtype: Any) -> _Reading:
        count, elements = split_rows(shape)
        cut = self._cut(elements)
        parts = split_parts(rows, self._part_nbytes(elements))
        words, lo, step, values = (from_bytes(part, jnp.uint32) for part in parts)
        bits = unpack_bits(words).reshape(count, -1)[:, :elements]
        bitmap = cut.pools(bits) != 0
        lo, step = (cut.by_group(part) for part in (lo, step))
        is_dense = (step & SIGN) != 0
        nonzeros = jnp.sum(bitmap, axis=-1, dtype=jnp.int32)
        exact = is_exact(nonzeros, cut.words, dtype) & ~jnp.any(is_dense, axis=-1)
        is_value = jnp.where(is_dense[..., None], cut.valid, bitmap)
        widths = widths_of(is_value, cut.words, dtype)
        payload = cut.payload(values)
        codes = taken(unpacked(payload, widths, cut), widths.slot)
        top = (code_bits_of(widths.bits, is_dense) - 1).astype(jnp.uint32)
        high = bitmap.astype(jnp.uint32) << top[..., None]
        codes = jnp.where(is_dense[..., None], codes | high, codes).astype(jnp.int32)
        is_zero = jnp.where(is_dense[..., None], codes == 0, ~bitmap)
        return _Reading(
            rows=count,
            elements=elements,
            lo=lo,
            step=step & ~SIGN,
            payload=payload,
            number=widths.number,
            exact=exact,
            is_dense=is_dense,
            codes=codes,
            is_zero=is_zero,
        )

    def attributes(self) -> dict[str, Any]:
        """Of the kernels: what says how a row is cut."""
        return {
            "group_size": np.int64(self.group_size),
            "payload_nbytes": np.int64(self.payload_nbytes),
        }

    def _cut(self, row_elements: int) -> Cut:
        return Cut.of(row_elements, self.group_size, self.payload_nbytes)

    def _part_nbytes(self, row_elements: int) -> tuple[int, int, int, int]:
        scales = 4 * -(-row_elements // self.group_size)
        full, rest = divmod(row_elements, POOL)
        values = full * self.payload_nbytes + pool_nbytes(self.payload_nbytes, rest)
        return 4 * num_blocks(row_elements), scales, scales, values

    def _codes(
        self, x32: Any, scale: Any, code_bits: Any, is_dense: Any, rank: Any, cut: Cut
    ) -> jax.Array:
        """Codes counted from `lo`, int32, of the shape of `x32`."""
        lo, step = scale
        digits = jnp.minimum(16, 24 - code_bits)
        # 2^16 / (step * 2^(16 - digits)): the product is exact.
        exponent = (16 - digits).astype(jnp.uint32) << 23
        scaled = bits_to_float(float_bits(step) + exponent)
        inverse = inverse_step16(jnp.where(step == 0, np.float32(0), scaled))
        steps = (bits_to_float(normal_bits(x32)) - lo[..., None]) * inverse[..., None]
        steps = jnp.where((step == 0)[..., None], np.float32(0), steps)
        dither = self._dither16(lo, step, rank, cut) >> (16 - digits)[..., None]
        codes = (steps.astype(jnp.int32) + dither) >> digits[..., None]
        last = jnp.where(step == 0, 0, (1 << code_bits) - 1 - is_dense)
        return jnp.minimum(codes, last[..., None])

    def _dither16(
        self, lo: jax.Array, step: jax.Array, rank: jax.Array, cut: Cut
    ) -> jax.Array:
        if self.rounding == "nearest":
            return jnp.full(rank.shape, 1 << 15, jnp.int32)
        rows = np.arange(lo.shape[0], dtype=np.uint32)[:, None]
        group = np.arange(lo.shape[1] * lo.shape[2], dtype=np.uint32)
        number = jnp.asarray(rows * np.uint32(cut.groups) + group).reshape(lo.shape)
        rotated = (float_bits(step) << 16) | (float_bits(step) >> 16)
        key = mix((np.uint32(self.seed) ^ mix(number) ^ float_bits(lo)) + rotated)
        pair = (rank // BLOCK * 16 + rank % 16).astype(jnp.uint32)
        hashes = mix(key[..., None] + pair * np.uint32(0x9E3779B9))
        is_high = rank % BLOCK >= 16
        return jnp.where(is_high, hashes >> 16, hashes & 0xFFFF).astype(jnp.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseMask(AbstractCodec):
    """Reads from the rows of `encoded` which elements are not zero, NaN included.

    `value_bits`: of one element of the array that was encoded. Takes no array itself.
    """

    keeps_decision: ClassVar[bool] = True
    decode_fuses: ClassVar[bool] = False

    encoded: SparseFixedRate
    value_bits: int

    def accepts(self, dtype: Any) -> bool:
        return False

    def decoded_dtype(self, dtype: Any) -> Any:
        return jnp.bool_

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return self.encoded.row_nbytes(row_elements, dtype)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        return self.encoded.encode_reference(x)

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        attributes = {
            **self.encoded.attributes(),
            "value_bits": np.int64(self.value_bits),
        }
        return Kernel("epmc_sparse_fixed_rate_mask", attributes)

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        float_type = jnp.float32 if self.value_bits == 32 else jnp.bfloat16
        return self.encoded.nonzeros_reference(rows, shape, float_type)
