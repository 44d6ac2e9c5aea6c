"""`python -m bench step`: time of a training step relative to plain, in turns.

The network is the demo's ResNet-18; a step is the gradient and the optimiser's update.
"""

import argparse
import statistics
from typing import Any

from jax import Array
from rich.console import Console
from rich.progress import track

from bench import data, methods, record, training
from bench.measure import interleaved_ms, relative_time
from bench.methods import Method
from bench.tables import show

HEADER = ("method", "median", "fastest", "step / plain", "plain / step")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    settings = training.Settings()
    parser.add_argument("--batch", type=int, default=settings.batch)
    parser.add_argument("--crop", type=int, default=settings.crop, help="image size")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--methods", nargs="+", help="default: the demo's")


class _Advancing:
    """A call takes the next step of one training run, always with the same batch."""

    def __init__(self, method: Method, settings: training.Settings, batch: Any):
        self.stepper = training.Stepper(method, settings)
        self.state = training.initial_state(settings, seed=0)
        self.batch = batch

    def __call__(self) -> Array:
        self.state, value = self.stepper(self.state, *self.batch)
        return value


def run(options: argparse.Namespace, console: Console) -> None:
    """Times each method's step; shows a table and records it."""
    settings = training.Settings(batch=options.batch, crop=options.crop)
    chosen = methods.select(options.methods, methods.DEMO)
    batch = next(training.batches(data.mnist_5k().train, settings, seed=0))
    calls = {}
    for method in track(chosen, "compiling", console=console, transient=True):
        calls[method.name] = _Advancing(method, settings, batch)
    with console.status("stepping"):
        times = interleaved_ms(calls, rounds=options.rounds, warm_up=3)
    relative = relative_time(times, methods.PLAIN.name)
    title = f"ResNet-18, one training step, batch {options.batch}, size {options.crop}"
    rows: list[dict[str, Any]] = [
        {
            "problem": title,
            "method": name,
            "median_ms": statistics.median(found),
            "fastest_ms": min(found),
            "relative_step_time": relative[name],
        }
        for name, found in times.items()
    ]
    cells = [
        (
            row["method"],
            f"{row['median_ms']:.1f} ms",
            f"{row['fastest_ms']:.1f} ms",
            f"{row['relative_step_time']:.3f}",
            f"{1 / row['relative_step_time']:.3f}",
        )
        for row in rows
    ]
    show(console, title, HEADER, cells)
    console.print(f"recorded in {record.append('step', rows)}")
