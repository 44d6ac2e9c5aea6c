"""`lax.scan` is entered: gradients within bounds, memory per iteration encoded."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import epmc_jax
from epmc_jax import Policy, policies
from tests.models import relative_error, temp_bytes

X = jax.random.normal(jax.random.key(0), (8, 16, 64))
WEIGHTS = jax.random.normal(jax.random.key(1), (6, 64, 64)) / 8
BIAS = jnp.linspace(-0.1, 0.1, 64)


def layers(weights, bias, x, reverse=False):
    def layer(x, w):
        y = jax.nn.relu(x @ w + bias)
        return x + jnp.tanh(y @ w.T), y.mean()

    x, means = lax.scan(layer, x, weights, reverse=reverse)
    return (x**2).mean() + (means**2).sum()


def counted(weights, bias, x, reverse=False):
    """An integer in the carry, a key in the constants, nothing scanned over."""
    key = jax.random.key(5)

    def layer(carry, _):
        i, x = carry
        keep = jax.random.bernoulli(jax.random.fold_in(key, i), 0.9, x.shape)
        return (i + 1, jnp.where(keep, jnp.sin(x @ weights[i] + bias), 0)), None

    (_, x), _ = lax.scan(layer, (0, x), length=4, reverse=reverse)
    return (x**2).mean()


def nested(weights, bias, x, reverse=False):
    def outer(x, w):
        inner = lambda c, _: (jnp.tanh(c @ w + bias), c.sum())  # noqa: E731
        x, sums = lax.scan(inner, x, length=2, reverse=reverse)
        return x, sums.sum()

    x, sums = jax.jit(lambda x: lax.scan(outer, x, weights))(x)
    return (x**2).mean() + 1e-3 * (sums**2).mean()


def fori(weights, bias, x, reverse=False):
    del reverse
    step = lambda i, x: jnp.tanh(x @ weights[i] + bias)  # noqa: E731
    return (lax.fori_loop(0, 4, step, x) ** 2).mean()


LOSSES = {"layers": layers, "counted": counted, "nested": nested, "fori_loop": fori}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(("policy", "bound"), [("exact", 1e-5), ("precise", 0.02)])
def test_gradients(loss, policy, bound, reverse):
    rules = getattr(policies, policy)().rules
    compressed = epmc_jax.compress(loss, policy=Policy(*rules, min_bytes=0))
    run = lambda f: jax.jit(jax.grad(f, (0, 1, 2)), static_argnums=3)  # noqa: E731
    args = WEIGHTS, BIAS, X, reverse
    expected, found = run(loss)(*args), run(compressed)(*args)
    assert relative_error(expected, found) < bound
    assert jax.tree.map(jnp.shape, expected) == jax.tree.map(jnp.shape, found)


def test_only_what_is_differentiated_takes_part():
    compressed = epmc_jax.compress(layers)
    for argnum in range(3):
        expected = jax.grad(layers, argnum)(WEIGHTS, BIAS, X)
        found = jax.grad(compressed, argnum)(WEIGHTS, BIAS, X)
        assert relative_error(expected, found) < 0.02


def test_under_vmap():
    both = jnp.stack([X, 2 * X])
    run = lambda f: jax.vmap(jax.grad(f), (None, None, 0))(WEIGHTS, BIAS, both)  # noqa: E731
    assert relative_error(run(layers), run(epmc_jax.compress(layers))) < 0.02


def test_the_plan_shows_what_the_iterations_store():
    plan = epmc_jax.plan(layers, WEIGHTS, BIAS, X)
    inside = [r for r in plan.rows if "each of 6 iterations" in r.why]
    assert {r.codec for r in inside} >= {"GroupQuant(8)", "BitMask"}
    assert all(r.shape[0] == 6 for r in inside)
    assert not plan.notes


def test_memory_per_iteration():
    """Transformer-like layers: what an iteration adds, against plain."""

    def loss(weights, x):
        def layer(x, w):
            return x + jax.nn.gelu(x @ w[0]) @ w[1], None

        return (lax.scan(layer, x, weights)[0] ** 2).mean()

    def per_layer(fun):
        x = jax.ShapeDtypeStruct((2048, 256), jnp.float32)
        weights = [jax.ShapeDtypeStruct((n, 2, 256, 256), jnp.float32) for n in (4, 12)]
        few, many = (temp_bytes(jax.grad(fun), w, x) for w in weights)
        return (many - few) / 8

    plain = per_layer(loss)
    for policy, most in ((policies.precise(), 0.30), (policies.balanced(), 0.18)):
        assert per_layer(epmc_jax.compress(loss, policy=policy)) <= most * plain


def test_what_a_layer_made_to_be_scanned_over_is_encoded():
    """An LSTM's inputs: the backward scan needs them, and nothing else does."""

    def loss(weights, tokens):
        table, w = weights
        embedded = jnp.sin(table[tokens])  # [time, batch, features]

        def cell(carry, x):
            h, c = carry
            i, f, g, o = jnp.split(jnp.concatenate([x, h], -1) @ w, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        start = jnp.zeros((tokens.shape[1], 64))
        _, hidden = lax.scan(cell, (start, start), embedded)
        return (hidden**2).mean()

    keys = jax.random.split(jax.random.key(3), 3)
    table = jax.random.normal(keys[0], (100, 64))
    weights = (table, jax.random.normal(keys[1], (128, 256)) / 11)
    tokens = jax.random.randint(keys[2], (32, 64), 0, 100)
    compressed = epmc_jax.compress(loss)
    expected, gradient = (jax.grad(f)(weights, tokens) for f in (loss, compressed))
    assert relative_error(expected, gradient) < 0.02
    plain = temp_bytes(jax.grad(loss), weights, tokens)
    assert temp_bytes(jax.grad(compressed), weights, tokens) < 0.6 * plain
    shape = (32, 64, 64)
    codecs = {
        r.codec for r in epmc_jax.plan(loss, weights, tokens).rows if r.shape == shape
    }
    assert codecs == {"GroupQuant(8)"}
