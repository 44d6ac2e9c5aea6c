"""Every kind of network, in linen and nnx: the gradient within bounds, and no memory
more than plain. The table of networks is `bench.kinds`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epmc_jax
from bench import methods
from bench.kinds.table import APIS, KINDS, problem
from bench.measure import gradient, temp_bytes

# With no optimisation at all, plain's gradient of the LSTM moves by 1.03e-6.
OPTIONS = {"lstm": {"xla_backend_optimization_level": 1}}


@functools.cache
def arguments(name, api):
    """Made once: to compile initial values takes as long as a step."""
    return problem(name, api).arguments(0)


def run(loss, args, options=None):
    """Value and new state, gradient, and temp bytes of one step."""
    compiled = jax.jit(gradient(loss)).lower(*args).compile(compiler_options=options)
    value_and_state, of_params = compiled(*args)
    return value_and_state, of_params, temp_bytes(compiled)


def pairs(reference, other):
    """The leaves side by side, in float64."""
    leaves = jax.tree.leaves(reference), jax.tree.leaves(other)
    return [(np.float64(a), np.float64(b)) for a, b in zip(*leaves, strict=True)]


def largest_difference(reference, other):
    """The largest difference of two entries, by the largest entry of `reference`."""
    both = pairs(reference, other)
    largest = max(np.abs(a).max() for a, _ in both)
    return max(np.abs(a - b).max() for a, b in both) / largest


def relative_error(reference, other):
    both = pairs(reference, other)
    distance = sum(np.square(a - b).sum() for a, b in both)
    return (distance / sum(np.square(a).sum() for a, _ in both)) ** 0.5


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", KINDS)
def test_gradient_and_memory(name, api):
    wanted, kind, args = problem(name, api), KINDS[name], arguments(name, api)
    options = OPTIONS.get(name)
    expected, plain, plain_bytes = run(wanted.loss(methods.PLAIN), args, options)
    for method in methods.POLICIES:
        found, compressed, its_bytes = run(wanted.loss(method), args, options)
        assert largest_difference(expected[0], found[0]) < 1e-6, method.name
        bound = getattr(kind, method.name)
        if method is methods.EXACT:
            assert largest_difference(plain, compressed) < bound
        else:
            assert 0 < relative_error(plain, compressed) < bound, method.name
        assert its_bytes <= plain_bytes, method.name


@pytest.mark.parametrize("name", ["gpt", "u-net"])
def test_mixed_precision(name):
    """Parameters in f32, computation in bf16."""
    in_f32 = problem(name, "linen").loss(methods.PLAIN)

    def loss(params, state, batch):
        params, batch = jax.tree.map(as_bf16, (params, batch))
        value, state = in_f32(params, state, batch)
        return value.astype(jnp.float32), state

    args = arguments(name, "linen")
    _, expected, plain_bytes = run(loss, args)
    _, found, its_bytes = run(epmc_jax.compress(loss), args)
    assert 0 < relative_error(expected, found) < 0.05
    assert its_bytes <= plain_bytes


def as_bf16(x):
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x
