"""What a later layer reads of an array is cut out once nothing else reads the whole."""

import re

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies
from epmc_jax.codecs import GroupQuant
from tests.models import relative_error

ROWS, WIDTH = 64, 256
SLICE = re.compile(r"(%\w+) = stablehlo.slice %\w+ \[0:64, (\d+):(\d+)\]")
BARRIER = re.compile(r"stablehlo.optimization_barrier (.*?) : ")


def layers(weights, x):
    for w in weights:
        x = jnp.tanh(x @ w[: x.shape[-1], : x.shape[-1]])
    return x


def skip(weights, x, crop):
    """`crop` of the first layer's result is read after three more."""
    first = layers(weights[:1], x)
    deep = layers(weights[1:], first)
    return (jnp.concatenate([crop(first), deep], axis=-1) ** 2).mean()


def cropped(weights, x):
    return skip(weights, x, lambda first: first[:, 32:96])


def cropped_twice(weights, x):
    """The crop of a crop is what is read."""
    return skip(weights, x, lambda first: first[:, 64:][:, :64])


def nearly_whole(weights, x):
    return skip(weights, x, lambda first: first[:, 4:])


def in_two_halves(weights, x):
    halves = slice(0, WIDTH // 2), slice(WIDTH // 2, WIDTH)
    return skip(weights, x, lambda first: sum(first[:, half] for half in halves))


def read_whole(weights, x):
    """The whole is there anyway: until it is added."""
    first = layers(weights[:1], x)
    deep = layers(weights[1:], first) + first
    return (jnp.concatenate([first[:, 32:96], deep], axis=-1) ** 2).mean()


def read_at_once(weights, x):
    first = layers(weights[:1], x)
    return (layers(weights[1:], first[:, 32:96]) ** 2).mean()


def of_the_argument(weights, x):
    return skip(weights, x, lambda first: x[:, 32:96])


def multiplied(weights, x):
    crop = lambda first: first[:, 32:96] @ weights[0][32:96]  # noqa: E731
    return skip(weights, x, crop)


def encoded(weights, x):
    """Of the first product only the crop is stored, and encoded where it stands."""
    first = x @ weights[0]
    deep = layers(weights[2:], first + x @ weights[1])
    crop = first[:, 32:96] @ weights[0][32:96]
    return (jnp.concatenate([crop, deep], axis=-1) ** 2).mean()


# With each the slices that are to be tied.
LOSSES = [
    (cropped, [(32, 96)]),
    (cropped_twice, [(0, 64)]),
    (nearly_whole, []),
    (in_two_halves, []),
    (read_whole, []),
    (read_at_once, []),
    (of_the_argument, []),
    (multiplied, [(32, 96)]),
    (encoded, []),
]


def arrays():
    keys = jax.random.split(jax.random.key(0), 5)
    weights = [jax.random.normal(key, (WIDTH, WIDTH)) / 16 for key in keys[:4]]
    return weights, jax.random.normal(keys[4], (ROWS, WIDTH))


def tied_slices(loss, **kwargs):
    """The slices of activations that a gradient on GPUs has in barriers."""
    compressed = epmc_jax.compress(loss, policy=policies.precise())
    gradient = jax.grad(compressed, **kwargs)
    traced = jax.jit(gradient).trace(*arrays())
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    tied = {name for names in BARRIER.findall(text) for name in names.split(", ")[1:]}
    return [
        (int(start), int(stop))
        for name, start, stop in SLICE.findall(text)
        if name in tied
    ]


@pytest.mark.parametrize(("loss", "expected"), LOSSES)
def test_parts_are_made_before_the_next_layer(loss, expected):
    assert tied_slices(loss) == expected


def test_an_array_that_is_returned_is_there_anyway():
    def returned(weights, x):
        first = layers(weights[:1], x)
        deep = layers(weights[1:], first)
        return (jnp.concatenate([first[:, 32:96], deep], axis=-1) ** 2).mean(), first

    assert tied_slices(returned, has_aux=True) == []


@pytest.mark.parametrize(("loss", "_"), LOSSES)
def test_the_gradient_is_that_of_the_function(loss, _):
    policy = epmc_jax.Policy(epmc_jax.Rule(codec=GroupQuant(bit_width=8)), min_bytes=0)
    expected = jax.jit(jax.grad(loss))(*arrays())
    found = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policy)))(*arrays())
    assert relative_error(expected, found) < 0.02
