"""The benchmark networks have the published numbers of parameters."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from bench.nets import resnet_linen
from bench.nets.gpt import Gpt
from bench.nets.resnet import resnet18, resnet50
from bench.nets.vgg import VGG16

PUBLISHED = {
    resnet18: 11_689_512,
    resnet50: 25_557_032,
    VGG16: 138_365_992,
    Gpt: 124_439_808,
}


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("net", PUBLISHED)
def test_nnx_parameter_count(net):
    model = nnx.eval_shape(lambda: net(rngs=nnx.Rngs(0)))
    assert _count(nnx.state(model, nnx.Param)) == PUBLISHED[net]


@pytest.mark.parametrize(
    ("net", "count"),
    [(resnet_linen.ResNet18, 11_689_512), (resnet_linen.ResNet50, 25_557_032)],
)
def test_linen_parameter_count(net, count):
    init = partial(net().init, train=True)
    images = jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32)
    assert _count(jax.eval_shape(init, jax.random.key(0), images)["params"]) == count


@pytest.mark.parametrize("remat_blocks", [False, True])
def test_nnx_and_linen_resnet_have_the_same_shapes_inside(remat_blocks):
    options = {"num_classes": 10, "small_images": True, "remat_blocks": remat_blocks}
    images = jnp.zeros((2, 32, 32, 3))
    linen = resnet_linen.ResNet18(**options)
    init = partial(linen.init, train=True)
    variables = jax.eval_shape(init, jax.random.key(0), images)
    apply = partial(linen.apply, train=True, mutable="batch_stats")
    logits, _ = jax.eval_shape(apply, variables, images)
    model = nnx.eval_shape(lambda: resnet18(rngs=nnx.Rngs(0), **options))
    assert _count(nnx.state(model, nnx.Param)) == _count(variables["params"])
    assert logits.shape == (2, 10)
