"""The launches of `xla_ffi/int_pack/int_pack_cuda.cu`: a warp has a tile of 1024."""

import functools
import struct
from typing import Any

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
)
from epmc_jax.codecs import IntPack

_TILES = ROW_ELEMENTS // 1024
_BLOCKS = blocks_of_warps(ROWS * _TILES)
_NUMBERS = struct.pack("II", _TILES, ROWS * _TILES)
_DTYPES = ("int8", "int16", "int32")
_MANGLED = {"int8": "h", "int16": "t", "int32": "j"}


def _integers(codec: IntPack, dtype: str) -> np.ndarray:
    values = np.random.default_rng(0).integers(
        0, codec.num_values, (ROWS, ROW_ELEMENTS)
    )
    return values.astype(dtype)


def _instance(codec: IntPack, dtype: str) -> str:
    return f"I{_MANGLED[dtype]}Li{8 if codec.bit_width <= 8 else 32}E"


def _arguments(codec: IntPack, arrays: tuple[Any, Any]) -> Any:
    nbytes = codec.row_nbytes(ROW_ELEMENTS, jnp.dtype("int32"))
    return (*arrays, ROW_ELEMENTS, nbytes, codec.bit_width, _NUMBERS, 1)


def _encode(codec: IntPack, dtype: str) -> Launch:
    x = _integers(codec, dtype)
    expected = codec.encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    return Launch(
        symbol=f"EncodeKernel{_instance(codec, dtype)}",
        blocks=_BLOCKS,
        arguments=_arguments(codec, (x, rows)),
        results=((rows, expected),),
    )


def _decode(codec: IntPack, dtype: str) -> Launch:
    x = _integers(codec, dtype)
    rows = np.array(codec.encode_reference(jnp.asarray(x)))
    out = np.zeros_like(x)
    return Launch(
        symbol=f"DecodeKernel{_instance(codec, dtype)}",
        blocks=_BLOCKS,
        arguments=_arguments(codec, (rows, out)),
        results=((out, x),),
    )


def _cases() -> tuple[Case, ...]:
    usual = [
        Case(f"IntPack {w} {kind}", functools.partial(prepare, codec), _DTYPES)
        for w, codec in ((2, IntPack(num_values=4)), (7, IntPack(num_values=128)))
        for kind, prepare in (("encode", _encode), ("decode", _decode))
    ]
    wide = IntPack(num_values=50_000)
    return (
        *usual,
        Case("IntPack 16 encode", functools.partial(_encode, wide), ("int32",)),
        Case("IntPack 16 decode", functools.partial(_decode, wide), ("int32",)),
    )


KERNELS = Kernels(
    folder="int_pack",
    cases=_cases(),
    budgets=(
        # 910 threads of 72 registers: with 128 bytes each on their way from memory, or
        # to it, they have 113 KiB.
        Budget("Kernel", registers=72, has_wide_loads=True),
    ),
)
