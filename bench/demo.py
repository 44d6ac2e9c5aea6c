"""`python -m bench demo`: one network trained in five ways, with the same batches.

Writes `build/demo/demo.json` and `build/demo/demo.png`.
"""

import argparse
import dataclasses
import itertools
import json
import pathlib
import statistics
import time
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench import data, demo_training, environment, figure, methods, record
from bench.measure import relative_time, saved_bytes, temp_bytes
from bench.methods import Method
from bench.tables import megabytes, show

OUTPUT = record.BUILD / "demo"
HEADER = ("method", "saved for backward", "XLA temp", "step / plain", "test accuracy")
# The steps after compilation that still warm caches and the allocator up.
WARM_UP_STEPS = 3


@dataclasses.dataclass
class Run:
    """One method with one seed: what it costs, and what came out of it."""

    method: str
    seed: int
    saved_bytes: int
    temp_bytes: int
    compile_s: float
    losses: list[float] = dataclasses.field(default_factory=list)
    steps_ms: list[float] = dataclasses.field(default_factory=list)
    accuracy: float = 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    settings = demo_training.Settings()
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 (1)")
    parser.add_argument("--batch", type=int, default=settings.batch)
    parser.add_argument("--steps", type=int, default=settings.steps)
    parser.add_argument("--crop", type=int, default=settings.crop, help="image size")
    parser.add_argument("--methods", nargs="+", help="default: all five")
    parser.add_argument("--data", type=pathlib.Path, help="directory with idx files")
    parser.add_argument("--fashion", action="store_true", help="Debian's Fashion-MNIST")
    parser.add_argument("--quick", action="store_true", help="a few steps only")


def run(options: argparse.Namespace, console: Console) -> None:
    """Trains, with live progress; shows the table; writes JSON and the picture."""
    settings = demo_training.Settings(
        batch=options.batch,
        steps=10 if options.quick else options.steps,
        crop=options.crop,
    )
    dataset = _dataset(options)
    demo_training.require_size(dataset, settings)
    chosen = methods.select(options.methods, methods.DEMO)
    console.print(
        f"ResNet-18 on {dataset.name}: {len(dataset.train)} training images, "
        f"{settings.steps} steps of {settings.batch}, {options.seeds} seed(s)"
    )
    steppers = _compile(chosen, settings, console)
    costs = _costs(chosen, steppers, settings)
    runs = []
    for seed in range(options.seeds):
        seeded = [
            dataclasses.replace(cost, seed=seed, losses=[], steps_ms=[])
            for cost in costs
        ]
        _train(seeded, steppers, dataset, settings, console)
        runs += seeded
    rows = summary(runs)
    show(console, f"ResNet-18 on {dataset.name}", HEADER, _cells(rows))
    _write(rows, runs, dataset.name, settings, console)


def summary(runs: list[Run]) -> list[dict[str, Any]]:
    """One row per method, over its seeds; times relative to the first method's."""
    names = list(dict.fromkeys(run.method for run in runs))
    grouped = {name: [run for run in runs if run.method == name] for name in names}
    times = {
        name: list(
            itertools.chain.from_iterable(r.steps_ms[WARM_UP_STEPS:] for r in group)
        )
        for name, group in grouped.items()
    }
    relative = relative_time(times, names[0])
    return [
        {
            "method": name,
            "saved_bytes": group[0].saved_bytes,
            "temp_bytes": group[0].temp_bytes,
            "compile_s": group[0].compile_s,
            "step_ms": statistics.median(times[name]),
            "relative_step_time": relative[name],
            "accuracy": statistics.fmean(run.accuracy for run in group),
            "accuracies": [run.accuracy for run in group],
        }
        for name, group in grouped.items()
    ]


def _dataset(options: argparse.Namespace) -> data.Dataset:
    if options.data is not None:
        return data.idx_dataset(options.data)
    return data.fashion_mnist() if options.fashion else data.mnist_5k()


def _compile(
    chosen: list[Method], settings: demo_training.Settings, console: Console
) -> dict[str, demo_training.Stepper]:
    steppers = {}
    for method in chosen:
        with console.status(f"compiling: {method.name}"):
            steppers[method.name] = demo_training.Stepper(method, settings)
    return steppers


def _costs(
    chosen: list[Method],
    steppers: dict[str, demo_training.Stepper],
    settings: demo_training.Settings,
) -> list[Run]:
    """What each method's gradient takes, before anything is trained."""
    state = jax.eval_shape(lambda: demo_training.initial_state(settings, 0))
    args = demo_training.gradient_arguments(state, settings)
    return [
        Run(
            method.name,
            seed=0,
            saved_bytes=saved_bytes(demo_training.loss(method), args),
            temp_bytes=temp_bytes(steppers[method.name].gradient),
            compile_s=steppers[method.name].compile_s,
        )
        for method in chosen
    ]


def _train(
    runs: list[Run],
    steppers: dict[str, demo_training.Stepper],
    dataset: data.Dataset,
    settings: demo_training.Settings,
    console: Console,
) -> None:
    """Trains all methods in turns, batch by batch, from the same initial state."""
    seed = runs[0].seed
    states = {run.method: demo_training.initial_state(settings, seed) for run in runs}
    columns = (
        TextColumn("{task.description:<15}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks = {
            run.method: progress.add_task(run.method, total=settings.steps, figures="")
            for run in runs
        }
        turns = itertools.cycle(range(len(runs)))
        for batch in demo_training.batches(dataset.train, settings, seed):
            first = next(turns)
            for run in runs[first:] + runs[:first]:
                states[run.method] = _one_step(
                    run, steppers[run.method], states[run.method], batch
                )
                figures = f"loss {run.losses[-1]:.3f}  {run.steps_ms[-1]:.0f} ms"
                progress.update(tasks[run.method], advance=1, figures=figures)
        for run in runs:
            run.accuracy = demo_training.accuracy(
                states[run.method], dataset.test, settings
            )
            figures = f"test accuracy {100 * run.accuracy:.1f} %"
            progress.update(tasks[run.method], figures=figures)


def _one_step(
    run: Run, stepper: demo_training.Stepper, state: demo_training.State, batch: Any
) -> demo_training.State:
    start = time.perf_counter()
    state, value = stepper(state, *batch)
    run.steps_ms.append(1e3 * (time.perf_counter() - start))
    run.losses.append(float(value))
    return state


def _cells(rows: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            row["method"],
            megabytes(row["saved_bytes"]),
            megabytes(row["temp_bytes"]),
            f"{row['relative_step_time']:.2f}",
            f"{100 * row['accuracy']:.1f} %",
        )
        for row in rows
    ]


def _write(
    rows: list[dict[str, Any]],
    runs: list[Run],
    name: str,
    settings: demo_training.Settings,
    console: Console,
) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    found = {
        "dataset": name,
        "settings": dataclasses.asdict(settings),
        "rows": rows,
        "runs": [dataclasses.asdict(run) for run in runs],
    }
    json_path, picture_path = OUTPUT / "demo.json", OUTPUT / "demo.png"
    json_path.write_text(json.dumps(found | environment.describe(), indent=1))
    curves = {run.method: run.losses for run in runs if run.seed == 0}
    figure.draw(picture_path, f"ResNet-18 on {name}", curves, rows)
    console.print(f"written: {json_path} and {picture_path}")
