"""No encoding: the bytes as they are."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from epmc_jax._codec import AbstractCodec, round16, split_rows
from epmc_jax.codecs._rows import as_rows, from_bytes, join_parts, split_parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Raw(AbstractCodec):
    """Keeps an array as it is, each row padded to a multiple of 16 bytes.

    Takes any dtype of whole bytes: booleans (a byte each), integers, floats, complex.
    """

    def accepts(self, dtype: Any) -> bool:
        dtype = jnp.dtype(dtype)
        whole = dtype == jnp.bool_ or jnp.issubdtype(dtype, jnp.complexfloating)
        return whole or jax.dtypes.itemsize_bits(dtype) % 8 == 0

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return round16(row_elements * jnp.dtype(dtype).itemsize)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        rows = as_rows(x)
        if x.dtype == jnp.bool_:
            rows = rows.astype(jnp.uint8)
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            rows = jnp.stack([rows.real, rows.imag], axis=-1)
        return join_parts([rows])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        dtype = jnp.dtype(dtype)
        _, row_elements = split_rows(shape)
        (part,) = split_parts(rows, [row_elements * dtype.itemsize])
        if dtype == jnp.bool_:
            return (part != 0).reshape(shape)
        if jnp.issubdtype(dtype, jnp.complexfloating):
            real = jnp.finfo(dtype).dtype
            pairs = from_bytes(part, real).reshape(*shape, 2)
            return lax.complex(pairs[..., 0], pairs[..., 1])
        return from_bytes(part, dtype).reshape(shape)
