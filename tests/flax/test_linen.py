"""linen: parameters, names, init and statistics as before; gradients within bounds."""

import flax.linen as nn
import jax
import pytest

import epmc_jax
from epmc_jax import policies
from tests.models import Cnn, ConvBlock, cnn_loss, relative_error, same_bits


class MethodBlock(nn.Module):
    """`ConvBlock`, compressed where its method is written."""

    features: int
    pool: bool = False

    @epmc_jax.compress
    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(self.features, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.max_pool(x, (3, 3), (2, 2), "SAME") if self.pool else x


MethodBlock.__name__ = "ConvBlock"  # Flax names parameters after the class.
MODELS = {
    "blocks": lambda: Cnn(block=epmc_jax.compress(ConvBlock)),
    "method": lambda: Cnn(block=MethodBlock),
    "model": lambda: epmc_jax.compress(Cnn)(),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_init_is_unchanged(make):
    assert same_bits(cnn_loss()[1][:2], cnn_loss(make())[1][:2])


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_gradients_and_statistics(make):
    loss, args = cnn_loss()
    compressed, _ = cnn_loss(make())
    run = lambda f: jax.jit(jax.value_and_grad(f, has_aux=True))(*args)  # noqa: E731
    (value, updates), gradients = run(loss)
    (found_value, found_updates), found = run(compressed)
    assert relative_error((value, updates), (found_value, found_updates)) < 1e-6
    assert relative_error(gradients, found) < 0.02


def test_inside_remat():
    remat = lambda block: Cnn(block=nn.remat(block, static_argnums=(2,)))  # noqa: E731
    loss, args = cnn_loss(remat(ConvBlock))
    compressed, same_args = cnn_loss(remat(epmc_jax.compress(ConvBlock)))
    assert same_bits(args[:2], same_args[:2])
    expected, found = (
        jax.jit(jax.grad(f, has_aux=True))(*args)[0] for f in (loss, compressed)
    )
    assert relative_error(expected, found) < 0.02


def test_forward_alone_is_bit_equal():
    model = epmc_jax.compress(Cnn, policy=policies.balanced())()
    loss, args = cnn_loss()
    compressed, _ = cnn_loss(model)
    assert same_bits(loss(*args), compressed(*args))
