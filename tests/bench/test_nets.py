"""The benchmark networks have the published numbers of parameters."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from bench.nets import resnet_linen, vgg_linen
from bench.nets.alexnet import AlexNet
from bench.nets.densenet import DenseNet
from bench.nets.googlenet import GoogLeNet
from bench.nets.gpt import Gpt
from bench.nets.resnet import resnet18, resnet50
from bench.nets.unet import UNet
from bench.nets.vgg import VGG16
from bench.nets.vit import Vit

# torchvision's for the convolutional networks, timm's for ViT-S/16, GPT-2's own. The
# U-Net's paper gives no number: the weights and biases of its figure 1 are counted.
PUBLISHED = {
    AlexNet: 61_100_840,
    resnet18: 11_689_512,
    resnet50: 25_557_032,
    VGG16: 138_365_992,
    partial(VGG16, use_batch_norm=False): 138_357_544,
    GoogLeNet: 6_624_904,
    DenseNet: 7_978_856,
    Vit: 22_050_664,
    Gpt: 124_439_808,
    UNet: 31_030_658,
}

# The images of their papers: how they end is what the network must be able to take.
OUTPUTS = {
    AlexNet: ((2, 224, 224, 3), (2, 1000)),
    resnet50: ((2, 224, 224, 3), (2, 1000)),
    VGG16: ((2, 224, 224, 3), (2, 1000)),
    GoogLeNet: ((2, 224, 224, 3), (2, 1000)),
    DenseNet: ((2, 224, 224, 3), (2, 1000)),
    Vit: ((2, 224, 224, 3), (2, 1000)),
    UNet: ((2, 572, 572, 1), (2, 388, 388, 2)),
}


def _count(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("net", PUBLISHED)
def test_nnx_parameter_count(net):
    model = nnx.eval_shape(lambda: net(rngs=nnx.Rngs(0)))
    assert _count(nnx.state(model, nnx.Param)) == PUBLISHED[net]


def test_parameters_of_the_u_net_by_hand():
    def conv(kernel, features_in, features):
        return kernel**2 * features_in * features + features

    widths = (64, 128, 256, 512, 1024)
    pairs = list(itertools.pairwise(widths))
    down = sum(conv(3, a, b) for a, b in ((1, 64), *pairs))
    down += sum(conv(3, width, width) for width in widths)
    up = sum(conv(2, b, a) + conv(3, b, a) + conv(3, a, a) for a, b in pairs)
    assert down + up + conv(1, 64, 2) == PUBLISHED[UNet]


@pytest.mark.parametrize("remat_blocks", [False, True])
@pytest.mark.parametrize("net", OUTPUTS)
def test_shape_of_the_output(net, remat_blocks):
    shape, wanted = OUTPUTS[net]

    def run(x):
        return net(rngs=nnx.Rngs(0), remat_blocks=remat_blocks)(x)

    found = jax.eval_shape(run, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert found.shape == wanted


@pytest.mark.parametrize(
    ("init", "count"),
    [
        (partial(resnet_linen.ResNet18().init, train=True), 11_689_512),
        (partial(resnet_linen.ResNet50().init, train=True), 25_557_032),
        (vgg_linen.VGG16().init, 138_357_544),
    ],
)
def test_linen_parameter_count(init, count):
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
