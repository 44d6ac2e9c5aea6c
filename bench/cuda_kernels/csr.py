"""The launches of `xla_ffi/csr/csr_cuda.cu`: a warp has a row."""

import struct

import jax.numpy as jnp
import numpy as np

from bench.cuda_kernels.launch import (
    ROW_ELEMENTS,
    ROWS,
    Budget,
    Case,
    Kernels,
    Launch,
    blocks_of_warps,
    example,
)
from epmc_jax.codecs import Csr

_CODEC = Csr(capacity=0.55)
_MANGLED = {"float32": "jt", "bfloat16": "tt"}
# A baseline, kept simple: the nonzero elements of 32 start and end within sectors (1.26
# and 1.46 of the least traffic), and decoding writes zeros first (1.81 and 1.99).
_ENCODE_EXCESS, _DECODE_EXCESS = 1.5, 2.1


def _layout(dtype: str) -> bytes:
    itemsize, room = jnp.dtype(dtype).itemsize, _CODEC._room(ROW_ELEMENTS)
    nbytes = _CODEC.row_nbytes(ROW_ELEMENTS, jnp.dtype(dtype))
    values = -(-room * itemsize // 16) * 16
    return struct.pack("4q2i", ROW_ELEMENTS, room, nbytes - values, nbytes, 2, itemsize)


def _rectified(dtype: str) -> np.ndarray:
    return np.asarray(jnp.maximum(example(dtype), 0))


def _encode(dtype: str) -> Launch:
    x = _rectified(dtype)
    expected = _CODEC.encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    return Launch(
        symbol=f"EncodeKernelI{_MANGLED[dtype]}E",
        blocks=blocks_of_warps(ROWS),
        arguments=(x, rows, _layout(dtype), ROWS),
        results=((rows, expected),),
        allowed_excess=_ENCODE_EXCESS,
    )


def _decode(dtype: str) -> Launch:
    x = _rectified(dtype)
    rows = np.array(_CODEC.encode_reference(jnp.asarray(x)))
    out = np.zeros_like(x)
    return Launch(
        symbol=f"DecodeKernelI{_MANGLED[dtype]}E",
        blocks=blocks_of_warps(ROWS),
        arguments=(rows, out, _layout(dtype), ROWS, 0x7FC0),
        results=((out, x),),
        allowed_excess=_DECODE_EXCESS,
    )


KERNELS = Kernels(
    folder="csr",
    cases=(Case("Csr 0.5 encode", _encode), Case("Csr 0.5 decode", _decode)),
    budgets=(Budget("Kernel", registers=48, has_wide_loads=False),),
)
