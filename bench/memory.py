"""`python -m bench memory`: what XLA allocates for one gradient, and what is saved.

The gradient is compiled, never run, so sizes beyond this machine's memory are no
problem; with `--h100` it is compiled for an H100, which need not be there.
"""

import argparse
import time
from typing import Any

from rich.console import Console

from bench import deviceless, methods, problems, record
from bench.measure import compile_gradient, saved_bytes, temp_bytes
from bench.methods import Method
from bench.problems import Problem
from bench.tables import megabytes, show

HEADER = ("method", "saved for backward", "XLA temp", "plain / this", "compile")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--batch", type=int, help="ResNet-50's (default 16, H100 64)")
    parser.add_argument("--size", type=int, default=224, help="its image size")
    parser.add_argument("--methods", nargs="+", help="default: all of them")
    parser.add_argument(
        "--problems", nargs="+", default=["resnet50", "mlp"], choices=[*_PROBLEMS]
    )
    parser.add_argument("--h100", action="store_true", help="compile for an H100")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles each problem in each way; shows a table and records it."""
    if options.h100:
        deviceless.require()
    device = "H100 (compiled, not run)" if options.h100 else "this machine"
    for name in options.problems:
        problem = _PROBLEMS[name](options)
        rows = []
        for method in methods.select(options.methods, methods.ALL):
            with console.status(f"{problem.name}: {method.name}"):
                rows.append(measure(problem, method, h100=options.h100))
        show(console, f"{problem.name}, {device}", HEADER, _cells(rows))
        path = record.append("memory", [row | {"device": device} for row in rows])
        console.print(f"recorded in {path}")


def measure(problem: Problem, method: Method, *, h100: bool) -> dict[str, Any]:
    """One row of the table: bytes and seconds."""
    loss, args = problem.loss(method), problem.avals()
    compile_for = deviceless.compile_gradient if h100 else compile_gradient
    start = time.perf_counter()
    compiled = compile_for(loss, args)
    return {
        "problem": problem.name,
        "method": method.name,
        "compile_s": time.perf_counter() - start,
        "temp_bytes": temp_bytes(compiled),
        "saved_bytes": saved_bytes(loss, args),
    }


def _cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    plain = next(row for row in rows if row["method"] == methods.PLAIN.name)
    return [
        (
            row["method"],
            megabytes(row["saved_bytes"]),
            megabytes(row["temp_bytes"]),
            f"{plain['temp_bytes'] / row['temp_bytes']:.2f}",
            f"{row['compile_s']:.1f} s",
        )
        for row in rows
    ]


def _resnet50(options: argparse.Namespace) -> Problem:
    batch = options.batch or (64 if options.h100 else 16)
    return problems.resnet50_imagenet(batch=batch, size=options.size)


_PROBLEMS = {
    "resnet50": _resnet50,
    "mlp": lambda options: problems.gelu_mlp(),
    "gpt": lambda options: problems.gpt_small(),
    "vgg16": lambda options: problems.vgg16_small(),
}
