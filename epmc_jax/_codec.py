"""What all codecs share: rows of bytes, the encoded array, the two primitives."""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp

from epmc_jax import _jax_compat as compat
from epmc_jax import _kernels
from epmc_jax._partitioning import (
    block_shape,
    on_each_device,
    rows_spec,
    split_by_rows,
    typed_sharding,
)
from epmc_jax._primitives import (
    has_derivative,
    make_primitive,
    move_to_front,
    refuse_second_order,
    wait_for,
    zero_tangent,
)


def split_rows(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and elements per row: the leading axis counts rows if there are two or more.

    Rows, not one flat buffer, so that an array sharded along its leading axis is
    encoded where it is.
    """
    if len(shape) < 2:
        return 1, math.prod(shape)
    return shape[0], math.prod(shape[1:])


def round16(nbytes: int) -> int:
    """Parts of a row start at multiples of 16 bytes, the widest load of a GPU
    thread."""
    return -(-nbytes // 16) * 16


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A native implementation: XLA's name for it, and its attributes."""

    target: str
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Encoded:
    """One array in encoded form; `decode()` gives it back.

    A pytree with one leaf, so it goes through `jit`, `scan` and checkpoints as it is.
    """

    rows: Any  # uint8[rows, bytes]: the memory it occupies
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

    # True: decode restores all bits.
    exact: ClassVar[bool] = True
    # True: a zero stays a zero.
    preserves_zero: ClassVar[bool] = True
    # True: what is kept is a choice (a mask, an index), constant almost everywhere.
    keeps_decision: ClassVar[bool] = False
    # True: on GPUs XLA computes `decode_reference` inside what uses the array, which is
    # then never in memory. False where elements are gathered, or their places summed.
    decode_fuses: ClassVar[bool] = True

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

    def encoded_shape(self, shape: tuple[int, ...], dtype: Any) -> tuple[int, int]:
        """Rows and bytes per row of an encoded array of `shape` and `dtype`."""
        rows, row_elements = split_rows(self.decoded_shape(shape))
        return rows, self.row_nbytes(row_elements, dtype)

    def encoded_nbytes(self, shape: Sequence[int], dtype: Any) -> int:
        """Bytes that an array of `shape` and `dtype` occupies once encoded."""
        return math.prod(self.encoded_shape(tuple(shape), jnp.dtype(dtype)))

    @final
    def encode(self, x: jax.Array) -> Encoded:
        """Encodes `x`. Raises: `TypeError` if its dtype is not accepted."""
        x = jnp.asarray(x)
        if not self.accepts(x.dtype):
            raise TypeError(
                f"{self} does not encode {x.dtype}: {type(self).__name__} takes "
                f"{self._accepted()}. Raw() keeps any array as it is."
            )
        dtype = jnp.dtype(self.decoded_dtype(x.dtype))
        split = typed_sharding(x)
        rows = on_each_device(
            lambda x: encode_p.bind(x, codec=self),
            (x,),
            split,
            split and rows_spec(split),
        )
        return Encoded(rows, self, self.decoded_shape(x.shape), dtype, split)

    @final
    def decode(self, encoded: Encoded, *, after: Sequence[jax.Array] = ()) -> jax.Array:
        """Decodes, but not before the arrays `after` exist (their values are ignored).

        Without `after` XLA may decode as soon as the bytes are there, and the memory
        that encoding saved is lost again.
        """
        split, dtype = encoded.split, jnp.dtype(encoded.dtype)
        shape = block_shape(split, encoded.shape)

        results = split and split.spec
        decode = functools.partial(decode_p.bind, codec=self, shape=shape, dtype=dtype)
        return on_each_device(decode, (encoded.rows, *after), split, results)

    def _accepted(self) -> str:
        names = ("bool", "int8", "uint8", "int32", "bfloat16", "float16", "float32")
        return ", ".join(n for n in names if self.accepts(jnp.dtype(n)))


def _encode_abstract(x: Any, *, codec: AbstractCodec) -> Any:
    return compat.encoded_aval(x, codec.encoded_shape(x.shape, x.dtype), jnp.uint8)


def _encode_reference(x: Any, *, codec: AbstractCodec) -> Any:
    shape = codec.encoded_shape(x.shape, x.dtype)
    if math.prod(shape) == 0:
        return jnp.zeros(shape, jnp.uint8)
    return codec.encode_reference(x)


def _encode_on_cpu(x: Any, *, codec: AbstractCodec) -> Any:
    kernel = codec.encode_kernel(x.dtype)
    if kernel is None or not _kernels.has_cpu_kernels():
        return _encode_reference(x, codec=codec)
    return _encode_natively(x, codec, kernel)


def _encode_on_cuda(x: Any, *, codec: AbstractCodec) -> Any:
    kernel = codec.encode_kernel(x.dtype)
    if kernel is None or not _kernels.has_cuda_kernel(kernel.target):
        return _encode_reference(x, codec=codec)
    return _encode_natively(x, codec, kernel)


def _encode_natively(x: Any, codec: AbstractCodec, kernel: Kernel) -> Any:
    if math.prod(codec.encoded_shape(x.shape, x.dtype)) == 0:
        return _encode_reference(x, codec=codec)

    def call(x):
        shape = codec.encoded_shape(x.shape, x.dtype)
        result = jax.ShapeDtypeStruct(shape, jnp.uint8)
        attributes = dict(kernel.attributes)
        return _kernels.call_target(kernel.target, result, (x,), attributes)

    return split_by_rows(call, (x,), 1) if codec.has_rows(x.shape) else call(x)


def merged_shape(shape: tuple[int, ...], mapped: int) -> tuple[int, ...]:
    """The shape of `mapped` arrays of `shape` as one array with all their rows."""
    if len(shape) < 2:
        return (mapped, math.prod(shape))
    return (mapped * shape[0], *shape[1:])


def _encode_batch(operands: Any, axes: Any, *, codec: AbstractCodec) -> Any:
    x = move_to_front(operands[0], axes[0])
    mapped, shape = x.shape[0], x.shape[1:]
    if not codec.merges_rows(shape):
        return jax.vmap(lambda one: _encode_reference(one, codec=codec))(x), 0
    rows = encode_p.bind(x.reshape(merged_shape(shape, mapped)), codec=codec)
    return rows.reshape(mapped, *codec.encoded_shape(shape, x.dtype)), 0


def _encode_jvp(primals: Any, tangents: Any, *, codec: AbstractCodec) -> Any:
    if has_derivative(tangents[0]) and not codec.keeps_decision:
        refuse_second_order(codec)
    rows = encode_p.bind(*primals, codec=codec)
    return rows, zero_tangent(rows)


def _decode_abstract(rows: Any, *after: Any, codec: Any, shape: Any, dtype: Any) -> Any:
    del after, codec
    return compat.encoded_aval(rows, shape, dtype)


def _decode_reference(
    rows: Any, *after: Any, codec: Any, shape: Any, dtype: Any
) -> Any:
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype)
    return codec.decode_reference(wait_for(rows, after), shape, dtype)


def _decode_on_cpu(rows: Any, *after: Any, codec: Any, shape: Any, dtype: Any) -> Any:
    kernel = codec.decode_kernel(dtype)
    if kernel is None or not _kernels.has_cpu_kernels():
        return _decode_reference(rows, *after, codec=codec, shape=shape, dtype=dtype)
    return _decode_natively((rows, *after), codec, shape, dtype, kernel)


def _decode_on_cuda(rows: Any, *after: Any, codec: Any, shape: Any, dtype: Any) -> Any:
    kernel = codec.decode_kernel(dtype)
    # In a backward pass (it has something to wait for) XLA fuses jnp code into the
    # consumers, and the dense array never exists: docs/design/cuda.md has the figures.
    # Code that gathers is not fused.
    is_fused = bool(after) and codec.decode_fuses
    if is_fused or kernel is None or not _kernels.has_cuda_kernel(kernel.target):
        return _decode_reference(rows, *after, codec=codec, shape=shape, dtype=dtype)
    return _decode_natively((wait_for(rows, after),), codec, shape, dtype, kernel)


def _decode_natively(
    operands: Any, codec: AbstractCodec, shape: Any, dtype: Any, kernel: Kernel
) -> Any:
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype)
    has_rows = codec.has_rows(shape)

    def call(rows, *after):
        local = (rows.shape[0], *shape[1:]) if has_rows else shape
        result = jax.ShapeDtypeStruct(local, dtype)
        attributes = dict(kernel.attributes)
        return _kernels.call_target(kernel.target, result, (rows, *after), attributes)

    return split_by_rows(call, operands, 1) if has_rows else call(*operands)


def _decode_batch(
    operands: Any, axes: Any, *, codec: AbstractCodec, shape: Any, dtype: Any
) -> Any:
    rows, *after = operands
    if axes[0] is None:
        return decode_p.bind(rows, *after, codec=codec, shape=shape, dtype=dtype), None
    rows = move_to_front(rows, axes[0])
    mapped = rows.shape[0]
    x = decode_p.bind(
        rows.reshape(mapped * rows.shape[1], rows.shape[2]),
        *after,
        codec=codec,
        shape=merged_shape(shape, mapped),
        dtype=dtype,
    )
    return x.reshape(mapped, *shape), 0


def _decode_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    if has_derivative(tangents[0]):
        refuse_second_order(params["codec"])
    x = decode_p.bind(*primals, **params)
    return x, zero_tangent(x)


encode_p = make_primitive(
    "epmc_encode",
    abstract=_encode_abstract,
    reference=_encode_reference,
    on_cpu=_encode_on_cpu,
    on_cuda=_encode_on_cuda,
    batch=_encode_batch,
    jvp=_encode_jvp,
    static_argnames=("codec",),
)

decode_p = make_primitive(
    "epmc_decode",
    abstract=_decode_abstract,
    reference=_decode_reference,
    on_cpu=_decode_on_cpu,
    on_cuda=_decode_on_cuda,
    batch=_decode_batch,
    jvp=_decode_jvp,
    static_argnames=("codec", "shape", "dtype"),
)
