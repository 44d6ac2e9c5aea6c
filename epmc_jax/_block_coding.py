"""Encodes an array that is made block by block, and is never there as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from epmc_jax import _jax_compat as compat
from epmc_jax import _kernels
from epmc_jax._coding import Kernel, call_encoder, encode_mapped, encoder_jvp
from epmc_jax._ordering import pin_locally
from epmc_jax._partitioning import split_by_rows
from epmc_jax._primitives import make_primitive, move_to_front, wait_for

_MOST_BLOCKS = 16


def encode_made(make: Callable[..., Any], *operands: Any, codec: Any) -> jax.Array:
    """The rows of bytes of `make(*operands)`, of up to 16 blocks of rows one by one.

    `make` is hashable, and makes each row (an index of the first axis) of its result
    of the same rows of all operands, as elementwise operations do. Blocks are encoded
    among the layers. Stochastic rounding numbers the groups of each block anew.
    """
    return encode_made_p.bind(*operands, make=make, codec=codec)


def _abstract(*operands: Any, make: Any, codec: Any) -> Any:
    x = jax.eval_shape(make, *operands)
    shape = codec.encoded_shape(x.shape, x.dtype)
    return compat.encoded_aval(operands[0], shape, jnp.uint8)


def _elsewhere(*operands: Any, make: Any, codec: Any) -> Any:
    def encode(*blocks):
        return codec.encode_reference(make(*blocks))

    return _in_blocks(encode, operands, wait_for)


def _on_cpu(*operands: Any, make: Any, codec: Any) -> Any:
    kernel = _kernel(operands, make, codec)
    if kernel is None or not _kernels.has_cpu_kernels():
        return _elsewhere(*operands, make=make, codec=codec)
    return _natively(operands, make, codec, kernel, pin_locally)


def _on_cuda(*operands: Any, make: Any, codec: Any) -> Any:
    kernel = _kernel(operands, make, codec)
    if kernel is None or not _kernels.has_cuda_kernel(kernel.target):
        return _elsewhere(*operands, make=make, codec=codec)
    return _natively(operands, make, codec, kernel, wait_for)


def _kernel(operands: Any, make: Any, codec: Any) -> Kernel | None:
    return codec.encode_kernel(jax.eval_shape(make, *operands).dtype)


def _natively(
    operands: Any, make: Any, codec: Any, kernel: Kernel, tie: Callable[..., Any]
) -> Any:
    def encode(*blocks):
        return call_encoder(kernel, codec, make(*blocks))

    def encode_rows(*operands):
        return _in_blocks(encode, operands, tie)

    return split_by_rows(encode_rows, operands, len(operands))


def _in_blocks(
    encode: Callable[..., Any], operands: Any, tie: Callable[..., Any]
) -> Any:
    """Not a loop: XLA may copy what a loop reads, where it is read again after it."""
    rows = operands[0].shape[0]
    count = max(n for n in range(1, _MOST_BLOCKS + 1) if rows % n == 0)
    size = rows // count
    smallest = min(range(len(operands)), key=lambda i: operands[i].size)
    parts: list[Any] = []
    encoded = None
    for start in range(0, rows, size):
        blocks = [lax.slice_in_dim(x, start, start + size) for x in operands]
        # A block is made when the one before is encoded, and no longer there.
        blocks[smallest] = tie(blocks[smallest], parts[-1:])
        parts.append(encode(*blocks))
        if encoded is None:
            encoded = jnp.zeros((rows, parts[0].shape[1]), jnp.uint8)
        encoded = lax.dynamic_update_slice_in_dim(encoded, parts[-1], start, 0)
    return encoded


def _batch(operands: Any, axes: Any, *, make: Any, codec: Any) -> Any:
    moved = [
        x if axis is None else move_to_front(x, axis)
        for x, axis in zip(operands, axes, strict=True)
    ]
    x = jax.vmap(make, in_axes=[None if a is None else 0 for a in axes])(*moved)
    return encode_mapped(x, codec), 0


encode_made_p: compat.Primitive = make_primitive(
    "epmc_encode_made",
    abstract=_abstract,
    reference=_elsewhere,
    on_cpu=_on_cpu,
    on_cuda=_on_cuda,
    batch=_batch,
    jvp=lambda *args, **params: encoder_jvp(encode_made_p, *args, **params),
    static_argnames=("make", "codec"),
)
