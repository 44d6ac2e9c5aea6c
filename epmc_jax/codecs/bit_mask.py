"""One bit per element."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._rows import (
    FLOATS,
    as_blocks,
    as_rows,
    from_bytes,
    join_parts,
    num_blocks,
    pack_bits,
    split_parts,
    unpack_bits,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitMask(AbstractCodec):
    """Keeps booleans, or `x > 0` of floats, in 1 bit per element.

    That is all the gradient of ReLU needs. Decodes to booleans, exactly; NaN counts as
    False, a subnormal number as positive. A row of `n` elements is `ceil(n / 32)`
    little endian 32-bit words, element i of a block in bit i, padded to a multiple of
    16 bytes.
    """

    keeps_decision: ClassVar[bool] = True
    encode_fuses: ClassVar[bool] = True

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS | {"bool"}

    def decoded_dtype(self, dtype: Any) -> Any:
        return jnp.bool_

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return round16(4 * num_blocks(row_elements))

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_bit_mask_encode")

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_bit_mask_decode")

    def encode_reference(self, x: jax.Array) -> jax.Array:
        return join_parts([pack_bits(as_blocks(as_rows(_is_set(x))))])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        count, row_elements = split_rows(shape)
        (part,) = split_parts(rows, [4 * num_blocks(row_elements)])
        bits = unpack_bits(from_bytes(part, jnp.uint32)).reshape(count, -1)
        return (bits[:, :row_elements] != 0).reshape(shape).astype(dtype)


def _is_set(x: jax.Array) -> jax.Array:
    if x.dtype == jnp.bool_:
        return x
    # By the bits: whether a subnormal number is above 0 depends on the processor's
    # mode.
    width = jnp.int32 if x.dtype == jnp.float32 else jnp.int16
    bits = lax.bitcast_convert_type(x, width)
    inf = lax.bitcast_convert_type(jnp.array(jnp.inf, x.dtype), width)
    return (bits > 0) & (bits <= inf)
