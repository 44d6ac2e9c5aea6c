"""Small integers in as many bits as they need."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._rows import (
    as_blocks,
    as_rows,
    from_bytes,
    join_parts,
    num_blocks,
    pack_planes,
    split_parts,
    unpack_planes,
)

INTEGERS = frozenset({"int8", "uint8", "int16", "uint16", "int32", "uint32"})
_MAX_VALUES = 2**32


def bits_for(num_values: int) -> int:
    """Bits that tell `num_values` values apart; at least 1."""
    return max(1, (num_values - 1).bit_length())


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntPack(AbstractCodec):
    """Keeps integers from 0 to `num_values - 1` in `w = bits_for(num_values)` bits.

    Exact for values in that range; of others, negative ones included, the lowest `w`
    bits are kept, zeros where the type has fewer. Takes integers of 8 to 32 bits. A row
    of `n` elements is `ceil(n / 32)` blocks of `w` little endian 32-bit words: bit i of
    word k is bit k of element i. Rows are padded to 16 bytes. Raises: `ValueError` if
    `num_values` is not from 1 to 2^32.
    """

    keeps_decision: ClassVar[bool] = True

    num_values: int

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.num_values <= _MAX_VALUES:
            raise ValueError(
                f"num_values must be from 1 to 2**32, got {self.num_values}: it is the "
                "largest value plus 1. Raw() keeps integers of any range."
            )

    @property
    def bit_width(self) -> int:
        """Bits of one element."""
        return bits_for(self.num_values)

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in INTEGERS

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return round16(4 * self.bit_width * num_blocks(row_elements))

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_int_pack_encode", {"bit_width": np.int64(self.bit_width)})

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_int_pack_decode", {"bit_width": np.int64(self.bit_width)})

    def encode_reference(self, x: jax.Array) -> jax.Array:
        # As unsigned integers first: converted, a negative number gets more bits.
        bits = lax.bitcast_convert_type(x, jnp.dtype(f"uint{8 * x.dtype.itemsize}"))
        return join_parts([pack_planes(as_blocks(as_rows(bits)), self.bit_width)])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        return unpack_rows(rows, shape, self.bit_width).astype(dtype)


def unpack_rows(rows: jax.Array, shape: tuple[int, ...], bit_width: int) -> jax.Array:
    """The uint32 values of `shape` in rows of bit planes."""
    count, row_elements = split_rows(shape)
    blocks = num_blocks(row_elements)
    (part,) = split_parts(rows, [4 * bit_width * blocks])
    planes = from_bytes(part, jnp.uint32).reshape(count, blocks, bit_width)
    values = unpack_planes(planes).reshape(count, -1)
    return values[:, :row_elements].reshape(shape)
