"""The launches of `xla_ffi/narrow/narrow_cuda.cu`: a warp has a group."""

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
from epmc_jax.codecs import Narrow

_CODECS = {
    "Narrow bfloat16": (Narrow(dtype="bfloat16"), "6AsBf16"),
    "Narrow e4m3fn": (Narrow(dtype="float8_e4m3fn"), "8AsE4m3fn"),
    "Narrow e5m2": (Narrow(dtype="float8_e5m2"), "6AsE5m2"),
}


def _instance(codec: Narrow, value: str, dtype: str) -> str:
    """The kernel's template arguments."""
    loads = codec.group_size * jnp.dtype(dtype).itemsize // (16 * WARP_THREADS)
    return f"INS_{MANGLED[dtype]}ENS0_{value}ELi{loads}E"


def _arguments(codec: Narrow, arrays: tuple[Any, Any]) -> Any:
    groups = ROW_ELEMENTS // codec.group_size
    nbytes = codec.row_nbytes(ROW_ELEMENTS, jnp.dtype("float32"))
    values = ROW_ELEMENTS * (2 if codec.dtype == "bfloat16" else 1)
    layout = struct.pack("4q", groups, values, values, nbytes)
    numbers = struct.pack("II", groups, ROWS * groups)
    return (*arrays, ROW_ELEMENTS, layout, codec.group_size, numbers, 1)


def _encode(codec: Narrow, value: str, dtype: str) -> Launch:
    x = example(dtype)
    expected = codec.encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    return Launch(
        symbol=f"EncodeKernel{_instance(codec, value, dtype)}",
        blocks=blocks_of_warps(x.size // codec.group_size),
        arguments=_arguments(codec, (x, rows)),
        results=((rows, expected),),
    )


def _decode(codec: Narrow, value: str, dtype: str) -> Launch:
    x = example(dtype)
    encoded = codec.encode_reference(jnp.asarray(x))
    rows, out = np.array(encoded), np.zeros_like(x)
    return Launch(
        symbol=f"DecodeKernel{_instance(codec, value, dtype)}",
        blocks=blocks_of_warps(x.size // codec.group_size),
        arguments=_arguments(codec, (rows, out)),
        results=((out, codec.decode_reference(encoded, x.shape, x.dtype)),),
    )


def _cases() -> tuple[Case, ...]:
    return tuple(
        Case(f"{name} {kind}", functools.partial(prepare, codec, value))
        for name, (codec, value) in _CODECS.items()
        for kind, prepare in (("encode", _encode), ("decode", _decode))
    )


# As GroupQuant's: the larger are the kernels for groups of 1024.
_LARGE = r"(3F32E\w+?ELi8|(4Bf16|3F16)E\w+?ELi4)"

KERNELS = Kernels(
    folder="narrow",
    cases=_cases(),
    budgets=(
        Budget(f"EncodeKernelINS_{_LARGE}", registers=128, has_wide_loads=True),
        Budget("EncodeKernel", registers=48, has_wide_loads=True),
        # A thread loads the values of 16 bytes of elements: 4 bytes to 16.
        Budget(f"DecodeKernelINS_{_LARGE}", registers=72, has_wide_loads=False),
        Budget("DecodeKernel", registers=48, has_wide_loads=False),
    ),
)
