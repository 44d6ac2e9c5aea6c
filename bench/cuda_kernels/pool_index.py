"""The launches of `xla_ffi/pool_index/pool_index_cuda.cu`: a warp has 256 results."""

import functools
import math
import struct
from typing import Any

import jax.numpy as jnp
import numpy as np

from bench.cuda_kernels.launch import (
    MANGLED,
    ROW_ELEMENTS,
    ROWS,
    Budget,
    Case,
    Kernels,
    Launch,
    blocks_of_warps,
    example,
)
from epmc_jax.codecs import PoolIndex, _pooling

# [ROWS, 16, 16, 64]: elements as the other kernels have them.
_SHAPE = (ROWS, 16, 16, 64)
_TILE = 256
_NO = (0, 0)
_CODECS = {
    "2x2": PoolIndex(
        window=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding=(_NO, _NO, _NO, _NO)
    ),
    "3x3/2": PoolIndex(
        window=(1, 3, 3, 1),
        strides=(1, 2, 2, 1),
        padding=(_NO, (0, 1), (0, 1), _NO),
    ),
}
# Each array once is the least. What is in two windows is read twice, from the cache the
# second time: 9 elements for a result of 3 x 3 with stride 2, of which 4 are its own.
# The gradient reads the cotangent and the planes once for every element of a window;
# neighbouring pixels of a warp share them. Counted without caches: 1.00 and 1.83 of the
# least for the pool, 1.28 and 3.23 for the gradient.
_POOL_EXCESS = {"2x2": 1.05, "3x3/2": 1.9}
_GRADIENT_EXCESS = {"2x2": 1.35, "3x3/2": 3.3}


def _tiles(elements: int, tile: int) -> bytes:
    return struct.pack("II", elements // tile, ROWS * elements // tile)


def _row_shape(codec: PoolIndex, dtype: str) -> bytes:
    pooled = codec.decoded_shape(_SHAPE)
    elements = math.prod(pooled[1:])
    nbytes = codec.row_nbytes(elements, jnp.dtype(dtype))
    axes = [1, 1, 1, 1, 0]  # there are three: in, out, window, stride, padding
    for i in (1, 2):
        window, stride, (low, _) = codec.window[i], codec.strides[i], codec.padding[i]
        axes += [_SHAPE[i], pooled[i], window, stride, low]
    sizes = (_SHAPE[3], ROW_ELEMENTS, elements, nbytes, codec.bit_width)
    return struct.pack("20i", *sizes, *axes)


def _operand(dtype: str) -> np.ndarray:
    return example(dtype).reshape(_SHAPE)


def _instance(dtype: str) -> str:
    return f"INS_{MANGLED[dtype]}ELi{16 // jnp.dtype(dtype).itemsize}E"


def _pool(name: str, dtype: str) -> Launch:
    codec, x = _CODECS[name], _operand(dtype)
    expected = _pooling._max_pool_reference(jnp.asarray(x), codec=codec)
    y, rows = (np.zeros(one.shape, one.dtype) for one in expected)
    elements = y[0].size
    return Launch(
        symbol=f"MaxPoolKernel{_instance(dtype)}",
        blocks=blocks_of_warps(ROWS * elements // _TILE),
        arguments=(x, y, rows, _row_shape(codec, dtype), _tiles(elements, _TILE)),
        results=((y, expected[0]), (rows, expected[1])),
        allowed_excess=_POOL_EXCESS[name],
    )


def _gradient(name: str, dtype: str) -> Launch:
    codec, x = _CODECS[name], _operand(dtype)
    y, encoded = _pooling._max_pool_reference(jnp.asarray(x), codec=codec)
    rows, ct, ct_x = np.array(encoded), np.array(y), np.zeros_like(x)
    # As on CPU: the reference's sum may keep more digits of a bfloat16.
    expected: Any = _pooling._gradient_on_cpu(
        encoded, jnp.asarray(ct), codec=codec, shape=_SHAPE
    )
    tile = 32 * 16 // x.itemsize
    return Launch(
        symbol=f"GradientKernel{_instance(dtype)}",
        blocks=blocks_of_warps(x.size // tile),
        arguments=(
            rows,
            ct,
            ct_x,
            _row_shape(codec, dtype),
            _tiles(ROW_ELEMENTS, tile),
        ),
        results=((ct_x, expected),),
        allowed_excess=_GRADIENT_EXCESS[name],
    )


def _cases() -> tuple[Case, ...]:
    return tuple(
        Case(f"{kind} {name}", functools.partial(prepare, name))
        for name in _CODECS
        for kind, prepare in (("max-pool", _pool), ("its gradient", _gradient))
    )


KERNELS = Kernels(
    folder="pool_index",
    cases=_cases(),
    budgets=(
        # Where the channels are no multiple of 16 bytes, elements go one by one.
        Budget("KernelI.*Li1E", registers=64, has_wide_loads=False),
        Budget("Kernel", registers=64, has_wide_loads=True),
    ),
)
