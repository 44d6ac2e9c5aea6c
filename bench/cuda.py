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
import subprocess
import tempfile
from typing import Any

import jax.numpy as jnp
from rich.console import Console

from bench import cuda_kernels, ptx, ptx_code, record
from bench.cuda_kernels.launch import ROW_ELEMENTS, ROWS
from bench.tables import show

SOURCES = pathlib.Path(__file__).parent.parent
# The rounding of each operation is part of the formats.
FLAGS = ("-std=c++17", "-O3", "-fmad=false", f"-I{SOURCES}")
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
    """One launch, per element."""

    nbytes: float
    ideal_nbytes: float
    instructions: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line: nothing."""


def run(options: argparse.Namespace, console: Console) -> None:
    """Counts each kernel's traffic; shows a table and records it."""
    del options
    rows = []
    for kernels in cuda_kernels.ALL:
        for case in kernels.cases:
            for dtype in case.dtypes:
                traffic = count(kernels.folder, case.prepare(dtype))
                rows.append(_row(case.name, dtype, traffic))
    cells = [tuple(str(value) for value in row.values()) for row in rows]
    show(console, "CUDA kernels: counted, not timed", HEADER, cells)
    console.print(f"recorded in {record.append('cuda', rows)}")


def _row(name: str, dtype: str, traffic: Traffic) -> dict[str, Any]:
    copied = 2 * jnp.dtype(dtype).itemsize  # read and written
    return {
        "kernel": name,
        "dtype": dtype,
        "nbytes": round(traffic.nbytes, 3),
        "ideal_nbytes": round(traffic.ideal_nbytes, 3),
        "instructions": round(traffic.instructions, 1),
        "ceiling": round(copied / traffic.nbytes, 2),
    }


def count(folder: str, launch: cuda_kernels.Launch) -> Traffic:
    """Runs `launch` of a kernel of `xla_ffi/<folder>`, in the simulator."""
    (kernel,) = (one for one in compiled(folder) if launch.symbol in one.name)
    arguments = launch.arguments
    counts = ptx.Launch(kernel, launch.blocks, launch.threads, arguments).counts
    elements = ROWS * ROW_ELEMENTS
    sectors = counts.load_sectors + counts.store_sectors
    return Traffic(
        nbytes=sectors * ptx.SECTOR_BYTES / elements,
        ideal_nbytes=launch.least_nbytes / elements,
        instructions=counts.instructions / elements,
    )


def source_of(folder: str) -> pathlib.Path:
    """The kernels of `xla_ffi/<folder>`."""
    return SOURCES / "xla_ffi" / folder / f"{folder}_cuda.cu"


@functools.cache
def compiled(folder: str) -> list[ptx_code.Kernel]:
    """The kernels of `xla_ffi/<folder>`, as PTX."""
    return ptx_code.parse(ptx_text(folder))


@functools.cache
def ptx_text(folder: str) -> str:
    """What nvcc makes of those kernels, for an A100 and what came after."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise FileNotFoundError(
            "no nvcc in PATH: `python -m bench cuda` compiles with it."
        )
    with tempfile.TemporaryDirectory() as temporary:
        target = pathlib.Path(temporary) / "kernels.ptx"
        command = [nvcc, "-ptx", "-arch=compute_80", *FLAGS, "-o", str(target)]
        subprocess.run([*command, str(source_of(folder))], check=True)
        return target.read_text()
