"""`python -m bench train`: final accuracy and loss on real data, plain and policies.

Every method starts from the same parameters and sees the same batches. A run that was
interrupted goes on after its last epoch, and runs that this commit has recorded are
not repeated: start the command again. `--quick` is for tests and records elsewhere.
"""

import argparse
import functools
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from bench import data, methods, record, summaries, trainer
from bench.progress import progress
from bench.tables import show
from bench.tasks import TASKS, Task

METHODS = (methods.PLAIN, *methods.POLICIES)
EPOCHS = 15
SEEDS = 3
KEYS = ("task", "method", "seed", "epochs", "steps_per_epoch")
HEADER = ("method", *summaries.TRAINING_HEADER)
# Of `--quick`: enough for a loss that falls, and for all code to run.
QUICK_STEPS = 15
QUICK_TASKS = ("vgg-bn", "gpt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS])
    parser.add_argument("--methods", nargs="+", help="default: plain and the policies")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 0")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--quick", action="store_true", help="a few steps only")


def run(options: argparse.Namespace, console: Console) -> None:
    """Trains with live progress; shows a table per task; records every run."""
    command = "train-quick" if options.quick else "train"
    chosen = methods.select(options.methods, METHODS)
    if options.quick:
        chosen = [m for m in chosen if m in (methods.PLAIN, methods.BALANCED)]
    seeds = min(options.seeds, 2) if options.quick else options.seeds
    epochs = 1 if options.quick else options.epochs
    tasks = options.tasks or [*(QUICK_TASKS if options.quick else TASKS)]
    for name in tasks:
        try:
            task = TASKS[name]()
        except data.DataError as error:
            console.print(f"{name} is left out: {error}")
            continue
        runs = [
            trainer.Run(task, method, seed, epochs, _steps(task, options.quick))
            for method in chosen
            for seed in range(seeds)
        ]
        rows = _train(runs, command, console)
        show(
            console,
            f"{task.name}, {task.metric}",
            HEADER,
            summaries.training_cells(rows),
        )
        summaries.show_bars(console, summaries.training_bars(rows))
    console.print(f"recorded in {record.path_of(command)}")


def _steps(task: Task, quick: bool) -> int:
    return QUICK_STEPS if quick else task.steps_per_epoch


def _train(
    runs: list[trainer.Run], command: str, console: Console
) -> list[dict[str, Any]]:
    rows = []
    steps: dict[str, Any] = {}
    with progress(console) as bar:
        task = bar.add_task("", total=len(runs) * runs[0].epochs)
        for index, one in enumerate(runs):
            bar.update(task, description=f"{one.method.name}, seed {one.seed}")
            on_epoch = functools.partial(_advance, bar, task, index * one.epochs)
            row = record.already(command, **one.names)
            if row is None:
                # Compiled once for all seeds.
                if one.method.name not in steps:
                    steps[one.method.name] = trainer.make_step(one)
                row = trainer.train(one, steps[one.method.name], on_epoch=on_epoch)
                record.append(command, [row])
            on_epoch(one.epochs)
            rows.append(row)
    return rows


def _advance(bar: Progress, task: TaskID, before: int, done: int) -> None:
    bar.update(task, completed=before + done)
