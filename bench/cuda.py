"""`python -m bench cuda`: what the CUDA kernels move, and how fast that lets them be.

No GPU runs: nvcc compiles the kernels to PTX, a simulator runs that and counts. The
last column is a ceiling, not a measurement: how fast the kernel is if memory alone
limits it, where a copy of the dense array is 1. It needs nvcc.
"""

import argparse
import dataclasses
import functools
import pathlib
import shutil
import struct
import subprocess
import tempfile
from typing import Any

import jax.numpy as jnp
import numpy as np
from rich.console import Console

from bench import ptx, ptx_code, record
from bench.tables import show
from epmc_jax.codecs import BitMask, GroupQuant

SOURCES = pathlib.Path(__file__).parent.parent
ROWS, ROW_ELEMENTS = 2, 16384
THREADS = 256
CODECS: dict[str, BitMask | GroupQuant] = {
    "BitMask": BitMask(),
    "GroupQuant 8": GroupQuant(bit_width=8),
    "GroupQuant 8 stochastic": GroupQuant(bit_width=8, rounding="stochastic"),
    "GroupQuant 4": GroupQuant(bit_width=4),
    "GroupQuant 4 stochastic": GroupQuant(bit_width=4, rounding="stochastic"),
    "GroupQuant 2": GroupQuant(bit_width=2),
}
DTYPES = {"float32": "3F32", "bfloat16": "4Bf16"}
HEADER = (
    "kernel",
    "dtype",
    "bytes / element",
    "least possible",
    "instructions / element",
    "ceiling, copy = 1",
)


@dataclasses.dataclass(frozen=True)
class Traffic:
    """One launch, per element; `result` is what it wrote."""

    dense_nbytes: int
    nbytes: float
    ideal_nbytes: float
    instructions: float
    result: np.ndarray


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line: nothing."""


def run(options: argparse.Namespace, console: Console) -> None:
    """Counts each kernel's traffic; shows a table and records it."""
    del options
    rows = []
    for name, codec in CODECS.items():
        for dtype in DTYPES:
            for kind, count in (("encode", encode), ("decode", decode)):
                traffic = count(codec, dtype)
                rows.append(_row(f"{name} {kind}", dtype, traffic))
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    show(console, "CUDA kernels: counted, not timed", HEADER, cells)
    console.print(f"recorded in {record.append('cuda', rows)}")


def _row(name: str, dtype: str, traffic: Traffic) -> dict[str, Any]:
    copied = 2 * traffic.dense_nbytes  # read and written
    return {
        "kernel": name,
        "dtype": dtype,
        "nbytes": round(traffic.nbytes, 3),
        "ideal_nbytes": round(traffic.ideal_nbytes, 3),
        "instructions": round(traffic.instructions, 1),
        "ceiling": round(copied / traffic.nbytes, 2),
    }


def example(dtype: str) -> np.ndarray:
    """The array that all kernels are given: about half of it positive."""
    x = np.random.default_rng(0).normal(size=(ROWS, ROW_ELEMENTS))
    return np.asarray(jnp.asarray(x, dtype))


def encode(codec: BitMask | GroupQuant, dtype: str) -> Traffic:
    """Runs the encoder of `codec` on `example(dtype)`."""
    x = example(dtype)
    rows = np.zeros(codec.encoded_shape(x.shape, x.dtype), np.uint8)
    return _launch(codec, "EncodeKernel", x, rows, dtype)


def decode(codec: BitMask | GroupQuant, dtype: str) -> Traffic:
    """Runs the decoder of `codec` on the encoded `example(dtype)`."""
    x = example(dtype)
    rows = np.array(codec.encode_reference(jnp.asarray(x)))
    out = np.zeros(x.shape, codec.decoded_dtype(x.dtype))
    return _launch(codec, "DecodeKernel", rows, out, dtype)


def _launch(codec: Any, kind: str, source: Any, out: Any, dtype: str) -> Traffic:
    is_mask = isinstance(codec, BitMask)
    describe = _bit_mask if is_mask else _group_quant
    wanted, warps, arguments = describe(codec, kind, source, out, dtype)
    kernels = compiled("bit_mask" if is_mask else "group_quant")
    kernel = next(one for one in kernels if wanted in one.name)
    blocks = warps // (THREADS // ptx.WARP)
    counts = ptx.Launch(kernel, blocks, THREADS, arguments).counts
    elements = ROWS * ROW_ELEMENTS
    sectors = counts.load_sectors + counts.store_sectors
    return Traffic(
        dense_nbytes=(source if kind == "EncodeKernel" else out).dtype.itemsize,
        nbytes=sectors * ptx.SECTOR_BYTES / elements,
        ideal_nbytes=(source.nbytes + out.nbytes) / elements,
        instructions=counts.instructions / elements,
        result=out,
    )


def _bit_mask(
    codec: BitMask, kind: str, source: Any, out: Any, dtype: str
) -> tuple[str, int, list[Any]]:
    """The kernel's name, as far as it matters, its warps, and its arguments."""
    del codec
    tiles = ROW_ELEMENTS // 1024
    types = f"INS_{DTYPES[dtype]}E" if kind == "EncodeKernel" else ""
    numbers = struct.pack("II", tiles, ROWS * tiles)
    return kind + types, ROWS * tiles, [source, out, ROW_ELEMENTS, numbers, 1]


def _group_quant(
    codec: GroupQuant, kind: str, source: Any, out: Any, dtype: str
) -> tuple[str, int, list[Any]]:
    groups = ROW_ELEMENTS // codec.group_size
    nbytes = codec.row_nbytes(ROW_ELEMENTS, jnp.dtype(dtype))
    layout = struct.pack("4q", groups, nbytes - 8 * groups, nbytes - 4 * groups, nbytes)
    loads = codec.group_size * jnp.dtype(dtype).itemsize // (16 * ptx.WARP)
    wanted = f"{kind}INS_{DTYPES[dtype]}ELi{codec.bit_width}ELi{loads}E"
    arguments = [source, out, ROW_ELEMENTS, layout, codec.group_size]
    if kind == "EncodeKernel":
        wanted += f"Lb{int(codec.rounding == 'stochastic')}E"
        arguments.append(codec.seed)
    numbers = struct.pack("II", groups, ROWS * groups)
    return wanted, ROWS * groups, [*arguments, numbers, 1]


@functools.cache
def compiled(codec: str) -> list[ptx_code.Kernel]:
    """The kernels of `codec`, a folder of `xla_ffi`."""
    return ptx_code.parse(ptx_text(codec))


@functools.cache
def ptx_text(codec: str) -> str:
    """What nvcc makes of the kernels of `codec`, for an A100 and what came after."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise FileNotFoundError(
            "no nvcc in PATH: `python -m bench cuda` compiles with it."
        )
    source = SOURCES / "xla_ffi" / codec / f"{codec}_cuda.cu"
    with tempfile.TemporaryDirectory() as folder:
        target = pathlib.Path(folder) / "kernels.ptx"
        flags = ["-std=c++17", "-O3", "-fmad=false", "-arch=compute_80", f"-I{SOURCES}"]
        subprocess.run([nvcc, "-ptx", *flags, "-o", target, source], check=True)
        return target.read_text()
