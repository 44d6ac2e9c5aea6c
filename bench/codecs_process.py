"""One configuration of `python -m bench codecs`, measured in a process of its own.

The process has as many cores as the configuration has threads, and an allocator that
keeps its pages. By default glibc returns a large array to the system when it is freed,
and the next result faults all its pages in: with pages of 4 KiB that takes five times
as long as copying 64 MiB, and it is no property of a codec.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bench.codecs_subject import Subject

BEST = "best"
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        # All threads take from one heap, and nothing is mapped outside of it (another
        # arena would map what exceeds its 64 MiB, whatever mmap_max says) ...
        "glibc.malloc.arena_max=1",
        "glibc.malloc.mmap_max=0",
        # ... or returned to the system.
        f"glibc.malloc.trim_threshold={1 << 36}",
    )
)
HEAP_NBYTES = 1 << 30
"""Touched before anything is measured: results come from pages that are there."""


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What a process measures: `names` are subjects' names, `isa` as in `EPMC_ISA`."""

    threads: int
    isa: str
    dtype: str
    names: tuple[str, ...]
    data: str
    nbytes: int
    seconds: float

    def environment(self) -> dict[str, str]:
        """The variables that a process must be started with."""
        wanted = {
            "GLIBC_TUNABLES": TUNABLES,
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": str(self.threads),
        }
        if self.isa != BEST:
            wanted["EPMC_ISA"] = self.isa
        kept = {name: text for name, text in os.environ.items() if name != "EPMC_ISA"}
        return kept | wanted

    def measure(self) -> Iterator[dict[str, Any]]:
        """Starts a process; yields its messages as they come.

        A message is `{"started": name}` or a row. Raises: `RuntimeError` with what the
        process wrote if it fails. Leaving the iterator ends the process.
        """
        command = [sys.executable, "-m", "bench.codecs_process", json.dumps(self.text)]
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(
                command,
                env=self.environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
            contextlib.ExitStack() as stack,
        ):
            stack.callback(process.kill)
            yield from map(json.loads, process.stdout or ())
            if process.wait() != 0:
                errors.seek(0)
                raise RuntimeError(f"measuring {self} failed:\n{errors.read()}")

    def wants(self, subject: Subject) -> bool:
        """True if the subject is among what is measured."""
        return subject.name in self.names and self.dtype in subject.dtypes

    @property
    def text(self) -> dict[str, Any]:
        """The fields, as JSON takes them."""
        return dataclasses.asdict(self)


class Copier:
    """memcpy of an array into another, in `threads` parts at the same time."""

    def __init__(self, source: np.ndarray, threads: int):
        source = source.reshape(-1).view(np.uint8)
        self.target = np.zeros_like(source)
        parts = [np.array_split(array, threads) for array in (self.target, source)]
        self.parts = list(zip(*parts, strict=True))
        self.pool = ThreadPoolExecutor(max(1, threads - 1))

    def __call__(self) -> None:
        others = [self.pool.submit(np.copyto, *part) for part in self.parts[1:]]
        np.copyto(*self.parts[0])
        for other in others:
            other.result()


def pin(threads: int) -> None:
    """Leaves the process `threads` cores; XLA makes as many threads when it starts.

    Raises: `ValueError` if it does not have as many.
    """
    cores = sorted(os.sched_getaffinity(0))
    if threads > len(cores):
        raise ValueError(
            f"{threads} threads need as many cores, this process has {len(cores)}: "
            "lower --threads."
        )
    os.sched_setaffinity(0, set(cores[-threads:]))


def xla_threads() -> int:
    """How many threads XLA's pool for kernels has in this process."""
    tasks = pathlib.Path("/proc/self/task").glob("*/comm")
    return sum("XLAEigen" in comm.read_text() for comm in tasks)


def page_faults() -> int:
    """Page faults of this process so far that needed no disk."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def main() -> None:
    """Measures the configuration in `argv`; a line of JSON per message."""
    parser = argparse.ArgumentParser()
    parser.add_argument("configuration")
    settings = json.loads(parser.parse_args().configuration)
    configuration = Configuration(**settings | {"names": tuple(settings["names"])})
    pin(configuration.threads)
    np.ones(HEAP_NBYTES, np.uint8)
    # jax counts the cores when it starts, so what imports it comes after `pin`.
    from bench import codecs_measure

    for message in codecs_measure.messages(configuration):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
