"""Encoding without any of the plan: the scheme that others are compared with.

Every float array that JAX keeps for the backward pass is encoded as compressed sparse
rows where it was made, and decoded before the backward pass reads it. Nothing is
chosen, recomputed, fused or ordered, and no call runs beside a layer.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bench.without_kernels import JnpCsr
from epmc_jax.codecs import AbstractCodec, Csr, Encoded

Loss = Callable[..., Any]
_MIN_BYTES = 4096


def encode_all(loss: Loss, *, capacity: float = 1.0, has_kernels: bool = True) -> Loss:
    """`loss(params, state, *batch)` whose gradient with respect to `params` does so.

    `capacity`: of every row, fixed when the program is compiled; 1 holds any array,
    0.5 what a ReLU makes of symmetric numbers, and gives NaN for all that is denser.
    `has_kernels`: with the kernels of `Csr` that this package has, or as jnp code.
    """
    codec = (Csr if has_kernels else JnpCsr)(capacity=capacity)

    def forward(*args: Any) -> Any:
        value, pull_back, aux = jax.vjp(
            lambda params: loss(params, *args[1:]), args[0], has_aux=True
        )
        alive = {id(leaf) for leaf in jax.tree.leaves(args)}

        def encoded(array: Any) -> Any:
            if id(array) in alive or not _takes(codec, array):
                return array
            return codec.encode(array)

        return (value, aux), (jax.tree.map(encoded, pull_back), args[1:])

    def backward(residuals: Any, cotangents: Any) -> Any:
        saved, others = residuals

        pull_back = jax.tree.map(_decoded, saved, is_leaf=_is_codecs)
        (gradient,) = pull_back(cotangents[0])
        return gradient, *(None for _ in others)

    encode = jax.custom_vjp(loss)
    encode.defvjp(forward, backward)
    return encode


def _is_codecs(leaf: Any) -> bool:
    return isinstance(leaf, Encoded)


def _decoded(leaf: Any) -> Any:
    return leaf.decode() if _is_codecs(leaf) else leaf


def _takes(codec: AbstractCodec, array: Any) -> bool:
    return (
        codec.accepts(array.dtype)
        and jnp.ndim(array) > 1
        and array.nbytes >= _MIN_BYTES
    )
