"""Cotangents of later layers are in memory where that makes room, and not elsewhere."""

import re

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies
from tests.models import relative_error

ROWS, WIDTH = 512, 128
# Each result of a barrier has the type of its operand.
BARRIER = re.compile(r"stablehlo.optimization_barrier (.*?) : (.*)")
MADE = re.compile(r"(%\w+) = stablehlo.(?:add|slice) ")
ROWS_OF = re.compile(rf"tensor<{ROWS}x(\d+)xf32>")


def dense_block(weights, x):
    """Each layer reads the results of all layers before it."""
    for w in weights:
        x = jnp.concatenate([x, jnp.tanh(x @ w)], -1)
    return (x**2).mean()


def skip(weights, x):
    """A layer in the middle works on half of what a later one reads."""
    half = jnp.tanh(x @ weights[0][:WIDTH])
    middle = half
    for w in weights[1:3]:
        middle = jnp.tanh(middle @ w[:WIDTH])
    return (jnp.tanh(jnp.concatenate([half, middle], -1) @ weights[1]) ** 2).mean()


def residual(weights, x):
    """Each layer adds to what it reads."""
    for w in weights:
        x = x + jnp.tanh(x @ w[:WIDTH])
    return (x**2).mean()


def chain(weights, x):
    """Each layer reads the one before it, and nothing else."""
    for w in weights:
        x = jnp.tanh(x @ w[:WIDTH])
    return (x**2).mean()


def weights_of(growth=WIDTH, layers=4):
    keys = jax.random.split(jax.random.key(0), layers)
    return [
        jax.random.normal(key, (WIDTH * (1 + i), growth)) / (WIDTH * (1 + i)) ** 0.5
        for i, key in enumerate(keys)
    ]


def tied(loss):
    """Widths of the sums and slices that barriers of a gradient on GPUs have beside a
    cotangent."""
    gradient = jax.grad(epmc_jax.compress(loss, policy=policies.precise()))
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
    lowered = jax.jit(gradient).trace(weights_of(), x)
    text = lowered.lower(lowering_platforms=("cuda",)).as_text()
    made = set(MADE.findall(text))
    pairs = (
        pair
        for operands, types in BARRIER.findall(text)
        for pair in list(zip(operands.split(", "), types.split(", "), strict=True))[1:]
    )
    found = (ROWS_OF.match(kind) for name, kind in pairs if name in made)
    return [int(match[1]) for match in found if match]


def test_sums_over_a_dense_block_are_written_before_the_next_layer():
    # The first layers read no more than one array: there is nothing to free.
    assert tied(dense_block) == [3 * WIDTH, 2 * WIDTH]


def test_of_what_a_later_layer_reads_the_slice_is_kept():
    assert tied(skip) == [WIDTH]


def test_a_sum_takes_the_place_of_its_summands():
    assert tied(residual) == [WIDTH]


def test_nothing_is_written_for_the_next_layer():
    assert tied(chain) == []


@pytest.mark.parametrize("loss", [dense_block, skip, residual, chain])
def test_the_gradient_is_that_of_the_function(loss):
    weights = weights_of()
    x = jax.random.normal(jax.random.key(1), (ROWS, WIDTH))
    expected = jax.jit(jax.grad(loss))(weights, x)
    gradient = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policies.exact())))
    assert relative_error(expected, gradient(weights, x)) < 1e-6
