"""`python -m bench step`: time of a training step relative to plain, in turns.

A step is the gradient and Adam's update, always from the same state, of the eight
networks at sizes that two cores take about a second for. Time is relative to plain in
the same round; XLA's temp bytes of the same program stand beside it.
"""

import argparse
import functools
import statistics
from typing import Any

import jax
import optax
from rich.console import Console

from bench import methods, record
from bench.measure import interleaved_ms, temp_bytes
from bench.networks import NETWORKS
from bench.progress import progress
from bench.steps import State, step_function
from bench.tables import megabytes, show

HEADER = ("method", "median", "step / plain", "quartiles", "XLA temp", "temp / plain")
KEYS = ("network", "method")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--methods", nargs="+", help="default: all of them")


def run(options: argparse.Namespace, console: Console) -> None:
    """Times each network's step in each way; shows a table and records it."""
    chosen = methods.select(options.methods, methods.ALL)
    names = options.networks or [*NETWORKS]
    with progress(console) as bar:
        # One compilation and one warm-up before the rounds.
        work = len(chosen) * (2 + options.rounds)
        task = bar.add_task("", total=len(names) * work)
        for name in names:
            bar.update(task, description=name)
            rows = measure(
                name, chosen, rounds=options.rounds, advance=lambda: bar.advance(task)
            )
            record.append("step", rows)
            title = f"{rows[0]['problem']}, one training step"
            show(console, title, HEADER, cells(rows))
    console.print(f"recorded in {record.path_of('step')}")


def measure(
    name: str, chosen: list[methods.Method], *, rounds: int, advance: Any
) -> list[dict[str, Any]]:
    """A row per method; `advance()` is called after each compilation and each step."""
    problem = NETWORKS[name].timed_problem()
    optimiser = optax.adam(1e-4)
    params, state, *batch = problem.arguments(seed=0)
    start = State(params, state, jax.jit(optimiser.init)(params))
    temps, calls = {}, {}

    def call(program: jax.stages.Compiled) -> Any:
        value = jax.block_until_ready(program(start, *batch))
        advance()
        return value

    for method in chosen:
        step = jax.jit(step_function(problem.loss(method), optimiser))
        program = step.lower(start, *batch).compile()
        temps[method.name] = temp_bytes(program)
        calls[method.name] = functools.partial(call, program)
        advance()
    times = interleaved_ms(calls, rounds=rounds)
    plain = times[methods.PLAIN.name]
    return [
        {
            "network": name,
            "problem": problem.name,
            "method": method,
            "rounds": rounds,
            "median_ms": statistics.median(found),
            "relative_step_times": _quartiles(found, plain),
            "temp_bytes": temps[method],
            "relative_temp": temps[method] / temps[methods.PLAIN.name],
        }
        for method, found in times.items()
    ]


def _quartiles(times: list[float], plain: list[float]) -> list[float]:
    """First quartile, median and third one of the ratios, round by round."""
    ratios = [this / other for this, other in zip(times, plain, strict=True)]
    return statistics.quantiles(ratios, n=4, method="inclusive")


def cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The table's rows, of one network."""
    found: list[tuple[str, ...]] = []
    for row in rows:
        first, median, third = row["relative_step_times"]
        found.append(
            (
                row["method"],
                f"{row['median_ms']:.0f} ms",
                f"{median:.2f}",
                f"{first:.2f} to {third:.2f}",
                megabytes(row["temp_bytes"]),
                f"{row['relative_temp']:.2f}",
            )
        )
    return found
