"""Max-pool that keeps its index, and the gradient from the index."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax import _jax_compat as compat
from epmc_jax import _kernels
from epmc_jax._codec import merged_shape
from epmc_jax._partitioning import split_by_rows
from epmc_jax._primitives import (
    has_derivative,
    make_primitive,
    move_to_front,
    refuse_second_order,
    zero_tangent,
)
from epmc_jax.codecs.pool_index import PoolIndex


def max_pool(codec: PoolIndex, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The max-pool of `x` and the encoded index of each maximum, in one pass over `x`.

    Returns `y`, what `lax.reduce_window` gives with `lax.max` and `-inf` (NaN
    included), and `rows`, the bytes of `codec.encode(x)`.
    """
    y, rows = max_pool_p.bind(x, codec=codec)
    return y, rows


def pool_gradient(
    codec: PoolIndex, rows: jax.Array, ct: jax.Array, operand_shape: tuple[int, ...]
) -> jax.Array:
    """The cotangent of a max-pool's operand: `ct` added at the encoded places.

    Where windows overlap, cotangents are added in their dtype, in the order of the
    pooled elements: bit for bit what XLA:CPU's select-and-scatter gives. (Elsewhere XLA
    may keep more digits of a bfloat16 or float16 sum.)
    """
    return pool_gradient_p.bind(rows, ct, codec=codec, shape=tuple(operand_shape))


def _max_pool_abstract(x: Any, *, codec: PoolIndex) -> Any:
    y = compat.encoded_aval(x, codec.decoded_shape(x.shape), x.dtype)
    rows = compat.encoded_aval(x, codec.encoded_shape(x.shape, x.dtype), jnp.uint8)
    return y, rows


def _max_pool_reference(x: Any, *, codec: PoolIndex) -> Any:
    floor = np.array(-np.inf, x.dtype)  # no tracer: JAX looks at it
    y = lax.reduce_window(x, floor, lax.max, codec.window, codec.strides, codec.padding)
    shape = codec.encoded_shape(x.shape, x.dtype)
    if math.prod(shape) == 0:
        return y, jnp.zeros(shape, jnp.uint8)
    return y, codec.encode_reference(x)


def _has_cpu_kernel(target: str) -> bool:
    del target  # the library has all
    return _kernels.has_cpu_kernels()


def _has_cuda_kernel(target: str) -> bool:
    return _kernels.has_cuda_kernel(target)


def _max_pool_by(has: Callable[[str], bool], x: Any, *, codec: PoolIndex) -> Any:
    """By the kernel, if the platform `has` it."""
    kernel = codec.pool_kernel("epmc_max_pool")
    shape = codec.encoded_shape(x.shape, x.dtype)
    if kernel is None or math.prod(shape) == 0 or not has(kernel.target):
        return _max_pool_reference(x, codec=codec)

    def call(x):
        y = jax.ShapeDtypeStruct(codec.decoded_shape(x.shape), x.dtype)
        rows = jax.ShapeDtypeStruct(codec.encoded_shape(x.shape, x.dtype), jnp.uint8)
        attributes = dict(kernel.attributes)
        return _kernels.call_target(kernel.target, (y, rows), (x,), attributes)

    return split_by_rows(call, (x,), 1) if codec.has_rows(x.shape) else call(x)


def _max_pool_batch(operands: Any, axes: Any, *, codec: PoolIndex) -> Any:
    x = move_to_front(operands[0], axes[0])
    mapped, shape = x.shape[0], x.shape[1:]
    if not codec.merges_rows(shape):
        return jax.vmap(lambda one: _max_pool_reference(one, codec=codec))(x), (0, 0)
    y, rows = max_pool_p.bind(x.reshape(merged_shape(shape, mapped)), codec=codec)
    y = y.reshape(mapped, *codec.decoded_shape(shape))
    return (y, rows.reshape(mapped, *codec.encoded_shape(shape, x.dtype))), (0, 0)


def _max_pool_jvp(primals: Any, tangents: Any, *, codec: PoolIndex) -> Any:
    if has_derivative(tangents[0]):
        refuse_second_order(codec)
    outs = max_pool_p.bind(*primals, codec=codec)
    return outs, [zero_tangent(out) for out in outs]


def _gradient_abstract(rows: Any, ct: Any, *, codec: PoolIndex, shape: Any) -> Any:
    del rows, codec
    return compat.encoded_aval(ct, shape, ct.dtype)


def _gradient_reference(rows: Any, ct: Any, *, codec: PoolIndex, shape: Any) -> Any:
    if math.prod(shape) == 0 or ct.size == 0:
        return jnp.zeros(shape, ct.dtype)
    index = codec.decode_reference(rows, ct.shape, jnp.int32)
    zero = jnp.zeros((), ct.dtype)
    total = jnp.zeros(shape, ct.dtype)
    # Of two windows over an element, the later one has it at the smaller offset.
    for number, offset in reversed(list(enumerate(codec.offsets()))):
        part = jnp.where(index == number, ct, zero)
        total = total + lax.pad(part, zero, _spread(codec, offset, ct.shape, shape))
    return total


def _gradient_by(
    has: Callable[[str], bool], rows: Any, ct: Any, *, codec: PoolIndex, shape: Any
) -> Any:
    kernel = codec.pool_kernel("epmc_pool_gradient")
    empty = math.prod(shape) == 0 or ct.size == 0
    if kernel is None or empty or not has(kernel.target):
        return _gradient_reference(rows, ct, codec=codec, shape=shape)
    has_rows = codec.has_rows(shape)

    def call(rows, ct):
        local = (ct.shape[0], *shape[1:]) if has_rows else shape
        ct_x = jax.ShapeDtypeStruct(local, ct.dtype)
        attributes = dict(kernel.attributes)
        return _kernels.call_target(kernel.target, ct_x, (rows, ct), attributes)

    return split_by_rows(call, (rows, ct), 2) if has_rows else call(rows, ct)


def _spread(codec: PoolIndex, offset: Any, pooled: Any, shape: Any) -> list[Any]:
    """How `lax.pad` moves each pooled element to `offset` of its window."""
    config = []
    for axis, size in enumerate(shape):
        low = offset[axis] - codec.padding[axis][0]
        interior = codec.strides[axis] - 1
        used = low + (pooled[axis] - 1) * codec.strides[axis] + 1
        config.append((low, size - used, interior))
    return config


def _gradient_batch(operands: Any, axes: Any, *, codec: PoolIndex, shape: Any) -> Any:
    mapped = next(
        x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None
    )
    rows, ct = (
        jnp.broadcast_to(x, (mapped, *x.shape)) if a is None else move_to_front(x, a)
        for x, a in zip(operands, axes, strict=True)
    )
    if not codec.merges_rows(shape):
        one = jax.vmap(lambda r, c: _gradient_reference(r, c, codec=codec, shape=shape))
        return one(rows, ct), 0
    out = pool_gradient_p.bind(
        rows.reshape(mapped * rows.shape[1], rows.shape[2]),
        ct.reshape(merged_shape(ct.shape[1:], mapped)),
        codec=codec,
        shape=merged_shape(shape, mapped),
    )
    return out.reshape(mapped, *shape), 0


def _gradient_jvp(primals: Any, tangents: Any, *, codec: PoolIndex, shape: Any) -> Any:
    rows, _ = primals
    out = pool_gradient_p.bind(*primals, codec=codec, shape=shape)
    ct_tangent = tangents[1]
    if not has_derivative(ct_tangent):
        return out, zero_tangent(out)
    # Linear in the cotangent; the index is a constant.
    return out, pool_gradient_p.bind(rows, ct_tangent, codec=codec, shape=shape)


_max_pool_on_cpu = functools.partial(_max_pool_by, _has_cpu_kernel)
_gradient_on_cpu = functools.partial(_gradient_by, _has_cpu_kernel)

max_pool_p = make_primitive(
    "epmc_max_pool",
    abstract=_max_pool_abstract,
    reference=_max_pool_reference,
    on_cpu=_max_pool_on_cpu,
    on_cuda=functools.partial(_max_pool_by, _has_cuda_kernel),
    batch=_max_pool_batch,
    jvp=_max_pool_jvp,
    static_argnames=("codec",),
    multiple_results=True,
)

pool_gradient_p = make_primitive(
    "epmc_pool_gradient",
    abstract=_gradient_abstract,
    reference=_gradient_reference,
    on_cpu=_gradient_on_cpu,
    on_cuda=functools.partial(_gradient_by, _has_cuda_kernel),
    batch=_gradient_batch,
    jvp=_gradient_jvp,
    static_argnames=("codec", "shape"),
)
