"""How the simulator starts a CUDA kernel, and what the kernel may spend."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

ROWS, ROW_ELEMENTS = 2, 16384
WARP_THREADS, BLOCK_THREADS = 32, 256
# A type's place in the mangled name of a kernel.
MANGLED = {"float32": "3F32", "bfloat16": "4Bf16", "float16": "3F16"}


@dataclasses.dataclass(frozen=True)
class Launch:
    """One launch of one kernel, on `example(dtype)`.

    `symbol` is a part of the kernel's mangled name that no other kernel of the folder
    has. `arguments` are those of `ptx.Launch`. The least possible traffic reads or
    writes each array among them once, unless `ideal_nbytes` says how many bytes it is.
    """

    symbol: str
    blocks: int
    arguments: tuple[Any, ...]
    results: tuple[tuple[np.ndarray, Any], ...]  # what is written, and the reference's
    threads: int = BLOCK_THREADS
    ideal_nbytes: int | None = None
    allowed_excess: float = 1.05  # bytes moved, the least possible being 1

    @property
    def least_nbytes(self) -> int:
        """Bytes that the launch cannot do without."""
        if self.ideal_nbytes is not None:
            return self.ideal_nbytes
        return sum(one.nbytes for one in self.arguments if isinstance(one, np.ndarray))


@dataclasses.dataclass(frozen=True)
class Case:
    """A kernel of the table: `prepare(dtype)` makes its launch."""

    name: str
    prepare: Callable[[str], Launch]
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Budget:
    """What ptxas may spend on the kernels whose mangled name `pattern` is found in.

    `has_wide_loads`: reads 16 bytes with one instruction of a thread.
    """

    pattern: str
    registers: int
    has_wide_loads: bool


@dataclasses.dataclass(frozen=True)
class Kernels:
    """The kernels of one codec: `xla_ffi/<folder>/<folder>_cuda.cu`.

    The first budget whose pattern is found counts; every kernel must have one.
    """

    folder: str
    cases: tuple[Case, ...]
    budgets: tuple[Budget, ...]


def example(dtype: str) -> np.ndarray:
    """The array that all kernels are given: about half of it positive."""
    x = np.random.default_rng(0).normal(size=(ROWS, ROW_ELEMENTS))
    return np.asarray(jnp.asarray(x, dtype))


def blocks_of_warps(warps: int) -> int:
    """Thread blocks for `warps` warps, each with work of its own."""
    return -(-warps * WARP_THREADS // BLOCK_THREADS)
