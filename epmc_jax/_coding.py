"""Encode and decode as primitives: a kernel where there is one, jnp code elsewhere."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from epmc_jax import _jax_compat as compat
from epmc_jax import _kernels
from epmc_jax._partitioning import split_by_rows
from epmc_jax._primitives import (
    has_derivative,
    make_primitive,
    move_to_front,
    refuse_second_order,
    wait_for,
    zero_tangent,
)

# CUDA streams beside that of the layers, one for each direction: neither waits behind
# the other.
_ENCODE_STREAM = 1
_DECODE_STREAM = 2

# Around jnp code that XLA fuses into its consumers: there it has no other name.
ENCODE_SCOPE = "epmc_encode"
DECODE_SCOPE = "epmc_decode"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A native implementation: XLA's name for it, and its attributes."""

    target: str
    attributes: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _encoded_shape(x: Any, codec: Any, row_axes: int) -> tuple[int, ...]:
    """The shape of the bytes of `x`, whose first `row_axes` axes count rows."""
    if row_axes == 1:
        return codec.encoded_shape(x.shape, x.dtype)
    row_elements = math.prod(x.shape[row_axes:])
    return (*x.shape[:row_axes], codec.row_nbytes(row_elements, x.dtype))


def _encode_abstract(x: Any, *, codec: Any, row_axes: int, lags: bool) -> Any:
    del lags
    return compat.encoded_aval(x, _encoded_shape(x, codec, row_axes), jnp.uint8)


def _encode_reference(
    x: Any, *, codec: Any, row_axes: int = 1, lags: bool = False
) -> Any:
    del lags
    shape = _encoded_shape(x, codec, row_axes)
    if math.prod(shape) == 0:
        return jnp.zeros(shape, jnp.uint8)
    with jax.named_scope(ENCODE_SCOPE):
        return _encode_rows(codec, x, row_axes).reshape(shape)


def _encode_rows(codec: Any, x: Any, row_axes: int) -> Any:
    """The bytes as jnp code; with several axes of rows these may come back as one."""
    if row_axes == 1:
        return codec.encode_reference(x)
    if codec.encode_fuses:
        # One axis after the other: joined, they would be gathered where they are split.
        return jax.vmap(lambda r: _encode_rows(codec, r, row_axes - 1))(x)
    # Dither numbers the groups of all rows.
    return codec.encode_reference(x.reshape(math.prod(x.shape[:row_axes]), -1))


def _by_rows(call: Callable[..., Any], operands: Sequence[Any], row_axes: int) -> Any:
    return split_by_rows(call, operands, 1, row_axes=row_axes)


def _encode_on_cpu(x: Any, *, codec: Any, row_axes: int, lags: bool) -> Any:
    del lags
    kernel = codec.encode_kernel(x.dtype)
    if kernel is None or not _kernels.has_cpu_kernels():
        return _encode_reference(x, codec=codec, row_axes=row_axes)
    return _encode_natively(x, codec, row_axes, kernel)


def _encode_on_cuda(x: Any, *, codec: Any, row_axes: int, lags: bool) -> Any:
    kernel = codec.encode_kernel(x.dtype)
    # A kernel would read again what is at hand where `x` is made.
    is_fused = lags and codec.encode_fuses
    if is_fused or kernel is None or not _kernels.has_cuda_kernel(kernel.target):
        return _encode_reference(x, codec=codec, row_axes=row_axes)
    lags = lags and _kernels.runs_asynchronously(kernel.target)
    stream = _ENCODE_STREAM if lags else None
    return _encode_natively(x, codec, row_axes, kernel, stream)


def _encode_natively(
    x: Any, codec: Any, row_axes: int, kernel: Kernel, stream: int | None = None
) -> Any:
    if math.prod(_encoded_shape(x, codec, row_axes)) == 0:
        return _encode_reference(x, codec=codec, row_axes=row_axes)

    def call(x):
        return call_encoder(kernel, codec, x, row_axes=row_axes)

    def encode(x):
        has_rows = row_axes > 1 or codec.has_rows(x.shape)
        return _by_rows(call, (x,), row_axes) if has_rows else call(x)

    return compat.on_gpu_stream(encode, stream)(x) if stream else encode(x)


def call_encoder(kernel: Kernel, codec: Any, x: Any, *, row_axes: int = 1) -> Any:
    """The bytes of `x` by the kernel, on this device."""
    shape = _encoded_shape(x, codec, row_axes)
    return _call_kernel(kernel, jax.ShapeDtypeStruct(shape, jnp.uint8), (x,))


def _call_kernel(kernel: Kernel, result: Any, operands: Any) -> Any:
    attributes = dict(kernel.attributes)
    return _kernels.call_target(kernel.target, result, operands, attributes)


def merged_shape(shape: tuple[int, ...], mapped: int) -> tuple[int, ...]:
    """The shape of `mapped` arrays of `shape` as one array with all their rows."""
    if len(shape) < 2:
        return (mapped, math.prod(shape))
    return (mapped * shape[0], *shape[1:])


def _encode_batch(
    operands: Any, axes: Any, *, codec: Any, row_axes: int, lags: bool
) -> Any:
    x = move_to_front(operands[0], axes[0])
    return encode_mapped(x, codec, row_axes=row_axes, lags=lags), 0


def encode_mapped(x: Any, codec: Any, *, row_axes: int = 1, lags: bool = False) -> Any:
    """The bytes of each of the arrays that `x` has along its first axis."""
    if not codec.merges_rows(x.shape[1:]):
        return jax.vmap(lambda one: _encode_reference(one, codec=codec))(x)
    return encode_p.bind(with_rows(x), codec=codec, row_axes=row_axes + 1, lags=lags)


def with_rows(x: Any) -> Any:
    """Arrays along the first axis of `x`, as arrays that have rows: a vector is one."""
    return x if x.ndim > 2 else x.reshape(len(x), 1, math.prod(x.shape[1:]))


def encoder_jvp(
    primitive: compat.Primitive, primals: Any, tangents: Any, *, codec: Any, **rest: Any
) -> Any:
    """Bytes have no derivative; what only a decision depends on needs none."""
    if any(map(has_derivative, tangents)) and not codec.keeps_decision:
        refuse_second_order(codec)
    rows = primitive.bind(*primals, codec=codec, **rest)
    return rows, zero_tangent(rows)


@dataclasses.dataclass(frozen=True)
class Ties:
    """What the operands of a decode behind its bytes are.

    `after` arrays to wait for; `ahead` arrays that exist earlier, to wait for instead
    where the decode runs beside the layers; and, if `repeats`, the decoded array as
    an earlier decode has given it, to take there instead.
    """

    after: int = 0
    ahead: int = 0
    repeats: bool = False


def _decode_abstract(
    rows: Any, *operands: Any, codec: Any, shape: Any, dtype: Any, ties: Ties
) -> Any:
    del operands, codec, ties
    return compat.encoded_aval(rows, shape, dtype)


def _decode_reference(
    rows: Any, *operands: Any, codec: Any, shape: Any, dtype: Any, ties: Ties
) -> Any:
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype)
    rows = wait_for(rows, operands[: ties.after])
    with jax.named_scope(DECODE_SCOPE):
        return decode_rows(codec, rows, shape, dtype)


def decode_rows(codec: Any, rows: Any, shape: Any, dtype: Any) -> Any:
    """The array of `shape` as jnp code; all axes of `rows` but the last count rows."""
    if rows.ndim == 2:
        return codec.decode_reference(rows, shape, dtype)
    # One axis after the other: joined, they would be gathered where they are split.
    return jax.vmap(lambda r: decode_rows(codec, r, shape[1:], dtype))(rows)


def _decode_on_cpu(rows: Any, *operands: Any, ties: Ties, **params: Any) -> Any:
    kernel = params["codec"].decode_kernel(params["dtype"])
    if kernel is None or not _kernels.has_cpu_kernels():
        return _decode_reference(rows, *operands, ties=ties, **params)
    return _decode_natively((rows, *operands[: ties.after]), kernel, **params)


def _decode_on_cuda(rows: Any, *operands: Any, ties: Ties, **params: Any) -> Any:
    kernel = params["codec"].decode_kernel(params["dtype"])
    target = kernel and kernel.target
    if ties.ahead and _kernels.runs_asynchronously(target):
        if ties.repeats:
            return operands[-1]
        ahead = operands[ties.after : ties.after + ties.ahead]
        return _decode_natively((rows, *ahead), kernel, **params, stream=_DECODE_STREAM)
    # In a backward pass (it has something to wait for) XLA fuses jnp code into the
    # consumers, and the dense array never exists: docs/design/cuda.md has the figures.
    # Code that gathers is not fused.
    is_fused = bool(ties.after) and params["codec"].decode_fuses
    if is_fused or kernel is None or not _kernels.has_cuda_kernel(kernel.target):
        return _decode_reference(rows, *operands, ties=ties, **params)
    return _decode_natively((wait_for(rows, operands[: ties.after]),), kernel, **params)


def _decode_natively(
    operands: Any,
    kernel: Kernel,
    *,
    codec: Any,
    shape: Any,
    dtype: Any,
    stream: int | None = None,
) -> Any:
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype)
    row_axes = operands[0].ndim - 1
    has_rows = row_axes > 1 or codec.has_rows(shape)

    def call(rows, *after):
        local = (*rows.shape[:-1], *shape[row_axes:]) if has_rows else shape
        result = jax.ShapeDtypeStruct(local, dtype)
        return _call_kernel(kernel, result, (rows, *after))

    def decode(*operands):
        return _by_rows(call, operands, row_axes) if has_rows else call(*operands)

    def decode_beside(rows, *ahead):
        # The call itself waits. A barrier before it, whose result only the call reads,
        # would be passed when the call is awaited, not before.
        return decode(wait_for(rows, ahead))

    if stream is None:
        return decode(*operands)
    return compat.on_gpu_stream(decode_beside, stream)(*operands)


def _decode_batch(
    operands: Any, axes: Any, *, codec: Any, shape: Any, dtype: Any, ties: Ties
) -> Any:
    if axes[0] is None:
        # What other operands are mapped does not matter, but for a decoded array.
        ties = dataclasses.replace(ties, repeats=False)
        operands = operands[: 1 + ties.after + ties.ahead]
        params = {"codec": codec, "shape": shape, "dtype": dtype, "ties": ties}
        return decode_p.bind(*operands, **params), None
    rows, *others = operands
    rows = move_to_front(rows, axes[0])
    mapped = len(rows)
    one = shape if len(shape) > 1 else (1, math.prod(shape))
    if ties.repeats:
        earlier = move_to_front(others[-1], axes[-1])
        others[-1] = earlier.reshape(mapped, *one)
    x = decode_p.bind(
        rows, *others, codec=codec, shape=(mapped, *one), dtype=dtype, ties=ties
    )
    return x.reshape(mapped, *shape), 0


def _decode_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    if has_derivative(tangents[0]):
        refuse_second_order(params["codec"])
    x = decode_p.bind(*primals, **params)
    return x, zero_tangent(x)


encode_p: compat.Primitive = make_primitive(
    "epmc_encode",
    abstract=_encode_abstract,
    reference=_encode_reference,
    on_cpu=_encode_on_cpu,
    on_cuda=_encode_on_cuda,
    batch=_encode_batch,
    jvp=lambda *args, **params: encoder_jvp(encode_p, *args, **params),
    static_argnames=("codec", "row_axes", "lags"),
)

decode_p = make_primitive(
    "epmc_decode",
    abstract=_decode_abstract,
    reference=_decode_reference,
    on_cpu=_decode_on_cpu,
    on_cuda=_decode_on_cuda,
    batch=_decode_batch,
    jvp=_decode_jvp,
    static_argnames=("codec", "shape", "dtype", "ties"),
)
