"""What all codecs share: rows of bytes and the encoded array."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from epmc_jax._coding import Kernel as Kernel
from epmc_jax._coding import Ties, decode_p, encode_p
from epmc_jax._coding import merged_shape as merged_shape
from epmc_jax._partitioning import (
    block_shape,
    on_each_device,
    rows_spec,
    typed_sharding,
)

# Elements: padding to 16 bytes then adds a third to 4 bits at most.
_SHORTEST_ROW = 64


def split_rows(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and elements per row: the leading axis counts rows if there are two or more.

    Rows, not one flat buffer, so that an array sharded along its leading axis is
    encoded where it is.
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def short_rows(shape: Sequence[int], ways: int) -> tuple[int, ...] | None:
    """Axes that count rows, and elements per row, such that an array of `shape` may be
    split in `ways` parts along any axis: its last axis that is long enough is divided,
    those before it count rows. None if all are too short.
    """
    for axis in range(len(shape) - 1, 0, -1):
        parts = math.gcd(shape[axis], ways)
        elements = math.prod(shape[axis:]) // max(parts, 1)
        if elements >= _SHORTEST_ROW:
            return *shape[:axis], *((parts,) if parts > 1 else ()), elements
    return None


def round16(nbytes: int) -> int:
    """Parts of a row start at multiples of 16 bytes, the widest load of a GPU
    thread."""
    return -(-nbytes // 16) * 16


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Encoded:
    """One array in encoded form; `decode()` gives it back.

    A pytree with one leaf, so it goes through `jit`, `scan` and checkpoints as it is.
    """

    rows: Any  # uint8[rows, bytes], with `ways` [..., bytes]: the memory it occupies
    codec: AbstractCodec = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    dtype: Any = dataclasses.field(metadata={"static": True})
    # How the type of the array says that it is split: each device encodes its block.
    split: Any = dataclasses.field(default=None, metadata={"static": True})

    @property
    def nbytes(self) -> int:
        """Bytes allocated, padding and scales included."""
        return math.prod(self.rows.shape)

    def decode(self, *, after: Sequence[jax.Array] = ()) -> jax.Array:
        """The decoded array; see `AbstractCodec.decode`."""
        return self.codec.decode(self, after=after)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractCodec(abc.ABC):
    """A pair encode and decode with its parameters: an immutable value.

    Subclasses are frozen dataclasses too. They give the size of a row and two jnp
    references that define the bytes; a kernel, where there is one, has the same bytes.
    """

    # In how many parts XLA may split arrays along axes behind the first (axes of a mesh
    # that are `AxisType.Auto`): rows are shorter then, and each is in one part.
    ways: int = dataclasses.field(default=1, repr=False)

    def __post_init__(self):
        if self.ways < 1:
            raise ValueError(
                f"ways must be at least 1, got {self.ways}: 1 is for arrays that are "
                "split along their first axis alone."
            )

    # True: decode restores all bits.
    exact: ClassVar[bool] = True
    # True: a zero stays a zero.
    preserves_zero: ClassVar[bool] = True
    # True: what is kept is a choice (a mask, an index), constant almost everywhere.
    keeps_decision: ClassVar[bool] = False
    # True: on GPUs XLA computes `decode_reference` inside what uses the array, which is
    # then never in memory. False where elements are gathered, or their places summed.
    decode_fuses: ClassVar[bool] = True
    # True: on GPUs XLA computes `encode_reference` inside what makes the array, in a
    # pass. False where elements are read twice, for a scale first.
    encode_fuses: ClassVar[bool] = False

    @abc.abstractmethod
    def accepts(self, dtype: Any) -> bool:
        """True if arrays of `dtype` can be encoded."""

    @abc.abstractmethod
    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        """Bytes of one encoded row that decodes to `row_elements` elements."""

    @abc.abstractmethod
    def encode_reference(self, x: jax.Array) -> jax.Array:
        """The bytes of `x`, uint8[rows, row_nbytes], as jnp code."""

    @abc.abstractmethod
    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        """The array of `shape` and `dtype` that `rows` stands for, as jnp code."""

    def for_site(self, site_hash: int) -> AbstractCodec:
        """This codec at one place of a program: stochastic ones take a seed from it."""
        del site_hash
        return self

    def mask_codec(self, dtype: Any) -> AbstractCodec | None:
        """The codec that decodes the bytes of `x`, an array of `dtype` without negative
        numbers, to `x > 0`, exactly (NaN may count as above 0); None if the bytes do
        not tell."""
        del dtype
        return None

    def encode_kernel(self, dtype: Any) -> Kernel | None:
        """The native encoder of arrays of `dtype`, None if there is none."""
        del dtype
        return None

    def decode_kernel(self, dtype: Any) -> Kernel | None:
        """The native decoder to arrays of `dtype`, None if there is none."""
        del dtype
        return None

    def decoded_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that decode gives for an encoded array of `shape`."""
        return shape

    def decoded_dtype(self, dtype: Any) -> Any:
        """The dtype that decode gives for an encoded array of `dtype`."""
        return dtype

    def merges_rows(self, shape: tuple[int, ...]) -> bool:
        """True if arrays of `shape`, joined along the first axis, are encoded as
        one."""
        del shape
        return True

    @final
    def has_rows(self, shape: tuple[int, ...]) -> bool:
        """True if the first axis counts rows that are encoded one by one."""
        return len(shape) >= 2 and self.merges_rows(shape)

    @final
    def encoded_shape(self, shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
        """Rows and bytes per row of an encoded array of `shape` and `dtype`."""
        *rows, row_elements = self._row_shape(self.decoded_shape(shape))
        return *rows, self.row_nbytes(row_elements, dtype)

    def _row_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        short = short_rows(shape, self.ways) if self.ways > 1 else None
        return short or split_rows(shape)

    def encoded_nbytes(self, shape: Sequence[int], dtype: Any) -> int:
        """Bytes that an array of `shape` and `dtype` occupies once encoded."""
        return math.prod(self.encoded_shape(tuple(shape), jnp.dtype(dtype)))

    @final
    def encode(self, x: jax.Array, *, lags: bool = False) -> Encoded:
        """Encodes `x`. Raises: `TypeError` if its dtype is not accepted.

        `lags`: on a GPU the kernel may run beside what comes next, until its bytes
        are waited for; code that fuses is part of what makes `x`.
        """
        x = jnp.asarray(x)
        if not self.accepts(x.dtype):
            raise TypeError(
                f"{self} does not encode {x.dtype}: {type(self).__name__} takes "
                f"{self._accepted()}. Raw() keeps any array as it is."
            )
        dtype = jnp.dtype(self.decoded_dtype(x.dtype))
        split = typed_sharding(x)
        # The blocks of a split type are split no further.
        whole = dataclasses.replace(self, ways=1)
        row_shape = (whole if split else self)._row_shape(x.shape)
        encode = functools.partial(
            encode_p.bind, codec=whole, row_axes=len(row_shape) - 1, lags=lags
        )
        short = x.reshape(row_shape) if len(row_shape) > 2 else x
        rows = on_each_device(encode, (short,), split, split and rows_spec(split))
        return Encoded(rows, self, self.decoded_shape(x.shape), dtype, split)

    @final
    def decode(
        self,
        encoded: Encoded,
        *,
        after: Sequence[jax.Array] = (),
        ahead: Sequence[jax.Array] = (),
        earlier: jax.Array | None = None,
    ) -> jax.Array:
        """Decodes, but not before the arrays `after` exist (their values are ignored).

        Without `after` XLA may decode as soon as the bytes are there, and the memory
        that encoding saved is lost again.

        `ahead`: arrays that exist earlier. If given, a GPU with a kernel waits for
        these instead, and decodes beside the layers. `earlier`: the result of an
        earlier decode of these bytes; where decodes run beside the layers it is taken.
        """
        split, dtype = encoded.split, jnp.dtype(encoded.dtype)
        shape = block_shape(split, encoded.shape)
        leading = encoded.rows.shape[:-1]
        if len(leading) > 1:
            shape = (*leading, math.prod(shape) // max(1, math.prod(leading)))
        again = () if earlier is None else (earlier.reshape(shape),)
        decode = functools.partial(
            decode_p.bind,
            codec=dataclasses.replace(self, ways=1),
            shape=shape,
            dtype=dtype,
            ties=Ties(len(after), len(ahead), bool(again)),
        )
        operands = (encoded.rows, *after, *ahead, *again)
        x = on_each_device(decode, operands, split, split and split.spec)
        return x.reshape(encoded.shape)

    def _accepted(self) -> str:
        names = ("bool", "int8", "uint8", "int32", "bfloat16", "float16", "float32")
        return ", ".join(n for n in names if self.accepts(jnp.dtype(n)))
