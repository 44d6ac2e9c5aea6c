"""GoogLeNet in flax.nnx, NHWC (Szegedy et al., arXiv:1409.4842).

As widespread today: BatchNorm after each convolution, 3x3 kernels where the paper has
5x5 ones, no auxiliary classifiers, no dropout.
"""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import conv, run_blocks

# Features of the branches: 1x1; 1x1 and 3x3; 1x1 and (wide) 3x3; pool and 1x1.
_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def _halved(x: Array, kernel: int = 3) -> Array:
    return nnx.max_pool(x, (kernel, kernel), strides=(2, 2), padding="SAME")


class ConvNormRelu(nnx.Module):
    """Convolution, BatchNorm, ReLU."""

    def __init__(
        self, features_in: int, features: int, kernel: int, stride: int, rngs: nnx.Rngs
    ):
        self.conv = conv(features_in, features, kernel, stride, rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.9, epsilon=1e-3, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return nnx.relu(self.norm(self.conv(x)))


class Inception(nnx.Module):
    """Four branches beside each other, concatenated."""

    def __init__(self, features_in: int, widths: tuple[int, ...], rngs: nnx.Rngs):
        one, three_in, three, wide_in, wide, pooled = widths
        self.one = ConvNormRelu(features_in, one, 1, 1, rngs)
        self.three_in = ConvNormRelu(features_in, three_in, 1, 1, rngs)
        self.three = ConvNormRelu(three_in, three, 3, 1, rngs)
        self.wide_in = ConvNormRelu(features_in, wide_in, 1, 1, rngs)
        self.wide = ConvNormRelu(wide_in, wide, 3, 1, rngs)
        self.pooled = ConvNormRelu(features_in, pooled, 1, 1, rngs)

    def __call__(self, x: Array) -> Array:
        pooled = nnx.max_pool(x, (3, 3), strides=(1, 1), padding="SAME")
        branches = (
            self.one(x),
            self.three(self.three_in(x)),
            self.wide(self.wide_in(x)),
            self.pooled(pooled),
        )
        return jnp.concatenate(branches, axis=-1)


class GoogLeNet(nnx.Module):
    """6,624,904 parameters by default. `remat_blocks` checkpoints each inception."""

    def __init__(
        self,
        *,
        num_classes: int = 1000,
        channels: int = 3,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        self.stem = ConvNormRelu(channels, 64, 7, 2, rngs)
        self.conv2 = ConvNormRelu(64, 64, 1, 1, rngs)
        self.conv3 = ConvNormRelu(64, 192, 3, 1, rngs)
        features = 192
        stages = []
        for stage in _STAGES:
            blocks = []
            for widths in stage:
                blocks.append(Inception(features, widths, rngs))
                features = widths[0] + widths[2] + widths[4] + widths[5]
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.classifier = nnx.Linear(features, num_classes, rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        x = _halved(self.stem(x))
        x = _halved(self.conv3(self.conv2(x)))
        first, second, third = self.stages
        x = _halved(run_blocks(first, x, remat=self.remat_blocks))
        x = _halved(run_blocks(second, x, remat=self.remat_blocks), 2)
        x = run_blocks(third, x, remat=self.remat_blocks)
        return self.classifier(jnp.mean(x, axis=(1, 2)))
