"""Compressed sparse rows: what sparse residuals are usually compared with."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16, split_rows
from epmc_jax.codecs._rows import FLOATS, as_rows, from_bytes, join_parts, split_parts

_COUNT_NBYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Csr(AbstractCodec):
    """Keeps the nonzero elements of each row and their indices: for benchmarks.

    The baseline that sparse encodings are compared with. A row of `n` elements has room
    for `C = ceil(capacity * n)` of them: their number (uint32), their indices in
    ascending order (uint8 for `n` up to 256, uint16 up to 65536, else uint32), and
    their bits, each part padded to a multiple of 16 bytes; unused places are 0.

    Exact as long as no row has more than `C` nonzero elements, up to the sign of zeros;
    a row that has more decodes to NaN in every element, so that the gradient shows it.
    NaN and subnormal numbers are nonzero. Rows, not parts of rows, are spread over
    threads.

    Takes float32, bfloat16 and float16. Raises: `ValueError` if `capacity` is not above
    0 and at most 1.
    """

    exact: ClassVar[bool] = False
    decode_fuses: ClassVar[bool] = False

    capacity: float

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.capacity <= 1:
            raise ValueError(
                f"capacity must be above 0 and at most 1, got {self.capacity}: it is "
                "the largest fraction of a row that is not zero. 1 keeps any row."
            )

    @staticmethod
    def wide_nbytes(rows: int, nonzeros: int) -> int:
        """Bytes of the usual CSR: float32 values, int32 indices, int32 row starts."""
        return 8 * nonzeros + 4 * (rows + 1)

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return sum(round16(n) for n in self._part_nbytes(row_elements, dtype))

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_csr_encode", {"capacity": np.float64(self.capacity)})

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_csr_decode", {"capacity": np.float64(self.capacity)})

    def encode_reference(self, x: jax.Array) -> jax.Array:
        bits = lax.bitcast_convert_type(as_rows(x), _word(x.dtype))
        count, elements = bits.shape
        is_kept = (bits << 1) != 0
        place = jnp.cumsum(is_kept, axis=1) - 1
        room = self._room(elements)
        to = (np.arange(count)[:, None], jnp.where(is_kept, place, room))
        index_dtype = _index_dtype(elements)
        element = jnp.broadcast_to(jnp.arange(elements).astype(index_dtype), bits.shape)
        indices = jnp.zeros((count, room), index_dtype).at[to].set(element, mode="drop")
        values = jnp.zeros((count, room), bits.dtype).at[to].set(bits, mode="drop")
        numbers = jnp.sum(is_kept, axis=1, keepdims=True, dtype=jnp.uint32)
        return join_parts([numbers, indices, values])

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        count, elements = split_rows(shape)
        parts = split_parts(rows, self._part_nbytes(elements, dtype))
        number = from_bytes(parts[0], jnp.uint32)
        index = from_bytes(parts[1], _index_dtype(elements)).astype(jnp.uint32)
        values = from_bytes(parts[2], _word(dtype))
        room = self._room(elements)
        is_valid = (np.arange(room, dtype=np.uint32) < number) & (index < elements)
        at = (np.arange(count)[:, None], jnp.where(is_valid, index, elements))
        bits = (
            jnp.zeros((count, elements), values.dtype).at[at].set(values, mode="drop")
        )
        x = lax.bitcast_convert_type(bits, dtype)
        return jnp.where(number > room, jnp.array(jnp.nan, dtype), x).reshape(shape)

    def _room(self, row_elements: int) -> int:
        return math.ceil(self.capacity * row_elements)

    def _part_nbytes(self, row_elements: int, dtype: Any) -> tuple[int, int, int]:
        room = self._room(row_elements)
        index_nbytes = np.dtype(_index_dtype(row_elements)).itemsize
        return _COUNT_NBYTES, index_nbytes * room, jnp.dtype(dtype).itemsize * room


def _index_dtype(row_elements: int) -> Any:
    if row_elements <= 2**8:
        return np.uint8
    return np.uint16 if row_elements <= 2**16 else np.uint32


def _word(dtype: Any) -> Any:
    return np.uint32 if jnp.dtype(dtype).itemsize == 4 else np.uint16
