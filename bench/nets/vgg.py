"""VGG16 in flax.nnx, NHWC, with or without BatchNorm.

Reference: Simonyan and Zisserman, arXiv:1409.1556.
"""

import itertools
from collections.abc import Callable

from flax import nnx
from jax import Array

from bench.nets.blocks import he_normal

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of convolutions between two max-pools."""

Tap = Callable[[Array], Array]


def _as_it_is(x: Array) -> Array:
    return x


class ConvNormRelu(nnx.Module):
    """3x3 convolution, BatchNorm where `use_batch_norm`, ReLU."""

    def __init__(
        self, features_in: int, features: int, use_batch_norm: bool, rngs: nnx.Rngs
    ):
        self.conv = nnx.Conv(
            features_in,
            features,
            (3, 3),
            padding=1,
            kernel_init=he_normal,
            rngs=rngs,
        )
        norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.norm = nnx.data(norm if use_batch_norm else None)

    def __call__(self, x: Array, before_relu: Tap) -> Array:
        x = self.conv(x)
        return nnx.relu(before_relu(x if self.norm is None else self.norm(x)))


class VGG16(nnx.Module):
    """13 convolutions, a 2x2 max-pool after each stage, three dense layers.

    138,365,992 parameters with the default options, 138,357,544 without BatchNorm. No
    dropout: the benchmarks compare gradients, and the network is the same function in
    every method. Calls with `before_relu` or `before_pool` replace what enters each
    ReLU or max-pool. `remat_blocks` checkpoints each stage, without its max-pool.
    `stages` is as `STAGES`.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        num_classes: int = 1000,
        channels: int = 3,
        hidden: int = 4096,
        stages: tuple[tuple[int, int], ...] = STAGES,
        use_batch_norm: bool = True,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        self.stages: nnx.List = nnx.List()
        for features, size in stages:
            pairs = itertools.pairwise([channels] + [features] * size)
            layers = [ConvNormRelu(a, b, use_batch_norm, rngs) for a, b in pairs]
            self.stages.append(nnx.List(layers))
            channels = features
        flat = (image_size // 2 ** len(stages)) ** 2 * channels
        self.dense1 = nnx.Linear(flat, hidden, rngs=rngs)
        self.dense2 = nnx.Linear(hidden, hidden, rngs=rngs)
        self.classifier = nnx.Linear(hidden, num_classes, rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(
        self, x: Array, *, before_relu: Tap = _as_it_is, before_pool: Tap = _as_it_is
    ) -> Array:
        for stage in self.stages:
            x = self._run(stage, x, before_relu)
            x = nnx.max_pool(before_pool(x), (2, 2), strides=(2, 2))
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(before_relu(self.dense1(x)))
        x = nnx.relu(before_relu(self.dense2(x)))
        return self.classifier(x)

    def _run(self, stage: nnx.List, x: Array, before_relu: Tap) -> Array:
        def run(stage, x):
            for layer in stage:
                x = layer(x, before_relu)
            return x

        return nnx.remat(run)(stage, x) if self.remat_blocks else run(stage, x)
