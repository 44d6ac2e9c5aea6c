"""A training step: the gradient and the optimiser's update, as one function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

from bench.measure import gradient
from bench.methods import Loss


class State(NamedTuple):
    """All that a step changes."""

    params: Any
    state: Any
    moments: Any


def one_cycle_adam(
    steps: int, peak_learning_rate: float
) -> optax.GradientTransformation:
    """Adam whose rate rises over a quarter of the steps, and falls over the others."""
    return optax.adam(
        optax.cosine_onecycle_schedule(steps, peak_learning_rate, pct_start=0.25)
    )


def step_function(
    loss: Loss, optimiser: optax.GradientTransformation
) -> Callable[..., tuple[State, jax.Array]]:
    """`step(state, *batch) -> (state, loss before it)`, to be compiled."""
    pull_back = gradient(loss)

    def step(state: State, *batch: jax.Array) -> tuple[State, jax.Array]:
        (value, changed), grads = pull_back(state.params, state.state, *batch)
        updates, moments = optimiser.update(grads, state.moments, state.params)
        params = optax.apply_updates(state.params, updates)
        return State(params, changed, moments), value

    return step
