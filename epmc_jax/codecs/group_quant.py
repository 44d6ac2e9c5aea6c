"""Groups of neighbours, quantised between their smallest and largest element."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._quantize import (
    EXPONENT,
    MAX_RANGE,
    MIN_RANGE,
    dither16,
    flushed,
    group_keys,
    inverse_step16,
)
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
    pack_fields,
    split_parts,
    unpack_bits,
    unpack_fields,
)

_BIT_WIDTHS = (1, 2, 3, 4, 8)
_MAX_GROUP_SIZE = 1024
_MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupQuant(AbstractCodec):
    """Keeps `w = bit_width` bits per element, one scale per `group_size` neighbours.

    A row of `n` elements in `g = ceil(n / group_size)` groups is `codes`
    (`4 * w * ceil(n / 32)` bytes), `lo` (float32[g]) and `step` (float32[g]), each
    padded to a multiple of 16 bytes; an element decodes to `lo + code * step`. With 3
    bits `codes` is two such parts: the lower two bits of all codes, then the third.

    Error: at most `step / 2` per element with `rounding="nearest"`, below `step` with
    `"stochastic"`, which is unbiased (both up to 2^-16 of a step), and rounding to the
    array's dtype; `step` is the range of the group over `2^w - 1`. A group with a NaN,
    an infinity, or a range above 2^126 decodes to NaN, so that the gradient shows it. A
    group with a range below 2^-100 decodes to its smallest element.

    The dither of stochastic rounding is a hash of `seed`, the number of the group
    within the array, and its scale: the same array has the same bytes. Under `jax.vmap`
    groups are numbered through the whole batch.

    Takes float32, bfloat16 and float16. Raises: `ValueError` for parameters out of
    range. Reference: Chen et al., ActNN, 2021, arXiv:2104.14129.
    """

    exact: ClassVar[bool] = False
    preserves_zero: ClassVar[bool] = False

    bit_width: int = 8
    group_size: int = 256
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.bit_width not in _BIT_WIDTHS:
            raise ValueError(
                f"bit_width must be 1, 2, 3, 4 or 8, got {self.bit_width}: other codes "
                "would straddle bytes. Round up: 5..7 -> 8."
            )
        size = self.group_size
        if size % BLOCK or not BLOCK <= size <= _MAX_GROUP_SIZE:
            raise ValueError(
                f"group_size must be a multiple of {BLOCK} from {BLOCK} to "
                f"{_MAX_GROUP_SIZE}, got {size}: codes are packed in blocks of {BLOCK}."
            )
        if self.rounding not in ("nearest", "stochastic"):
            raise ValueError(
                f'rounding must be "nearest" or "stochastic", got {self.rounding!r}.'
            )
        if not 0 <= self.seed <= _MAX_SEED:
            raise ValueError(f"seed must be from 0 to 2**32 - 1, got {self.seed}.")

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return sum(round16(nbytes) for nbytes in self._part_nbytes(row_elements))

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        attributes = {
            "bit_width": np.int64(self.bit_width),
            "group_size": np.int64(self.group_size),
            "is_stochastic": self.rounding == "stochastic",
            "seed": np.int64(self.seed),
        }
        return Kernel("epmc_group_quant_encode", attributes)

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        attributes = {
            "bit_width": np.int64(self.bit_width),
            "group_size": np.int64(self.group_size),
        }
        return Kernel("epmc_group_quant_decode", attributes)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        rows = as_rows(x)
        elements = rows.shape[1]
        groups, valid = self._as_groups(flushed(rows))
        lo, step = self._scales(groups, valid)
        inv16 = inverse_step16(step)
        steps16 = ((groups - lo[..., None]) * inv16[..., None]).astype(jnp.int32)
        codes = (steps16 + self._dither16(lo, step)) >> 16
        codes = jnp.minimum(codes, 2**self.bit_width - 1)
        codes = jnp.where(valid & (step != 0)[..., None], codes, 0)
        codes = codes.reshape(rows.shape[0], -1)[:, : num_blocks(elements) * BLOCK]
        return join_parts([*self._pack(codes.astype(jnp.uint8)), lo, step])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        count, elements = split_rows(shape)
        *packed, lo, step = split_parts(rows, self._part_nbytes(elements))
        codes = self._unpack(packed).reshape(count, -1)[:, :elements]
        groups, _ = self._as_groups(codes.astype(jnp.float32))
        lo = from_bytes(lo, jnp.float32)[..., None]
        step = from_bytes(step, jnp.float32)[..., None]
        x = (lo + groups * step).reshape(count, -1)[:, :elements]
        return x.reshape(shape).astype(dtype)

    def for_site(self, site_hash: int) -> GroupQuant:
        """Each site rounds with a dither of its own, the same in every run."""
        return dataclasses.replace(self, seed=self.seed ^ site_hash)

    # The top bit of an odd number of bits is in a plane, the bits below it in fields.
    @property
    def _plane_bits(self) -> int:
        return self.bit_width % 2

    @property
    def _field_bits(self) -> int:
        return self.bit_width - self._plane_bits

    def _part_nbytes(self, row_elements: int) -> list[int]:
        plane = 4 * num_blocks(row_elements)
        scales = 4 * -(-row_elements // self.group_size)
        bits_of_parts = filter(None, (self._field_bits, self._plane_bits))
        return [*(plane * bits for bits in bits_of_parts), scales, scales]

    def _as_groups(self, rows: jax.Array) -> tuple[jax.Array, np.ndarray]:
        """[rows, elements] as [rows, groups, group_size], and which of them exist."""
        count, elements = rows.shape
        groups = -(-elements // self.group_size)
        padding = groups * self.group_size - elements
        padded = jnp.pad(rows, ((0, 0), (0, padding)))
        valid = np.arange(groups * self.group_size) < elements
        shape = (groups, self.group_size)
        return padded.reshape(count, *shape), valid.reshape(shape)

    def _scales(self, groups: jax.Array, valid: np.ndarray) -> tuple[Any, Any]:
        lo = jnp.min(jnp.where(valid, groups, jnp.inf), axis=-1)
        hi = jnp.max(jnp.where(valid, groups, -jnp.inf), axis=-1)
        finite = jnp.all((float_bits(groups) & EXPONENT) != EXPONENT, axis=-1)
        span = hi - lo
        is_nan = ~(finite & (span <= MAX_RANGE))
        # XLA divides by multiplying with a reciprocal where it sees fit: the constant
        # is multiplied here, so that there is one rounding everywhere.
        bits = float_bits(span * np.float32(1 / (2**self.bit_width - 1)))
        step = bits_to_float((bits + np.uint32(0xFF)) & ~np.uint32(0xFF))
        step = jnp.where(is_nan | (span < MIN_RANGE), np.float32(0), step)
        return jnp.where(is_nan, np.float32(np.nan), lo), step

    def _dither16(self, lo: jax.Array, step: jax.Array) -> jax.Array:
        """Dither in 2^-16 of a step: [rows, groups, group_size], or one number."""
        if self.rounding == "nearest":
            return jnp.int32(1 << 15)
        return dither16(group_keys(self.seed, lo, step), self.group_size)

    def _pack(self, codes: jax.Array) -> list[jax.Array]:
        """Codes uint8 [rows, blocks * 32] as the parts that keep them."""
        parts = []
        if self._field_bits:
            fields = codes & np.uint8(2**self._field_bits - 1)
            parts.append(pack_fields(fields, self._field_bits))
        if self._plane_bits:
            blocks = codes.reshape(codes.shape[0], -1, BLOCK)
            parts.append(pack_bits(blocks >> np.uint8(self._field_bits)))
        return parts

    def _unpack(self, parts: Sequence[jax.Array]) -> jax.Array:
        """The parts of `_pack` as codes uint8 [rows, blocks * 32]."""
        codes = jnp.zeros((), jnp.uint8)
        if self._field_bits:
            codes = unpack_fields(parts[0], self._field_bits)
        if self._plane_bits:
            bits = unpack_bits(from_bytes(parts[-1], jnp.uint32)).astype(jnp.uint8)
            bits = bits.reshape(bits.shape[0], -1)
            codes = codes | bits << np.uint8(self._field_bits)
        return codes
