"""On GPUs a mask is packed in the kernel that makes what it is a mask of."""

import re

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies

ROWS, WIDTH = 64, 256
W = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
X = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
KEY = jax.eval_shape(lambda: jax.random.key(0))
BITS = f"tensor<{ROWS}x{WIDTH // 8}xui8>"
# What is made together with bits of a mask: the type of the array.
MADE_TOGETHER = re.compile(
    rf"stablehlo.optimization_barrier [^,]*, [^,]* : tensor<\d+x\d+x(\w+)>, {BITS}\n"
)


def lowered(fun, *args, lag=1):
    policy = epmc_jax.Policy(*policies.balanced().rules, lag=lag)
    gradient = jax.grad(epmc_jax.compress(fun, policy=policy))
    traced = jax.jit(gradient).trace(*args)
    return traced.lower(lowering_platforms=("cuda",)).as_text()


def relus(w, x):
    for _ in range(3):
        x = jax.nn.relu(x @ w)
    return (x**2).mean()


def dropout(w, x, key):
    keep = jax.random.bernoulli(key, 0.9, x.shape)
    return (jnp.tanh(jnp.where(keep, x @ w, 0) @ w) ** 2).mean()


def clipped(w, x):
    """The forward pass clips without a mask; only the backward pass reads one."""
    return (jnp.tanh(jnp.minimum(x @ w, 1) @ w) ** 2).mean()


@pytest.mark.parametrize("lag", [0, 1])
def test_no_kernel_reads_a_relu_again_for_its_mask(has_library, lag):
    text = lowered(relus, W, X, lag=lag)
    assert "epmc_bit_mask_encode" not in text
    assert ("epmc_group_quant_encode" in text) == has_library
    assert MADE_TOGETHER.findall(text) == ["f32"] * 2


def test_a_mask_that_is_read_is_written_with_its_bits(has_library):
    text = lowered(dropout, W, X, KEY)
    assert "epmc_bit_mask_encode" not in text
    # Without the library the product waits for them, too: XLA then adds no bias there.
    assert MADE_TOGETHER.findall(text) == ["i1"] + ["f32"] * (not has_library)


@pytest.mark.usefixtures("has_library")
def test_a_mask_that_only_the_encoder_reads_is_awaited_but_not_written():
    text = lowered(clipped, W, X)
    array = f"tensor<{ROWS}x{WIDTH}xf32>"
    assert re.search(rf"optimization_barrier .* : {array}, .*{BITS}", text)
    assert not re.search(r"optimization_barrier .*xi1>", text)
