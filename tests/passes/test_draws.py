"""Random numbers are drawn where a layer needs them, not all at the start."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import epmc_jax
from epmc_jax import policies
from tests.models import dropouts, relative_error

ROWS, WIDTH = 384, 256
# Keys are two or four numbers: what is tied to them is an activation.
TIED_KEY = {
    "cuda": re.compile(
        r"stablehlo.optimization_barrier .* : tensor<[24]xui32>, tensor<"
    ),
    "cpu": re.compile(r"@epmc_pin\(.* : \(tensor<[24]xui32>, tensor<"),
}


def dropped(key, x):
    return jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0)


def before_the_first_layer(weights, x, key):
    return (jnp.tanh(dropped(key, x) @ weights[0]) ** 2).mean()


def small(weights, x, key):
    for w in weights:
        x = jnp.tanh(x @ w) * jax.random.normal(key, (WIDTH,))
    return (x**2).mean()


def noise(weights, x, key):
    for subkey, w in zip(jax.random.split(key, len(weights)), weights, strict=True):
        x = jnp.tanh(x @ w) + jax.random.normal(subkey, x.shape)
    return (x**2).mean()


def keys_of_layers(weights, x, key):
    for w in weights:
        x = jnp.tanh(x @ w)
        key = jax.random.fold_in(key, (100 * x[0, 0]).astype(int))
        x = dropped(key, x)
    return (x**2).mean()


def scanned(weights, x, key):
    def layer(x, operands):
        w, subkey = operands
        return dropped(subkey, jnp.tanh(x @ w)), None

    keys = jax.random.split(key, len(weights))
    x, _ = lax.scan(layer, x, (jnp.stack(weights), keys))
    return (x**2).mean()


# With each how many draws are to wait for a layer.
LOSSES = [
    (dropouts, 3),
    (before_the_first_layer, 0),
    (small, 0),
    (noise, 3),
    (keys_of_layers, 0),
    (scanned, 1),
]


def arrays(make_key):
    keys = jax.random.split(jax.random.key(0), 4)
    weights = [jax.random.normal(key, (WIDTH, WIDTH)) / 16 for key in keys[:3]]
    return weights, jax.random.normal(keys[3], (ROWS, WIDTH)), make_key(1)


def tied_draws(loss, platform, make_key):
    """How often a gradient makes a key wait for an activation."""
    gradient = jax.grad(epmc_jax.compress(loss, policy=policies.balanced()))
    traced = jax.jit(gradient).trace(*arrays(make_key))
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    return len(TIED_KEY[platform].findall(text))


@pytest.mark.parametrize("platform", TIED_KEY)
@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
@pytest.mark.parametrize(("loss", "expected"), LOSSES)
def test_draws_wait_for_the_layer_before(loss, expected, make_key, platform):
    assert tied_draws(loss, platform, make_key) == expected


@pytest.mark.parametrize("platform", TIED_KEY)
def test_keys_that_are_numbers(platform):
    def drawn(weights, x, key):
        for w in weights:
            x = jnp.tanh(x @ w)
            key, bits = lax.rng_bit_generator(key, x.shape)
            x = jnp.where(bits > 2**28, x, 0)
        return (x**2).mean()

    make_key = lambda seed: jnp.array([0, seed], jnp.uint32).repeat(2)  # noqa: E731
    assert tied_draws(drawn, platform, make_key) == 3


def test_what_is_no_draw_waits_for_nothing():
    """A scale that is broadcast is small, too, and its result large."""

    def scaled(weights, x, scale):
        for w in weights:
            x = jnp.tanh(x @ w) * jnp.broadcast_to(scale, x.shape)
        return (x**2).mean()

    gradient = jax.grad(epmc_jax.compress(scaled, policy=policies.balanced()))
    weights, x, _ = arrays(jax.random.key)
    lowered = jax.jit(gradient).lower(weights, x, jnp.ones(WIDTH))
    assert f"(tensor<{WIDTH}xf32>, tensor<" not in lowered.as_text()


@pytest.mark.parametrize(("loss", "_"), LOSSES)
def test_the_gradient_is_that_of_the_function(loss, _):
    operands = arrays(jax.random.key)
    expected = jax.jit(jax.grad(loss))(*operands)
    compressed = epmc_jax.compress(loss, policy=policies.exact())
    found = jax.jit(jax.grad(compressed))(*operands)
    assert relative_error(expected, found) < 1e-5


def test_mapped_keys():
    weights, x, _ = arrays(jax.random.key)
    keys = jax.random.split(jax.random.key(1), 2)

    def mapped(loss):
        return jax.jit(jax.vmap(jax.grad(loss), in_axes=(None, None, 0)))

    compressed = epmc_jax.compress(dropouts, policy=policies.exact())
    found = mapped(compressed)(weights, x, keys)
    assert relative_error(mapped(dropouts)(weights, x, keys), found) < 1e-5
