"""The launches of `xla_ffi/bit_mask/bit_mask_cuda.cu`: a warp has a tile of 1024."""

import struct

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
from epmc_jax.codecs import BitMask

_TILES = ROW_ELEMENTS // 1024
_BLOCKS = blocks_of_warps(ROWS * _TILES)
_NUMBERS = struct.pack("II", _TILES, ROWS * _TILES)


def _encode(dtype: str) -> Launch:
    x = example(dtype)
    expected = BitMask().encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    return Launch(
        symbol=f"EncodeKernelINS_{MANGLED[dtype]}E",
        blocks=_BLOCKS,
        arguments=(x, rows, ROW_ELEMENTS, _NUMBERS, 1),
        results=((rows, expected),),
    )


def _decode(dtype: str) -> Launch:
    x = example(dtype)
    rows = np.array(BitMask().encode_reference(jnp.asarray(x)))
    out = np.zeros(x.shape, np.bool_)
    return Launch(
        symbol="DecodeKernel",
        blocks=_BLOCKS,
        arguments=(rows, out, ROW_ELEMENTS, _NUMBERS, 1),
        results=((out, x > 0),),
    )


KERNELS = Kernels(
    folder="bit_mask",
    cases=(Case("BitMask encode", _encode), Case("BitMask decode", _decode)),
    budgets=(
        Budget("EncodeKernel", registers=48, has_wide_loads=True),
        # A thread loads one word of 32 elements.
        Budget("DecodeKernel", registers=48, has_wide_loads=False),
    ),
)
