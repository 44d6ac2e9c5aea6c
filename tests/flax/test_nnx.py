"""nnx: variables are written back, random counts agree, gradients within bounds."""

import jax
import pytest
from flax import nnx

import epmc_jax
from tests.models import IMAGES, LABELS, NnxBlock, NnxCnn, cross_entropy, relative_error


class MethodBlock(NnxBlock):
    @epmc_jax.compress
    def __call__(self, x):
        return NnxBlock.__call__(self, x)


class InstanceCnn(NnxCnn):
    def __call__(self, x):
        x = epmc_jax.compress(self.second)(epmc_jax.compress(self.first)(x))
        return self.dense(x.reshape(x.shape[0], -1))


MODELS = {
    "blocks": lambda rngs: NnxCnn(block=epmc_jax.compress(NnxBlock), rngs=rngs),
    "method": lambda rngs: NnxCnn(block=MethodBlock, rngs=rngs),
    "instance": lambda rngs: InstanceCnn(rngs=rngs),
    "model": lambda rngs: epmc_jax.compress(NnxCnn)(rngs=rngs),
}


def run(make):
    """Loss, gradients, batch statistics and random counts after one step."""
    model = make(nnx.Rngs(0))

    def loss(model, x):
        return cross_entropy(model(x), LABELS)

    value, gradients = nnx.jit(nnx.value_and_grad(loss))(model, IMAGES)
    counts = nnx.to_pure_dict(nnx.state(model, nnx.RngCount))
    statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
    return value, statistics, nnx.to_pure_dict(gradients), jax.tree.leaves(counts)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_one_step(make):
    expected = run(lambda rngs: NnxCnn(rngs=rngs))
    found = run(make)
    assert relative_error(expected[:2], found[:2]) < 1e-6
    assert 0 < relative_error(expected[2], found[2]) < 0.02
    assert [int(c) for c in expected[3]] == [int(c) for c in found[3]]


def test_a_function_of_a_module_writes_back_what_changed():
    """Statistics and random counts must not stay in a copy."""

    def step(wrap):
        model, rngs = NnxCnn(rngs=nnx.Rngs(0)), nnx.Rngs(7)

        def loss(model, rngs, x):
            x = x + 0.1 * jax.random.normal(rngs.noise(), x.shape)
            return cross_entropy(model(x), LABELS)

        value, gradients = nnx.jit(nnx.value_and_grad(wrap(loss)))(model, rngs, IMAGES)
        counts = jax.tree.leaves(nnx.state(rngs, nnx.RngCount))
        statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return value, statistics, [int(c) for c in counts], nnx.to_pure_dict(gradients)

    expected, found = step(lambda f: f), step(epmc_jax.compress)
    assert relative_error(expected[:2], found[:2]) < 1e-6
    assert expected[2] == found[2]
    assert 0 < relative_error(expected[3], found[3]) < 0.02


def test_a_call_that_makes_variables_is_refused():
    class Grows(nnx.Module):
        def __init__(self, rngs):
            self.dense = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            self.seen = nnx.Variable(x)
            return self.dense(x)

    with pytest.raises(ValueError, match="Grows makes or removes variables"):
        epmc_jax.compress(Grows)(nnx.Rngs(0))(IMAGES)
