"""Which element of its window a max-pool selects."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec, Kernel, round16
from epmc_jax.codecs._rows import (
    FLOATS,
    as_blocks,
    as_rows,
    join_parts,
    num_blocks,
    pack_planes,
)
from epmc_jax.codecs.int_pack import bits_for, unpack_rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolIndex(AbstractCodec):
    """Keeps, for each result of a max-pool, the place of the maximum in its window.

    `window`, `strides`, `padding`: one entry per axis, as `jax.lax.reduce_window` takes
    them. The place is the row-major index in the window of the element that XLA's
    gradient selects: the first inside the array, replaced by a later one unless `>=`
    holds. Encodes the operand of the pool; decodes to the indices, uint8 (int32 for
    windows above 256), in the shape of the result. 2 bits for a window of 2 x 2.

    Takes float32, bfloat16 and float16. A row has the layout of `IntPack` with
    `num_values` the size of the window. Raises: `ValueError` if the parameters do not
    have one positive entry per axis.
    """

    keeps_decision: ClassVar[bool] = True

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]

    def __post_init__(self):
        super().__post_init__()
        sizes = {len(self.window), len(self.strides), len(self.padding)}
        if len(sizes) != 1 or min((*self.window, *self.strides), default=1) < 1:
            raise ValueError(
                "window, strides and padding must have one entry per axis, the first "
                f"two positive; got {self.window}, {self.strides}, {self.padding}. "
                "Axes without pooling have window 1, stride 1 and padding (0, 0)."
            )
        if self.ways > 1:
            raise ValueError(
                f"ways must be 1 for PoolIndex, got {self.ways}: leave it out, the "
                "rows of a max-pool are those of its first axis."
            )

    @property
    def bit_width(self) -> int:
        """Bits of one index."""
        return bits_for(math.prod(self.window))

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype).name in FLOATS

    def decoded_dtype(self, dtype: Any) -> Any:
        return jnp.uint8 if math.prod(self.window) <= 256 else jnp.int32

    def decoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != len(self.window):
            raise ValueError(
                f"{self} pools {len(self.window)} axes, the array has shape {shape}: "
                "give window, strides and padding for every axis."
            )
        axes = zip(shape, self.window, self.strides, self.padding, strict=True)
        return tuple(max(0, (n + lo + hi - w) // s + 1) for n, w, s, (lo, hi) in axes)

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return round16(4 * self.bit_width * num_blocks(row_elements))

    def merges_rows(self, shape: tuple[int, ...]) -> bool:
        first = (self.window[:1], self.strides[:1], self.padding[:1])
        return len(shape) >= 2 and first == ((1,), (1,), ((0, 0),))

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        return Kernel("epmc_int_pack_decode", {"bit_width": np.int64(self.bit_width)})

    def pool_kernel(self, target: str) -> Kernel | None:
        """The native kernel `target` for this window, None if it is not of that kind.

        The kernels pool one to three axes between a batch and a channel axis, with an
        index of at most one byte.
        """
        axes = list(zip(self.window, self.strides, self.padding, strict=True))
        if not 3 <= len(axes) <= 5 or math.prod(self.window) > 256:
            return None
        if not axes[0] == axes[-1] == (1, 1, (0, 0)):
            return None
        attributes = {
            "window": np.array(self.window, np.int64),
            "strides": np.array(self.strides, np.int64),
            "padding": np.array([low for low, _ in self.padding], np.int64),
        }
        return Kernel(target, attributes)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        return pack_indices(self, self.select(x))

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        return unpack_rows(rows, shape, self.bit_width).astype(dtype)

    def offsets(self) -> list[tuple[int, ...]]:
        """The places in a window, row-major."""
        return list(np.ndindex(*self.window))

    def select(self, x: jax.Array) -> jax.Array:
        """The index in its window, uint32, of the element that each result selects."""
        pooled = self.decoded_shape(x.shape)
        best = jnp.zeros(pooled, x.dtype)
        index = jnp.zeros(pooled, jnp.uint32)
        seen = np.zeros(pooled, bool)
        padding = [(lo, hi, 0) for lo, hi in self.padding]
        padded = lax.pad(x, jnp.zeros((), x.dtype), padding)
        for number, offset in enumerate(self.offsets()):
            inside = self._inside(x.shape, offset)
            candidate = self._strided(padded, offset, pooled)
            take = inside & (~seen | ~(best >= candidate))
            best = jnp.where(take, candidate, best)
            index = jnp.where(take, jnp.uint32(number), index)
            seen = seen | inside
        return index

    def _strided(self, padded: jax.Array, offset: Any, pooled: Any) -> jax.Array:
        axes = list(zip(offset, pooled, self.strides, strict=True))
        stops = [o + max(0, (n - 1) * s + 1) for o, n, s in axes]
        return lax.slice(padded, offset, stops, self.strides)

    def _inside(self, shape: tuple[int, ...], offset: tuple[int, ...]) -> np.ndarray:
        """Where the element at `offset` of the window is not padding."""
        inside = np.ones((1,) * len(shape), bool)
        pooled = self.decoded_shape(shape)
        for axis, (n, count) in enumerate(zip(shape, pooled, strict=True)):
            at = (
                np.arange(count) * self.strides[axis]
                + offset[axis]
                - self.padding[axis][0]
            )
            sizes = [1] * len(shape)
            sizes[axis] = count
            inside = inside & ((at >= 0) & (at < n)).reshape(sizes)
        return inside


def pack_indices(codec: PoolIndex, index: jax.Array) -> jax.Array:
    """Indices as rows of bit planes."""
    return join_parts([pack_planes(as_blocks(as_rows(index)), codec.bit_width)])
