"""A convolutional network without normalisation, in flax.nnx, NHWC."""

from collections.abc import Callable

from flax import nnx
from jax import Array

STAGES = ((32, 2), (64, 2), (128, 2))
"""Width and number of convolutions between two max-pools."""

Tap = Callable[[Array], Array]


def _as_it_is(x: Array) -> Array:
    return x


class PlainCnn(nnx.Module):
    """3x3 convolutions and ReLU in three stages, a mean over places, a dense layer.

    Calls with `before_relu` replace what enters each ReLU.
    """

    def __init__(self, *, num_classes: int, channels: int = 1, rngs: nnx.Rngs):
        layers = []
        for features, size in STAGES:
            for _ in range(size):
                layers.append(
                    nnx.Conv(
                        channels,
                        features,
                        (3, 3),
                        padding=1,
                        kernel_init=nnx.initializers.he_normal(),
                        rngs=rngs,
                    )
                )
                channels = features
        self.layers = nnx.List(layers)
        self.classifier = nnx.Linear(channels, num_classes, rngs=rngs)

    def __call__(self, x: Array, *, before_relu: Tap = _as_it_is) -> Array:
        layers = iter(self.layers)
        for _, size in STAGES:
            for _ in range(size):
                x = nnx.relu(before_relu(next(layers)(x)))
            x = nnx.max_pool(x, (2, 2), strides=(2, 2))
        return self.classifier(x.mean(axis=(1, 2)))
