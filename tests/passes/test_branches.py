"""`lax.cond` and `lax.switch` are entered: gradients within bounds, encoded bytes."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import epmc_jax
from epmc_jax import policies
from tests.models import relative_error, temp_bytes

X = jax.random.normal(jax.random.key(0), (64, 128))
W = jax.random.normal(jax.random.key(1), (128, 128)) / 11


def deep(x, w):
    for _ in range(4):
        x = jax.nn.gelu(x @ w)
    return x


def shallow(x, w):
    return jnp.tanh(x @ w.T)


def untouched(x, w):
    del w
    return 2 * x


def loss(w, x, index):
    y = jnp.sin(x @ w)
    y = lax.switch(index, [deep, shallow, untouched], y, w)
    return (y @ w).mean() + (y**2).mean()


def conditional(w, x, index):
    x = lax.cond(index > 0, lambda x: deep(x, w), lambda x: shallow(x, w), x)
    return (x**2).mean()


def in_a_loop(w, x, index):
    def step(carry, i):
        branch = (i + index) % 3
        return lax.switch(branch, [deep, shallow, untouched], carry, w), carry.mean()

    x, means = lax.scan(step, x, jnp.arange(3))
    return (x**2).mean() + means.sum()


LOSSES = {"switch": loss, "cond": conditional, "in_a_loop": in_a_loop}


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("policy", "bound"), [("exact", 1e-5), ("precise", 0.02)])
def test_gradients(name, index, policy, bound):
    fun = LOSSES[name]
    compressed = epmc_jax.compress(fun, policy=getattr(policies, policy)())
    for derivative in (
        lambda f: jax.jit(jax.value_and_grad(f, argnums=(0, 1))),
        lambda f: jax.value_and_grad(f, argnums=(0, 1)),
    ):
        value, expected = derivative(fun)(W, X, index)
        ours, gradient = derivative(compressed)(W, X, index)
        assert jnp.allclose(ours, value, rtol=1e-6)
        assert relative_error(expected, gradient) < bound


def test_vmap_over_the_index():
    indices = jnp.arange(3)
    many = lambda f: jax.vmap(jax.grad(f), (None, None, 0))(W, X, indices)  # noqa: E731
    compressed = epmc_jax.compress(loss)
    assert relative_error(many(loss), many(compressed)) < 0.02


def test_branches_share_what_they_store():
    rows = epmc_jax.plan(loss, W, X, 0).rows
    in_branches = [r for r in rows if r.why.endswith("in a branch")]
    # The deep branch's operand and four arrays; the shallow one's are laid over them.
    assert len(in_branches) == 5
    assert all(r.codec == "GroupQuant(8)" for r in in_branches)


def test_memory_is_less_than_plain():
    large = jnp.tile(X, (16, 1))
    compressed = epmc_jax.compress(loss)
    assert temp_bytes(jax.grad(compressed), W, large, 0) < 0.5 * temp_bytes(
        jax.grad(loss), W, large, 0
    )


def test_integer_results_and_constants_of_a_branch():
    table = jnp.linspace(0, 1, 128)

    def branching(w, x, index):
        y, count = lax.switch(
            index,
            [
                lambda y: (deep(y, w) + table, 1),
                lambda y: (jnp.where(y > 0, y, table), 2),
            ],
            x,
        )
        return (y**2).mean() * count

    of_both = lambda f, index: jax.grad(f, (0, 1))(W, X, index)  # noqa: E731
    for index in (0, 1):
        gradient = of_both(epmc_jax.compress(branching), index)
        assert relative_error(of_both(branching, index), gradient) < 0.02
