"""Memory as the compiler reports it, on the CPU."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies
from tests.models import mlp_loss, temp_bytes

SHAPE = jax.ShapeDtypeStruct


def test_a_deep_mlp_keeps_a_fifteenth():
    args = [SHAPE((1024, 1024), jnp.float32)] * 24, SHAPE((2048, 1024), jnp.float32)
    plain = temp_bytes(jax.grad(mlp_loss), *args)
    compressed = epmc_jax.compress(mlp_loss, policy=policies.precise())
    assert plain / temp_bytes(jax.grad(compressed), *args) >= 15


@pytest.mark.parametrize(("policy", "least"), [("precise", 2.6), ("balanced", 3.0)])
def test_convolutions_with_pools(policy, least):
    """A stack of conv-BN-ReLU with overlapping pools: the hard parts of a ResNet."""

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            for features in (32, 32, 64):
                for _ in range(4):
                    x = nn.Conv(features, (3, 3), use_bias=False)(x)
                    x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
                x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            return x

    x = SHAPE((8, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: Stack().init(jax.random.key(0), x), x)

    def loss(params, statistics, x):
        variables = {"params": params, "batch_stats": statistics}
        out, updates = Stack().apply(variables, x, mutable=["batch_stats"])
        return (out**2).mean(), updates

    args = variables["params"], variables["batch_stats"], x
    plain = temp_bytes(jax.grad(loss, has_aux=True), *args)
    compressed = epmc_jax.compress(loss, policy=getattr(policies, policy)())
    assert plain / temp_bytes(jax.grad(compressed, has_aux=True), *args) >= least
