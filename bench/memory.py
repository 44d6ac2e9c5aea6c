"""`python -m bench memory`: what XLA allocates for one gradient of eight networks.

The gradient is compiled, never run, so sizes beyond this machine's memory are no
problem; with `--h100` it is compiled for an H100, which need not be there. A row is
recorded as soon as it is there; `--resume` takes up those of this commit.
"""

import argparse
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from bench import deviceless, methods, record, summaries
from bench.largest_batch import MEMORIES_GB, MOST_BATCH, largest_batch
from bench.measure import compile_gradient, program_bytes, saved_bytes
from bench.methods import Method
from bench.networks import NETWORKS
from bench.problems import Problem
from bench.progress import progress
from bench.tables import megabytes, show

HEADER = ("method", "saved for backward", "XLA temp", "plain / this", "compile")
DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16}
DEVICES = {False: "this machine", True: "H100 (compiled, not run)"}
# What a quantity is of: rows that agree in these replace each other.
KEYS = ("network", "method", "dtype", "device")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS])
    parser.add_argument("--batch", type=int, help="default: one for each network")
    parser.add_argument("--methods", nargs="+", help="default: all of them")
    parser.add_argument("--dtype", choices=[*DTYPES], default="f32")
    parser.add_argument("--h100", action="store_true", help="compile for an H100")
    parser.add_argument(
        "--largest-batch",
        action="store_true",
        help=f"that fits {', '.join(map(str, MEMORIES_GB))} GB, too",
    )
    parser.add_argument("--resume", action="store_true", help="keep what is recorded")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles each network in each way; shows tables and records them."""
    if options.h100:
        deviceless.require()
    chosen = [
        method
        for method in methods.select(options.methods, methods.ALL)
        # The policies' own floats are jnp code there.
        if not (options.h100 and method in methods.IN_JNP)
    ]
    names = options.networks or [*NETWORKS]
    rows: list[dict[str, Any]] = []
    with progress(console) as bar:
        task = bar.add_task("", total=len(names) * len(chosen))
        for name in names:
            for method in chosen:
                bar.update(task, description=f"{name}, {method.name}")
                rows.append(_row(name, method, options))
                bar.advance(task)
            _show(console, [row for row in rows if row["network"] == name])
    summaries.show_memory(console, rows)
    console.print(f"recorded in {record.path_of('memory')}")


def _row(name: str, method: Method, options: argparse.Namespace) -> dict[str, Any]:
    """Measured and recorded, or taken from the record."""
    problem = _problem(name, options, options.batch)
    row: dict[str, Any] = {
        "network": name,
        "problem": problem.name,
        "method": method.name,
        "dtype": options.dtype,
        "device": DEVICES[options.h100],
    }
    known = record.already("memory", **row) if options.resume else None
    if known and not (options.largest_batch and "largest_batch" not in known):
        return known
    row |= measure(problem, method, h100=options.h100)
    if options.largest_batch and "temp_bytes" in row:
        row["largest_batch"] = _largest(name, method, options)
    record.append("memory", [row])
    return row


def measure(problem: Problem, method: Method, *, h100: bool) -> dict[str, Any]:
    """Bytes and seconds, or what the compiler says instead."""
    start = time.perf_counter()
    try:
        compiled = _compile(problem, method, deviceless.H100_BYTES if h100 else None)
    except Exception as error:  # XLA's own errors have no common class
        if method is not methods.OFFLOAD:
            raise
        return {"error": str(error).partition("\n")[0]}
    return {
        "compile_s": round(time.perf_counter() - start, 2),
        **program_bytes(compiled),
        "saved_bytes": saved_bytes(problem.loss(method), problem.avals()),
    }


def _compile(
    problem: Problem, method: Method, h100_bytes: int | None
) -> jax.stages.Compiled:
    """The gradient, for an H100 with so much memory or, None, for this machine."""
    loss, args = problem.loss(method), problem.avals()
    if h100_bytes is None:
        return compile_gradient(loss, args)
    return deviceless.compile_gradient(loss, args, h100_bytes)


def _problem(name: str, options: argparse.Namespace, batch: int | None) -> Problem:
    problem = NETWORKS[name].problem(h100=options.h100, batch=batch)
    return problem.in_dtype(DTYPES[options.dtype])


def _largest(name: str, method: Method, options: argparse.Namespace) -> dict[str, int]:
    """By device memory in GB: the largest batch that fits."""
    found: dict[str, int] = {}
    known = (1, 16)
    for gb in MEMORIES_GB:
        nbytes = functools.partial(_device_bytes, name, method, options, gb)
        batch = largest_batch(functools.cache(nbytes), 1e9 * gb, known)
        found[f"{gb} GB"] = batch
        # The line from there is a better guess than that of small batches.
        known = (batch, 2 * batch) if 0 < batch <= MOST_BATCH // 2 else known
    return found


def _device_bytes(
    name: str, method: Method, options: argparse.Namespace, gb: int, batch: int
) -> int:
    """What the gradient needs of a device that has `gb` GB."""
    problem = _problem(name, options, batch)
    h100_bytes = gb * 10**9 if options.h100 else None
    return program_bytes(_compile(problem, method, h100_bytes))["device_bytes"]


def _show(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    plain = rows[0]
    title = f"{plain['problem']}, {plain['dtype']}, {plain['device']}"
    batches = [f"batch in {name}" for name in plain.get("largest_batch", {})]
    cells = []
    for row in rows:
        if "error" in row:
            cells.append((row["method"], "does not compile"))
            continue
        cells.append(
            (
                row["method"],
                megabytes(row["saved_bytes"]),
                megabytes(row["temp_bytes"]),
                f"{plain['temp_bytes'] / row['temp_bytes']:.2f}",
                f"{row['compile_s']:.1f} s",
                *(str(batch) for batch in row.get("largest_batch", {}).values()),
            )
        )
    show(console, title, (*HEADER, *batches), cells)
