"""`python -m bench compile`: time to trace, plan and compile a gradient.

Planning is what the pass adds to tracing. Nothing is run, and XLA's own part differs
from run to run: the median of `--rounds` compilations counts.
"""

import argparse
import statistics
import time
from typing import Any

import jax
from rich.console import Console
from rich.progress import track

from bench import methods, problems, record
from bench.measure import gradient, relative_time
from bench.methods import Method
from bench.problems import Problem
from bench.tables import show

HEADER = ("method", "trace and plan", "lower and compile", "together", "this / plain")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224, help="height and width")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", help="default: the demo's")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles ResNet-50 in each way, in turns; shows a table and records it."""
    problem = problems.resnet50_imagenet(batch=options.batch, size=options.size)
    chosen = methods.select(options.methods, methods.DEMO)
    traced: dict[str, list[float]] = {method.name: [] for method in chosen}
    compiled: dict[str, list[float]] = {method.name: [] for method in chosen}
    # A first round imports and warms up what later ones find ready.
    for turn in track(range(options.rounds + 1), problem.name, console=console):
        for method in chosen:
            trace_s, compile_s = seconds(problem, method)
            if turn > 0:
                traced[method.name].append(trace_s)
                compiled[method.name].append(compile_s)
    rows = _rows(problem, traced, compiled)
    cells = [
        (
            row["method"],
            f"{row['trace_s']:.2f} s",
            f"{row['compile_s']:.2f} s",
            f"{row['total_s']:.2f} s",
            f"{row['relative_total']:.2f}",
        )
        for row in rows
    ]
    show(console, f"{problem.name}, gradient", HEADER, cells)
    console.print(f"recorded in {record.append('compile', rows)}")


def seconds(problem: Problem, method: Method) -> tuple[float, float]:
    """Time to trace (and plan), time to lower and compile; nothing is reused."""
    jax.clear_caches()
    args = problem.avals()
    start = time.perf_counter()
    trace = jax.jit(gradient(problem.loss(method))).trace(*args)
    between = time.perf_counter()
    trace.lower().compile()
    return between - start, time.perf_counter() - between


def _rows(
    problem: Problem, traced: dict[str, list[float]], compiled: dict[str, list[float]]
) -> list[dict[str, Any]]:
    total = {
        name: [a + b for a, b in zip(traced[name], compiled[name], strict=True)]
        for name in traced
    }
    relative = relative_time(total, methods.PLAIN.name)
    return [
        {
            "problem": problem.name,
            "method": name,
            "trace_s": statistics.median(traced[name]),
            "compile_s": statistics.median(compiled[name]),
            "total_s": statistics.median(total[name]),
            "relative_total": relative[name],
        }
        for name in traced
    ]
