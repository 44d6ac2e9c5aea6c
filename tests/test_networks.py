"""Every kind of network, in linen and nnx: the gradient within bounds, and no memory
more than plain. The table of networks is `bench.kinds`."""

import functools

import jax
import jax.numpy as jnp
import pytest

from bench import methods
from bench.kinds.table import APIS, KINDS, problem
from bench.measure import compile_gradient, temp_bytes
from tests.models import relative_error

POLICIES = {m.name: m for m in (methods.EXACT, methods.PRECISE, methods.BALANCED)}


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
    if policy == "exact":
        assert largest_difference(expected_gradient, gradient) < 2e-6
    else:
        bound = getattr(KINDS[name], policy)
        assert 0 < relative_error(expected_gradient, gradient) < bound
    assert compressed_bytes <= plain_bytes
