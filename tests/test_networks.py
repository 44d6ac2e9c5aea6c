"""Every kind of network, in linen and nnx: the gradient within bounds, and no memory
more than plain. The table of networks is `bench.kinds`."""

import functools

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from bench import methods
from bench.kinds.table import APIS, KINDS, problem
from bench.measure import compile_gradient, temp_bytes
from tests.models import relative_error

POLICIES = {method.name: method for method in methods.POLICIES}


@functools.cache
def run(name, api, method):
    """Value, new state, gradient and temp bytes of one step."""
    wanted = problem(name, api)
    args = wanted.arguments(0)
    compiled = compile_gradient(wanted.loss(method), args)
    value_and_state, gradient = compiled(*args)
    return value_and_state, gradient, temp_bytes(compiled)


def largest_difference(reference, other):
    """The largest difference of two entries, by the largest entry of `reference`."""
    pairs = list(zip(jax.tree.leaves(reference), jax.tree.leaves(other), strict=True))
    largest = max(float(jnp.abs(a).max()) for a, _ in pairs)
    return max(float(jnp.abs(a - b).max()) for a, b in pairs) / largest


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", KINDS)
def test_gradient_and_memory(name, api, policy):
    expected, expected_gradient, plain_bytes = run(name, api, methods.PLAIN)
    found, gradient, compressed_bytes = run(name, api, POLICIES[policy])
    assert largest_difference(expected[0], found[0]) < 1e-6
    bound = getattr(KINDS[name], policy)
    if policy == "exact":
        assert largest_difference(expected_gradient, gradient) < bound
    else:
        assert 0 < relative_error(expected_gradient, gradient) < bound
    assert compressed_bytes <= plain_bytes


@pytest.mark.parametrize("name", ["gpt", "u-net"])
def test_mixed_precision(name):
    """Parameters in f32, computation in bf16."""
    wanted = problem(name, "linen")
    in_f32 = wanted.loss(methods.PLAIN)

    def loss(params, state, batch):
        params, batch = jax.tree.map(as_bf16, (params, batch))
        value, state = in_f32(params, state, batch)
        return value.astype(jnp.float32), state

    args = wanted.arguments(0)
    _, expected = compile_gradient(loss, args)(*args)
    _, gradient = compile_gradient(epmc_jax.compress(loss), args)(*args)
    assert 0 < relative_error(expected, gradient) < 0.05


def as_bf16(x):
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x
