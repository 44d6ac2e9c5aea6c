"""The launches of `xla_ffi/group_quant/group_quant_cuda.cu`: lanes have groups."""

import functools
import struct
from typing import Any

import jax.numpy as jnp
import numpy as np

from bench.cuda_kernels.launch import (
    MANGLED,
    ROW_ELEMENTS,
    ROWS,
    WARP_THREADS,
    Budget,
    Case,
    Kernels,
    Launch,
    blocks_of_warps,
    example,
)
from epmc_jax.codecs import GroupQuant

_CODECS = {
    "GroupQuant 8": GroupQuant(bit_width=8),
    "GroupQuant 8 stochastic": GroupQuant(bit_width=8, rounding="stochastic"),
    "GroupQuant 4": GroupQuant(bit_width=4),
    "GroupQuant 4 stochastic": GroupQuant(bit_width=4, rounding="stochastic"),
    "GroupQuant 4 stochastic, groups of 128": GroupQuant(
        bit_width=4, group_size=128, rounding="stochastic"
    ),
    "GroupQuant 3": GroupQuant(bit_width=3),
    "GroupQuant 2": GroupQuant(bit_width=2),
    "GroupQuant 1": GroupQuant(bit_width=1),
    "GroupQuant 1 stochastic": GroupQuant(bit_width=1, rounding="stochastic"),
}


def _encoder(codec: GroupQuant, dtype: str) -> tuple[str, int]:
    """The encoder's template arguments, and how many lanes have a group."""
    element, lanes = MANGLED[dtype], {128: 8, 256: 16}[codec.group_size]
    loads = 16 // (16 // jnp.dtype(dtype).itemsize)
    is_stochastic = int(codec.rounding == "stochastic")
    numbers = f"Li{codec.bit_width}ELi{loads}ELi{lanes}ELb{is_stochastic}E"
    return f"INS_{element}E{numbers}", lanes


def _decoder(codec: GroupQuant, dtype: str) -> str:
    """The decoder's template arguments: a warp has a group."""
    element, nbytes = MANGLED[dtype], codec.group_size * jnp.dtype(dtype).itemsize
    if nbytes < 16 * WARP_THREADS:
        element = f"5ShortINS_{element}EE"
    loads = max(1, nbytes // (16 * WARP_THREADS))
    return f"INS_{element}ELi{codec.bit_width}ELi{loads}E"


def _arguments(codec: GroupQuant, arrays: tuple[Any, Any], *seed: int) -> Any:
    groups = ROW_ELEMENTS // codec.group_size
    nbytes = codec.row_nbytes(ROW_ELEMENTS, jnp.dtype("float32"))
    plane = ROW_ELEMENTS // 8 * (codec.bit_width // 2 * 2)
    scales = nbytes - 8 * groups
    layout = struct.pack("5q", groups, plane, scales, nbytes - 4 * groups, nbytes)
    numbers = struct.pack("II", groups, ROWS * groups)
    return (*arrays, ROW_ELEMENTS, layout, codec.group_size, *seed, numbers, 1)


def _encode(codec: GroupQuant, dtype: str) -> Launch:
    x = example(dtype)
    expected = codec.encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    template, lanes = _encoder(codec, dtype)
    return Launch(
        symbol=f"EncodeKernel{template}",
        blocks=blocks_of_warps(x.size // codec.group_size * lanes // WARP_THREADS),
        arguments=_arguments(codec, (x, rows), codec.seed),
        results=((rows, expected),),
    )


def _decode(codec: GroupQuant, dtype: str) -> Launch:
    x = example(dtype)
    encoded = codec.encode_reference(jnp.asarray(x))
    rows, out = np.array(encoded), np.zeros_like(x)
    return Launch(
        symbol=f"DecodeKernel{_decoder(codec, dtype)}",
        blocks=blocks_of_warps(x.size // codec.group_size),
        arguments=_arguments(codec, (rows, out)),
        results=((out, codec.decode_reference(encoded, x.shape, x.dtype)),),
    )


def _cases() -> tuple[Case, ...]:
    return tuple(
        Case(f"{name} {kind}", functools.partial(prepare, codec))
        for name, codec in _CODECS.items()
        for kind, prepare in (("encode", _encode), ("decode", _decode))
    )


# A multiprocessor's 65536 registers are 1365 threads of 48, 819 of 80, or 512 of 128.
# Each has 32 bytes or more on their way from memory, the larger 64 or more: 43 KiB are
# enough to hide its latency. The larger are the kernels for groups of 1024.
_LARGE = "(3F32ELi[12348]ELi8|(4Bf16|3F16)ELi[12348]ELi4)"

KERNELS = Kernels(
    folder="group_quant",
    cases=_cases(),
    budgets=(
        Budget(f"EncodeKernelINS_{_LARGE}", registers=80, has_wide_loads=True),
        Budget("EncodeKernel", registers=48, has_wide_loads=True),
        # A thread loads the codes of 16 bytes of elements: 4 bytes, or 8.
        Budget(f"DecodeKernelINS_{_LARGE}", registers=128, has_wide_loads=False),
        Budget("DecodeKernel", registers=48, has_wide_loads=False),
    ),
)
