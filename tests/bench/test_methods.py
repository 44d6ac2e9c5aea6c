"""The ways to take a gradient that the benchmarks compare give the same gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bench import methods, problems
from bench.measure import gradient, saved_bytes
from bench.nets.gpt import Gpt
from bench.sparse_bytes import residual_bytes
from epmc_jax.codecs import GroupQuant

make = functools.partial(Gpt, depth=1, width=48, heads=4, vocabulary=64, context=32)
GPT = problems.next_token("small GPT", make, batch=4, time=32, vocabulary=64)
EXACT = [m for m in methods.ALL if m is not methods.PLAIN and "bits" not in m.name]


@pytest.mark.parametrize("method", EXACT, ids=lambda m: m.name)
def test_gradient_is_plains(method):
    args = GPT.arguments(0)
    (value, _), wanted = jax.jit(gradient(GPT.loss(methods.PLAIN)))(*args)
    (same, _), found = jax.jit(gradient(GPT.loss(method)))(*args)
    bound = {"precise": 0.02, "balanced": 0.2}.get(method.name, 1e-5)
    np.testing.assert_allclose(same, value, rtol=1e-6)
    a, b = (
        np.concatenate([x.ravel() for x in jax.tree.leaves(t)]) for t in (found, wanted)
    )
    assert np.linalg.norm(a - b) <= bound * np.linalg.norm(b)


def test_checkpointed_norms_and_gelus_save_less():
    args = GPT.avals()
    plain = saved_bytes(GPT.loss(methods.PLAIN), args)
    cheap = saved_bytes(GPT.loss(methods.CHECKPOINT_CHEAP), args)
    blocks = saved_bytes(GPT.loss(methods.CHECKPOINT), args)
    assert blocks < cheap < 0.8 * plain


def test_codec_in_jnp_has_the_same_bytes():
    x = jax.random.normal(jax.random.key(0), (3, 1000))
    for bits in (4, 8):
        kernel = GroupQuant(bit_width=bits, rounding="stochastic").encode(x)
        jnp_code = methods.JnpGroupQuant(bit_width=bits, rounding="stochastic").encode(
            x
        )
        np.testing.assert_array_equal(kernel.rows, jnp_code.rows)


def test_policies_in_jnp_have_no_kernel():
    for method in methods.IN_JNP:
        text = jax.jit(gradient(GPT.loss(method))).lower(*GPT.avals()).as_text()
        assert "epmc_group_quant" not in text
        assert "epmc_pin" in text


def test_bfloat16_is_computed_in():
    problem = GPT.in_dtype(jnp.bfloat16)
    args = problem.avals()
    (value, _), grads = jax.eval_shape(gradient(problem.loss(methods.PLAIN)), *args)
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    plain = saved_bytes(GPT.loss(methods.PLAIN), args)
    assert saved_bytes(problem.loss(methods.PLAIN), args) < 0.8 * plain


def test_csr_bytes_follow_the_nonzeros():
    problem = problems.alexnet(batch=2, size=63)
    found = residual_bytes(problem)
    assert found["stored_bytes"] < found["sparse_bytes"] <= found["csr_bytes"]
