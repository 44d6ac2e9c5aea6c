"""One training run of a task by one method, with a checkpoint after each epoch."""

import dataclasses
import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench import environment, record
from bench.methods import Method
from bench.steps import State, one_cycle_adam, step_function
from bench.tasks import Task


@dataclasses.dataclass(frozen=True)
class Run:
    """A task by a method from a seed, for so many epochs of at most so many steps."""

    task: Task
    method: Method
    seed: int
    epochs: int
    steps: int

    @property
    def names(self) -> dict[str, Any]:
        """What tells this run from others, in its record."""
        return {
            "task": self.task.name,
            "method": self.method.name,
            "seed": self.seed,
            "epochs": self.epochs,
            "steps_per_epoch": self.steps,
        }


def train(
    run: Run, step: Callable[..., Any], *, on_epoch: Callable[[int], None]
) -> dict[str, Any]:
    """Trains, or goes on from the checkpoint of this commit: the row to record.

    `step` is `make_step` of the run's task and method; `on_epoch(done)` is called with
    the number of epochs that are done, first with those of the checkpoint.
    """
    state, curves = _restore(run) or (initial(run), {"losses": [], "metrics": []})
    on_epoch(len(curves["losses"]))
    for index in range(len(curves["losses"]), run.epochs):
        losses = []
        batches = run.task.epoch(run.seed, index)
        for _, batch in zip(range(run.steps), batches, strict=False):
            state, value = step(state, *batch)
            losses.append(float(value))
        curves["losses"].append(float(np.mean(losses)))
        curves["metrics"].append(run.task.evaluate(state.params, state.state))
        _save(run, state, curves)
        on_epoch(index + 1)
    _checkpoint(run).unlink(missing_ok=True)
    final = curves["metrics"][-1]
    return run.names | {"metric": run.task.metric, "final": final} | curves


def initial(run: Run) -> State:
    """The same for every method: it depends on the seed alone."""
    params, state, *_ = run.task.problem.arguments(run.seed)
    return State(params, state, _optimiser(run).init(params))


def make_step(run: Run) -> Callable[..., tuple[State, jax.Array]]:
    """A compiled step, the same for every seed; it consumes the state it is given."""
    step = step_function(run.task.problem.loss(run.method), _optimiser(run))
    return jax.jit(step, donate_argnums=0)


def _optimiser(run: Run) -> optax.GradientTransformation:
    return one_cycle_adam(run.epochs * run.steps, run.task.peak_learning_rate)


def _checkpoint(run: Run) -> pathlib.Path:
    name = "-".join(map(str, run.names.values()))
    return record.BUILD / "train" / f"{name}.npz".replace(" ", "_").replace("/", "_")


def _save(run: Run, state: State, curves: dict[str, list[float]]) -> None:
    leaves = [_plain(leaf) for leaf in jax.tree.leaves(state)]
    header = json.dumps({"commit": environment.describe()["commit"], "curves": curves})
    path = _checkpoint(run)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Another name first: an interruption must not leave half a checkpoint.
    partial = path.with_suffix(".part.npz")
    np.savez(partial, *leaves, header=np.array(header))
    partial.replace(path)


def _restore(run: Run) -> tuple[State, dict[str, list[float]]] | None:
    """The state and the curves that were saved by the same commit."""
    path = _checkpoint(run)
    if not path.exists():
        return None
    with np.load(path) as saved:
        header = json.loads(str(saved["header"]))
        if header["commit"] != environment.describe()["commit"]:
            return None
        old, structure = jax.tree.flatten(initial(run))
        leaves = [_like(saved[f"arr_{index}"], leaf) for index, leaf in enumerate(old)]
    return jax.tree.unflatten(structure, leaves), header["curves"]


def _plain(leaf: jax.Array) -> np.ndarray:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def _like(array: np.ndarray, leaf: jax.Array) -> jax.Array:
    is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return (
        jax.random.wrap_key_data(jnp.asarray(array)) if is_key else jnp.asarray(array)
    )
