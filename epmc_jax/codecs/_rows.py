"""Pieces of the references: arrays as rows, blocks of 32, parts of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import round16, split_rows

BLOCK = 32
FLOATS = frozenset({"float32", "bfloat16", "float16"})


def num_blocks(row_elements: int) -> int:
    """Blocks of 32 elements in a row, the last one padded."""
    return -(-row_elements // BLOCK)


def as_rows(x: jax.Array) -> jax.Array:
    """`x` as [rows, elements]."""
    return x.reshape(split_rows(x.shape))


def as_blocks(rows: jax.Array) -> jax.Array:
    """[rows, elements] as [rows, blocks, 32], padded with zeros."""
    count, elements = rows.shape
    blocks = num_blocks(elements)
    padded = jnp.pad(rows, ((0, 0), (0, blocks * BLOCK - elements)))
    return padded.reshape(count, blocks, BLOCK)


def pack_bits(bits: jax.Array) -> jax.Array:
    """Booleans [..., 32] as uint32 [...]: element i is bit i."""
    shifts = jnp.arange(BLOCK, dtype=jnp.uint32)
    return jnp.sum(bits.astype(jnp.uint32) << shifts, axis=-1, dtype=jnp.uint32)


def unpack_bits(words: jax.Array) -> jax.Array:
    """uint32 [...] as [..., 32] zeros and ones."""
    shifts = jnp.arange(BLOCK, dtype=jnp.uint32)
    return (words[..., None] >> shifts) & jnp.uint32(1)


def pack_fields(codes: jax.Array, bit_width: int) -> jax.Array:
    """Codes uint8 [rows, blocks * 32] as uint8 [rows, bytes]; 2, 4 or 8 bits each.

    A byte has the codes of elements that are `4 * bit_width` apart.
    """
    per_byte = 8 // bit_width
    parts = codes.reshape(codes.shape[0], -1, per_byte, BLOCK // per_byte)
    packed = jnp.sum(parts << _field_shifts(bit_width), axis=2, dtype=jnp.uint8)
    return packed.reshape(codes.shape[0], -1)


def unpack_fields(packed: jax.Array, bit_width: int) -> jax.Array:
    """uint8 [rows, bytes] as codes uint8 [rows, blocks * 32]."""
    per_byte = 8 // bit_width
    parts = packed.reshape(packed.shape[0], -1, 1, BLOCK // per_byte)
    codes = (parts >> _field_shifts(bit_width)) & np.uint8(2**bit_width - 1)
    return codes.reshape(packed.shape[0], -1)


def _field_shifts(bit_width: int) -> np.ndarray:
    shifts = np.arange(8 // bit_width, dtype=np.uint8) * np.uint8(bit_width)
    return shifts[:, None]


def to_bytes(part: jax.Array) -> jax.Array:
    """An array [rows, ...] as uint8 [rows, bytes], little endian."""
    if part.dtype != jnp.uint8:
        part = lax.bitcast_convert_type(part, jnp.uint8)
    return part.reshape(part.shape[0], -1)


def from_bytes(part: jax.Array, dtype: Any) -> jax.Array:
    """uint8 [rows, bytes] as `dtype` [rows, values]."""
    dtype = jnp.dtype(dtype)
    if dtype == jnp.uint8:
        return part
    split = part.reshape(part.shape[0], -1, dtype.itemsize)
    return lax.bitcast_convert_type(split if dtype.itemsize > 1 else part, dtype)


def join_parts(parts: Sequence[jax.Array]) -> jax.Array:
    """Parts as one row of bytes each, every part padded to a multiple of 16."""
    padded = []
    for part in map(to_bytes, parts):
        nbytes = part.shape[1]
        padded.append(jnp.pad(part, ((0, 0), (0, round16(nbytes) - nbytes))))
    return jnp.concatenate(padded, axis=1)


def split_parts(rows: jax.Array, part_nbytes: Sequence[int]) -> list[jax.Array]:
    """The parts that `join_parts` joined, by their sizes without padding."""
    parts = []
    start = 0
    for nbytes in part_nbytes:
        parts.append(rows[:, start : start + nbytes])
        start += round16(nbytes)
    return parts


def float_bits(x: jax.Array) -> jax.Array:
    """The bits of float32 `x` as uint32."""
    return lax.bitcast_convert_type(x, jnp.uint32)


def bits_to_float(bits: jax.Array) -> jax.Array:
    """uint32 bits as float32."""
    return lax.bitcast_convert_type(bits, jnp.float32)


def pack_planes(values: jax.Array, bit_width: int) -> jax.Array:
    """Integers [..., 32] as uint32 [..., bit_width]: word k has bit k of all 32."""
    values = values.astype(jnp.uint32)
    planes = [pack_bits((values >> k) & jnp.uint32(1)) for k in range(bit_width)]
    return jnp.stack(planes, axis=-1)


def unpack_planes(planes: jax.Array) -> jax.Array:
    """uint32 [..., bit_width] as uint32 values [..., 32]."""
    bits = unpack_bits(planes)
    shifts = jnp.arange(planes.shape[-1], dtype=jnp.uint32)[:, None]
    return jnp.sum(bits << shifts, axis=-2, dtype=jnp.uint32)
