"""`python -m bench noise`: gradient error against the noise of SGD's minibatches.

At initialisation and after some epochs of plain training: the mean square, over
batches, of what a policy changes in a gradient, over the variance of plain's gradient
between these batches. Below 1 the choice of the batch matters more than the policy.
"""

import argparse
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from bench import data, methods, record, trainer
from bench.measure import gradient
from bench.methods import Method
from bench.progress import progress
from bench.tables import show
from bench.tasks import TASKS, Task

# `balanced` is the one with 4 bits.
METHODS = (*methods.POLICIES, *(methods.quantised(bits) for bits in (1, 2, 3, 8)))
EPOCHS = 3
# Of the noise. Where there is a gradient, rounding is less than 1e-11 of it; else all.
MOST_ROUNDING = 1e-3
KEYS = ("task", "epoch", "method")
HEADER = ("method", "epoch", "all layers", "worst layer", "which")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--tasks", nargs="+", choices=[*TASKS], default=[*TASKS])
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training")
    parser.add_argument("--batches", type=int, default=16, help="to take means over")


def run(options: argparse.Namespace, console: Console) -> None:
    """Measures before and after training; shows a table per task and records it."""
    for name in options.tasks:
        try:
            task = TASKS[name]()
        except data.DataError as error:
            console.print(f"{name} is left out: {error}")
            continue
        rows = []
        with progress(console) as bar:
            bar_task = bar.add_task(task.name, total=2 * (1 + len(METHODS)))
            for epoch, state in _states(task, options.epochs):
                bar.advance(bar_task)
                for row in measure(task, state, METHODS, batches=options.batches):
                    rows.append({"task": task.name, "epoch": epoch, **row})
                    bar.advance(bar_task)
        record.append("noise", rows)
        title = f"{task.name}: error of the gradient / noise of the minibatch"
        show(console, title, HEADER, cells(rows))
    console.print(f"recorded in {record.path_of('noise')}")


def _states(task: Task, epochs: int) -> Any:
    """(0, the initial state), (epochs, that after plain training)."""
    steps = task.steps_per_epoch
    plain = trainer.Run(task, methods.PLAIN, seed=0, epochs=15, steps=steps)
    state = trainer.initial(plain)
    yield 0, state
    step = trainer.make_step(plain)
    for index in range(epochs):
        for batch in task.epoch(0, index):
            state, _ = step(state, *batch)
    yield epochs, state


def measure(
    task: Task, state: trainer.State, chosen: Sequence[Method], *, batches: int
) -> Any:
    """Yields a row per method: `layers` has the ratio by the path of a parameter, `all`
    that of the whole gradient."""
    drawn = list(itertools.islice(task.epoch(1, 0), batches))
    plain = _gradients(task, methods.PLAIN, state, drawn)
    means = [np.mean(leaf, axis=0) for leaf in plain]
    noise = [
        np.mean(_squares(leaf - mean)) * batches / (batches - 1)
        for leaf, mean in zip(plain, means, strict=True)
    ]
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/value")
        for path, _ in jax.tree_util.tree_leaves_with_path(state.params)
    ]
    for method in chosen:
        found = _gradients(task, method, state, drawn)
        errors = [
            np.mean(_squares(this - other))
            for this, other in zip(found, plain, strict=True)
        ]
        layers = {
            path: float(error / own)
            for path, error, own in zip(paths, errors, noise, strict=True)
            if own > 0
        }
        yield {
            "method": method.name,
            "all": float(sum(errors) / sum(noise)),
            "layers": layers,
        }


def _gradients(
    task: Task, method: Method, state: trainer.State, drawn: Sequence[Any]
) -> list[np.ndarray]:
    """By parameter: its gradients of all batches, float64[batches, elements]."""
    loss = task.problem.loss(method)
    pull_back = jax.jit(lambda *args: jax.tree.leaves(gradient(loss)(*args)[1]))
    found = [pull_back(state.params, state.state, *batch) for batch in drawn]
    return [
        np.stack([np.asarray(jnp.ravel(leaf), float) for leaf in leaves])
        for leaves in zip(*found, strict=True)
    ]


def _squares(rows: np.ndarray) -> np.ndarray:
    return np.einsum("be,be->b", rows, rows)


def without_rounding(rows: Sequence[record.Row]) -> list[record.Row]:
    """`rows`, of one task, without layers whose gradient is 0 but for rounding.

    A bias before a batch normalisation has such a gradient. What minibatches change in
    it is rounding, and `exact`, which changes nothing else, changes as much.
    """
    exact = {row["epoch"]: row["layers"] for row in rows if row["method"] == "exact"}

    def has_gradient(epoch: int, path: str) -> bool:
        return exact.get(epoch, {}).get(path, 0) < MOST_ROUNDING

    return [
        {
            **row,
            "layers": {
                path: ratio
                for path, ratio in row["layers"].items()
                if has_gradient(row["epoch"], path)
            },
        }
        for row in rows
    ]


def cells(rows: Sequence[record.Row]) -> list[tuple[str, ...]]:
    """The table's rows, of one task."""
    found: list[tuple[str, ...]] = []
    for row in without_rounding(rows):
        path, worst = max(row["layers"].items(), key=lambda item: item[1])
        ratio = f"{row['all']:.2g}"
        found.append((row["method"], str(row["epoch"]), ratio, f"{worst:.2g}", path))
    return found
