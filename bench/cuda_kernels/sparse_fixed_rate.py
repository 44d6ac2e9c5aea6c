"""The launches of `xla_ffi/sparse_fixed_rate`: a thread block has a pool."""

import dataclasses
import functools
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
    example,
)
from epmc_jax.codecs import SparseFixedRate

_POOL = 16384
_POOL_THREADS = 512
_STOCHASTIC = SparseFixedRate(rounding="stochastic")
_CODECS = {
    "SparseFixedRate 4.125": SparseFixedRate(),
    "SparseFixedRate 4.125 stochastic": _STOCHASTIC,
    "SparseFixedRate 2": SparseFixedRate(rate=2),
    "SparseFixedRate 16": SparseFixedRate(rate=16),  # bfloat16: exact
}


def _pools(codec: SparseFixedRate) -> bytes:
    groups, pools = ROW_ELEMENTS // codec.group_size, ROW_ELEMENTS // _POOL
    bitmap = ROW_ELEMENTS // 8
    nbytes = codec.row_nbytes(ROW_ELEMENTS, jnp.dtype("float32"))
    offsets = (bitmap, bitmap + 4 * groups, bitmap + 8 * groups, nbytes)
    layout = struct.pack("6q", groups, pools, *offsets)
    size = codec.group_size
    format_ = struct.pack("i4xq", size, codec.payload_nbytes)
    shift = struct.pack("i4x", size.bit_length() - 1)
    return struct.pack("q", ROW_ELEMENTS) + layout + format_ + shift


def _launch(symbol: str, arguments: tuple[Any, ...], *result: Any) -> Launch:
    blocks = ROWS * ROW_ELEMENTS // _POOL
    return Launch(symbol, blocks, arguments, (result,), threads=_POOL_THREADS)


def _rectified(dtype: str) -> np.ndarray:
    return np.asarray(jnp.maximum(example(dtype), 0))


def _encode(codec: SparseFixedRate, dtype: str) -> Launch:
    x = _rectified(dtype)
    expected = codec.encode_reference(jnp.asarray(x))
    rows = np.zeros(expected.shape, np.uint8)
    is_stochastic = codec.rounding == "stochastic"
    arguments = (x, rows, _pools(codec), is_stochastic, codec.seed, 1)
    symbol = f"EncodeKernelINS_{MANGLED[dtype]}E"
    return _launch(symbol, arguments, rows, expected)


def _decode(codec: SparseFixedRate, dtype: str) -> Launch:
    x = _rectified(dtype)
    encoded = codec.encode_reference(jnp.asarray(x))
    rows, out = np.array(encoded), np.zeros_like(x)
    arguments = (rows, out, _pools(codec), 8 * x.itemsize, 1)
    symbol = f"DecodeKernelINS_{MANGLED[dtype]}E"
    expected = codec.decode_reference(encoded, x.shape, x.dtype)
    return _launch(symbol, arguments, out, expected)


def _mask(codec: SparseFixedRate, dtype: str) -> Launch:
    x = _rectified(dtype)
    rows = np.array(codec.encode_reference(jnp.asarray(x)))
    mask = np.zeros(x.shape, np.bool_)
    arguments = (rows, mask, _pools(codec), 8 * x.itemsize, 1)
    launch = _launch("DecodeKernelIhE", arguments, mask, x > 0)
    # Bitmap and scales, a byte per element; values only where a group is dense.
    read = rows.nbytes - ROWS * (ROW_ELEMENTS // _POOL) * codec.payload_nbytes
    return dataclasses.replace(launch, ideal_nbytes=read + mask.nbytes)


def _cases() -> tuple[Case, ...]:
    return tuple(
        Case(f"{name} {kind}", functools.partial(prepare, codec))
        for name, codec in _CODECS.items()
        for kind, prepare in (("encode", _encode), ("decode", _decode))
    )


# Two thread blocks, 1024 threads, on a multiprocessor of 65536 registers; each has 128
# bytes of float32 on their way from memory.
KERNELS = Kernels(
    folder="sparse_fixed_rate",
    cases=(
        *_cases(),
        Case("SparseFixedRate 4.125 mask", functools.partial(_mask, SparseFixedRate())),
    ),
    budgets=(Budget("Kernel", registers=64, has_wide_loads=True),),
)
