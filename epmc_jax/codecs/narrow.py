"""Floats with fewer bits: bfloat16, or 8 bits with a power of two per group."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._rows import (
    BLOCK,
    FLOATS,
    as_rows,
    bits_to_float,
    float_bits,
    from_bytes,
    join_parts,
    split_parts,
)

_MAX_GROUP_SIZE = 1024
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_EXPONENT = np.uint32(0x7F800000)
_QUIET_NAN = np.uint32(0x7FC00000)
_SIGN = np.uint32(0x80000000)
_FLOAT_MANTISSA_BITS = 23
_FLOAT_BIAS = 127


@dataclasses.dataclass(frozen=True)
class _Float8:
    """A format of 8 bits, and when a number rounds to its largest finite value."""

    mantissa_bits: int
    bias: int
    top_exponent: int
    # The largest mantissa, in the 23 bits of a float32, with which a number of the top
    # binade still rounds to the largest finite value.
    top_mantissa: int
    infinity: int  # the code; that of NaN if there is no infinity
    nan: int

    @property
    def min_exponent(self) -> int:
        """With a smaller one, a value would decode to less than 2^-126."""
        return self.bias + self.mantissa_bits

    @property
    def shift(self) -> int:
        """From the mantissa of a float32 to that of this format."""
        return _FLOAT_MANTISSA_BITS - self.mantissa_bits

    @property
    def least(self) -> int:
        """The smallest normal value as the bits of a float32."""
        return (_FLOAT_BIAS + 1 - self.bias) << _FLOAT_MANTISSA_BITS


_FLOAT8S = {
    # 448 = 1.75 * 2^8; 464 = 1.8125 * 2^8 is a tie, and rounds to it.
    "float8_e4m3fn": _Float8(3, 7, 8, 0x680000, 0x7F, 0x7F),
    # 57344 = 1.75 * 2^15; 61440 = 1.875 * 2^15 is a tie, and rounds away from it.
    "float8_e5m2": _Float8(2, 15, 15, 0x6FFFFF, 0x7C, 0x7E),
}
_MANTISSA_BITS = {"bfloat16": 7, "float8_e4m3fn": 3, "float8_e5m2": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Narrow(AbstractCodec):
    """Keeps floats as narrower ones, `dtype`: bfloat16, float8_e4m3fn or float8_e5m2.

    bfloat16: a row of `n` elements is `n` values, rounded to nearest, ties to even;
    what rounds above 3.39e38 is infinite. `group_size` is not used. Error: at most 2^-8
    of the element, and as much of 2^-126 near 0.

    8 bits: each `group_size` neighbours are divided by a power of two, the smallest by
    which their largest finite magnitude `m` does not round to more than the format's
    largest value (448, or 57344). A row in `g = ceil(n / group_size)` groups is
    `values` (`n` bytes) and `exponents` (`g` bytes, a power each, as the scales E8M0 of
    the OCP Microscaling formats), each part padded to a multiple of 16 bytes. Error: at
    most 2^-4 of the element (e4m3fn) or 2^-3 (e5m2), near 0 at most `m * 2^-17`
    (`m * 2^-31`) or 2^-126, and rounding to the array's dtype. Of normal numbers that
    is 2.6 % (5.3 %) for groups of any size; 256 cost 0.03 bits per element, and an
    outlier takes precision from few.

    The sign is kept, of zeros too. NaN stays NaN in its place, and an infinity an
    infinity, except in e4m3fn, which has none: it decodes to NaN, so that the gradient
    shows it. Neither changes its neighbours. A finite element decodes to a finite one:
    what rounding carries beyond the array's dtype is its largest number.

    Takes float32, bfloat16 and float16 (of which bfloat16 saves nothing). Raises:
    `ValueError` for parameters out of range. References: Micikevicius et al., FP8
    Formats for Deep Learning, 2022, arXiv:2209.05433; OCP Microscaling Formats (MX)
    Specification 1.0, 2023.
    """

    exact: ClassVar[bool] = False

    dtype: Literal["bfloat16", "float8_e4m3fn", "float8_e5m2"]
    group_size: int = 256

    def __post_init__(self):
        super().__post_init__()
        if self.dtype not in _MANTISSA_BITS:
            raise ValueError(
                f"dtype must be one of {', '.join(_MANTISSA_BITS)}, got "
                f"{self.dtype!r}. GroupQuant keeps 1 to 4 or 8 bits as integers."
            )
        size = self.group_size
        if size % BLOCK or not BLOCK <= size <= _MAX_GROUP_SIZE:
            raise ValueError(
                f"group_size must be a multiple of {BLOCK} from {BLOCK} to "
                f"{_MAX_GROUP_SIZE}, got {size}: a warp of {BLOCK} threads takes a "
                "group."
            )

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return sum(round16(nbytes) for nbytes in self._part_nbytes(row_elements))

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_narrow_encode", self._attributes())

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_narrow_decode", self._attributes())

    def encode_reference(self, x: jax.Array) -> jax.Array:
        rows = as_rows(x)
        if self.dtype == "bfloat16":
            return join_parts([_to_bfloat16(rows)])
        float8 = _FLOAT8S[self.dtype]
        bits = self._as_groups(_widened(rows))
        magnitude = bits & _MAGNITUDE
        finite = jnp.where(magnitude < _EXPONENT, magnitude, np.uint32(0))
        exponents = _exponents(float8, jnp.max(finite, axis=-1))
        codes = _encode(float8, bits, exponents[..., None])
        codes = codes.reshape(rows.shape[0], -1)[:, : rows.shape[1]]
        return join_parts([codes, exponents.astype(jnp.uint8)])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        count, elements = split_rows(shape)
        parts = split_parts(rows, self._part_nbytes(elements))
        if self.dtype == "bfloat16":
            return _from_bfloat16(parts[0], dtype).reshape(shape)
        codes = self._as_groups(parts[0].astype(jnp.uint32))
        exponents = parts[1].astype(jnp.int32)[..., None]
        bits = _decode(_FLOAT8S[self.dtype], codes, exponents, dtype)
        bits = bits.reshape(count, -1)[:, :elements]
        return _narrowed(bits, dtype).reshape(shape)

    def _attributes(self) -> dict[str, Any]:
        return {
            "mantissa_bits": np.int64(_MANTISSA_BITS[self.dtype]),
            "group_size": np.int64(self.group_size),
        }

    def _part_nbytes(self, row_elements: int) -> tuple[int, ...]:
        if self.dtype == "bfloat16":
            return (2 * row_elements,)
        return row_elements, -(-row_elements // self.group_size)

    def _as_groups(self, rows: jax.Array) -> jax.Array:
        """[rows, elements] as [rows, groups, group_size], padded with zeros."""
        count, elements = rows.shape
        groups = -(-elements // self.group_size)
        padding = groups * self.group_size - elements
        padded = jnp.pad(rows, ((0, 0), (0, padding)))
        return padded.reshape(count, groups, self.group_size)


def _exponents(float8: _Float8, largest: jax.Array) -> jax.Array:
    """The exponent byte E of each group, int32, from its largest finite magnitude.

    What carries into the exponent would round beyond the format's largest value.
    """
    carry = np.uint32(0x7FFFFF - float8.top_mantissa)
    exponents = ((largest + carry) >> _FLOAT_MANTISSA_BITS).astype(jnp.int32)
    return jnp.maximum(exponents - float8.top_exponent, float8.min_exponent)


def _encode(float8: _Float8, bits: jax.Array, exponents: jax.Array) -> jax.Array:
    """The codes of floats; a sum rounds them to nearest, ties to even.

    The sum is with the power of two whose unit is that of the number's binade, or of
    the subnormal values. Products with powers of two are exact, fused or not.
    """
    inverse = bits_to_float(
        (2 * _FLOAT_BIAS - exponents).astype(jnp.uint32) << _FLOAT_MANTISSA_BITS
    )
    magnitude = bits & _MAGNITUDE
    # Processors differ in whether a subnormal number is one.
    normal = jnp.where((magnitude & _EXPONENT) == 0, np.uint32(0), magnitude)
    y = bits_to_float(normal) * inverse
    binade = jnp.maximum(float_bits(y) & _EXPONENT, np.uint32(float8.least))
    power = binade + np.uint32(float8.shift << _FLOAT_MANTISSA_BITS)
    units = float_bits(y + bits_to_float(power)) - power
    codes = ((binade - np.uint32(float8.least)) >> float8.shift) + units
    nan, infinity = np.uint32(float8.nan), np.uint32(float8.infinity)
    special = jnp.where(magnitude > _EXPONENT, nan, infinity)
    codes = jnp.where(magnitude < _EXPONENT, codes, special)
    return (((bits >> 24) & np.uint32(0x80)) | codes).astype(jnp.uint8)


def _decode(
    float8: _Float8, codes: jax.Array, exponents: jax.Array, dtype: Any
) -> jax.Array:
    """The bits of float32 numbers, none of them finite beyond `dtype`."""
    # No encoder writes an exponent outside.
    exponents = jnp.clip(exponents, float8.min_exponent, 254)
    scale = bits_to_float(exponents.astype(jnp.uint32) << _FLOAT_MANTISSA_BITS)
    magnitude = codes & np.uint32(0x7F)
    shifted = magnitude << float8.shift
    least = np.uint32(float8.least)
    subnormal = bits_to_float(shifted + least) - least.view(np.float32)
    normal = bits_to_float(shifted + (least - np.uint32(0x800000)))
    value = jnp.where(shifted < np.uint32(0x800000), subnormal, normal)
    bits = jnp.minimum(float_bits(value * scale), _largest(dtype))
    has_infinity = float8.infinity != float8.nan
    is_infinite = has_infinity & (magnitude == float8.infinity)
    special = jnp.where(is_infinite, _EXPONENT, _QUIET_NAN)
    bits = jnp.where(magnitude < float8.infinity, bits, special)
    return ((codes & np.uint32(0x80)) << 24) | bits


def _largest(dtype: Any) -> np.uint32:
    """The largest finite number of `dtype` as the bits of a float32."""
    return np.float32(jnp.finfo(dtype).max).view(np.uint32)


def _widened(x: jax.Array) -> jax.Array:
    """`x` as the bits of float32, uint32."""
    if x.dtype == jnp.bfloat16:
        return lax.bitcast_convert_type(x, jnp.uint16).astype(jnp.uint32) << 16
    return float_bits(x.astype(jnp.float32))


def _narrowed(bits: jax.Array, dtype: Any) -> jax.Array:
    """The bits of float32 as numbers of `dtype`."""
    return bits_to_float(bits).astype(dtype)


def _to_bfloat16(x: jax.Array) -> jax.Array:
    """Rounded by the bits: processors differ in what becomes of NaN."""
    if x.dtype == jnp.bfloat16:
        return x
    bits = _widened(x)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16
    is_nan = (bits & _MAGNITUDE) > _EXPONENT
    bits = jnp.where(is_nan, (bits >> 16) | np.uint32(0x40), rounded)
    return bits.astype(jnp.uint16)


def _from_bfloat16(part: jax.Array, dtype: Any) -> jax.Array:
    if jnp.dtype(dtype) == jnp.bfloat16:
        return from_bytes(part, dtype)
    bits = from_bytes(part, jnp.uint16).astype(jnp.uint32) << 16
    magnitude, largest = bits & _MAGNITUDE, _largest(dtype)
    is_beyond = (magnitude > largest) & (magnitude < _EXPONENT)
    return _narrowed(jnp.where(is_beyond, (bits & _SIGN) | largest, bits), dtype)
