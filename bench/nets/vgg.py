"""VGG16 with BatchNorm in flax.nnx, NHWC (Simonyan and Zisserman, arXiv:1409.1556)."""

import itertools
from collections.abc import Callable

from flax import nnx
from jax import Array

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of convolutions between two max-pools."""

Tap = Callable[[Array], Array]


def _as_it_is(x: Array) -> Array:
    return x


class ConvNormRelu(nnx.Module):
    """3x3 convolution, BatchNorm, ReLU."""

    def __init__(self, features_in: int, features: int, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            features_in,
            features,
            (3, 3),
            padding=1,
            kernel_init=nnx.initializers.variance_scaling(2.0, "fan_out", "normal"),
            rngs=rngs,
        )
        self.norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)

    def __call__(self, x: Array, before_relu: Tap) -> Array:
        return nnx.relu(before_relu(self.norm(self.conv(x))))


class VGG16(nnx.Module):
    """13 convolutions, a 2x2 max-pool after each stage, three dense layers.

    138,365,992 parameters with the default options. No dropout: the benchmarks compare
    gradients, and the network is the same function in every method. Calls with
    `before_relu` or `before_pool` replace what enters each ReLU or max-pool.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        num_classes: int = 1000,
        channels: int = 3,
        hidden: int = 4096,
        rngs: nnx.Rngs,
    ):
        stages = []
        for features, size in STAGES:
            widths = [channels] + [features] * size
            pairs = itertools.pairwise(widths)
            stages.append(nnx.List([ConvNormRelu(a, b, rngs) for a, b in pairs]))
            channels = features
        self.stages = nnx.List(stages)
        flat = (image_size // 2 ** len(STAGES)) ** 2 * channels
        self.dense1 = nnx.Linear(flat, hidden, rngs=rngs)
        self.dense2 = nnx.Linear(hidden, hidden, rngs=rngs)
        self.classifier = nnx.Linear(hidden, num_classes, rngs=rngs)

    def __call__(
        self, x: Array, *, before_relu: Tap = _as_it_is, before_pool: Tap = _as_it_is
    ) -> Array:
        for stage in self.stages:
            for layer in stage:
                x = layer(x, before_relu)
            x = nnx.max_pool(before_pool(x), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(before_relu(self.dense1(x)))
        x = nnx.relu(before_relu(self.dense2(x)))
        return self.classifier(x)
