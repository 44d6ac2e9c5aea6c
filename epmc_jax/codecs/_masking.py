"""The gradient of ReLU, straight from the bits of its mask."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from epmc_jax import _kernels
from epmc_jax._coding import decode_rows, with_rows
from epmc_jax._partitioning import split_by_rows
from epmc_jax._primitives import (
    has_derivative,
    make_primitive,
    move_to_front,
    zero_tangent,
)
from epmc_jax.codecs.bit_mask import BitMask

_NATIVE_ITEMSIZES = (2, 4)


def relu_gradient(rows: jax.Array, ct: jax.Array) -> jax.Array:
    """`ct` where the mask encoded in `rows` is set, 0 elsewhere.

    `rows`: of `BitMask(...).encode(mask)`, with a mask of the shape of `ct`. One pass
    over memory: no array of booleans is made, and the result takes the memory of `ct`
    unless that is read again. Linear in `ct`.
    """
    if rows.ndim == 2:
        return relu_gradient_p.bind(rows, ct)
    row_elements = ct.size // max(1, math.prod(rows.shape[:-1]))
    short = ct.reshape(*rows.shape[:-1], row_elements)
    return relu_gradient_p.bind(rows, short).reshape(ct.shape)


def _reference(rows: Any, ct: Any) -> Any:
    if ct.size == 0:
        return ct
    mask = decode_rows(BitMask(), rows, ct.shape, jnp.bool_)
    return jnp.where(mask, ct, jnp.zeros((), ct.dtype))


def _on_cpu(rows: Any, ct: Any) -> Any:
    is_native = ct.dtype.itemsize in _NATIVE_ITEMSIZES and ct.size > 0
    if not is_native or not _kernels.has_cpu_kernels():
        return _reference(rows, ct)

    def call(rows, ct):
        result = jax.ShapeDtypeStruct(ct.shape, ct.dtype)
        operands, aliases = (rows, ct), {1: 0}
        return _kernels.call_target(
            "epmc_relu_gradient", result, operands, {}, aliases=aliases
        )

    if ct.ndim < 2:
        return call(rows, ct)
    return split_by_rows(call, (rows, ct), 2, row_axes=rows.ndim - 1)


def _batch(operands: Any, axes: Any) -> Any:
    mapped = next(
        x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None
    )
    rows, ct = (
        jnp.broadcast_to(x, (mapped, *x.shape)) if a is None else move_to_front(x, a)
        for x, a in zip(operands, axes, strict=True)
    )
    return relu_gradient_p.bind(rows, with_rows(ct)).reshape(ct.shape), 0


def _jvp(primals: Any, tangents: Any) -> Any:
    rows, _ = primals
    out = relu_gradient_p.bind(*primals)
    ct_tangent = tangents[1]
    if not has_derivative(ct_tangent):
        return out, zero_tangent(out)
    return out, relu_gradient_p.bind(rows, ct_tangent)


relu_gradient_p = make_primitive(
    "epmc_relu_gradient",
    abstract=lambda rows, ct: ct,
    reference=_reference,
    on_cpu=_on_cpu,
    batch=_batch,
    jvp=_jvp,
)
