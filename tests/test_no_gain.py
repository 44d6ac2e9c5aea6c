"""Where a plan can gain nothing, the function runs as it was written."""

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies
from tests.models import relative_error, same_bits, temp_bytes

X = jax.random.normal(jax.random.key(0), (64, 64))
WEIGHTS = list(jax.random.normal(jax.random.key(1), (2, 64, 64)) / 8)


def loss(weights, x, steps=3):
    """An integer result and argument, a result that no gradient enters."""
    for w in weights:
        x = jnp.exp(x @ w / 8)
    return x.sum() * 0.5, (jnp.int32(steps), x.argmax(), x.sum())


NO_GAIN = policies.exact()


def test_it_runs_as_written_and_says_so():
    only = lambda w, x: loss(w, x)[0]  # noqa: E731
    plan = epmc_jax.plan(only, WEIGHTS, X, policy=NO_GAIN)
    assert [note for note in plan.notes if note.startswith("nothing to gain")]
    assert plan.stored_bytes == plan.plain_bytes
    compressed = epmc_jax.compress(only, policy=NO_GAIN)
    step = lambda f: jax.jit(jax.value_and_grad(f, (0, 1)))(WEIGHTS, X)  # noqa: E731
    assert same_bits(step(only), step(compressed))
    grad = lambda f: jax.value_and_grad(f)  # noqa: E731
    assert temp_bytes(grad(compressed), WEIGHTS, X) <= temp_bytes(
        grad(only), WEIGHTS, X
    )


@pytest.mark.parametrize("argnums", [0, 1, (0, 1)])
def test_integers_and_unused_results(argnums):
    step = lambda f: jax.value_and_grad(f, argnums, has_aux=True)(WEIGHTS, X)  # noqa: E731
    compressed = epmc_jax.compress(loss, policy=NO_GAIN)
    assert epmc_jax.plan(compressed, WEIGHTS, X).notes
    assert relative_error(step(loss), step(compressed)) < 1e-6


def test_a_gain_is_not_given_up():
    plan = epmc_jax.plan(loss, WEIGHTS, X, policy=policies.precise())
    assert plan.stored_bytes < plan.plain_bytes
    assert not plan.notes
