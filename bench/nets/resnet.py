"""ResNet-18 and ResNet-50 in flax.nnx, NHWC, as in He et al., arXiv:1512.03385.

Downsampling sits on the 3x3 convolution of a bottleneck, as in the widespread "v1.5".
"""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import conv, run_blocks


def max_pool_3x3(x: Array) -> Array:
    """Overlapping 3x3 windows with stride 2: halves height and width."""
    return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))


class _Shortcut(nnx.Module):
    """1x1 convolution and normalisation where a block changes the shape."""

    def __init__(self, features_in: int, features: int, stride: int, rngs: nnx.Rngs):
        self.conv = conv(features_in, features, 1, stride, rngs)
        self.norm = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.norm(self.conv(x))


def _shortcut(
    features_in: int, features: int, stride: int, rngs: nnx.Rngs
) -> _Shortcut | None:
    if stride == 1 and features_in == features:
        return None
    return _Shortcut(features_in, features, stride, rngs)


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions: the block of ResNet-18."""

    expansion = 1

    def __init__(self, features_in: int, width: int, stride: int, rngs: nnx.Rngs):
        self.conv1 = conv(features_in, width, 3, stride, rngs)
        self.norm1 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.conv2 = conv(width, width, 3, 1, rngs)
        self.norm2 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.shortcut = nnx.data(_shortcut(features_in, width, stride, rngs))

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Bottleneck(nnx.Module):
    """1x1, 3x3 and 1x1 convolutions: the block of ResNet-50."""

    expansion = 4

    def __init__(self, features_in: int, width: int, stride: int, rngs: nnx.Rngs):
        features = width * self.expansion
        self.conv1 = conv(features_in, width, 1, 1, rngs)
        self.norm1 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.conv2 = conv(width, width, 3, stride, rngs)
        self.norm2 = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.conv3 = conv(width, features, 1, 1, rngs)
        self.norm3 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.shortcut = nnx.data(_shortcut(features_in, features, stride, rngs))

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = nnx.relu(self.norm2(self.conv2(y)))
        y = self.norm3(self.conv3(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """Stem, four stages of residual blocks, global average, linear classifier.

    `small_images` replaces the 7x7 stride-2 convolution of the stem by a 3x3 stride-1
    one, and the last stage keeps the size of the third: on 2x2 images XLA:CPU runs a
    3x3 convolution a hundred times slower than on 4x4 ones (569 against 20 ms for 512
    channels and batch 100, jax 0.10.2). `width`: features of the stem and of the first
    stage's blocks. `remat_blocks` wraps each block in
    `jax.checkpoint`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        stage_sizes: Sequence[int],
        *,
        num_classes: int = 1000,
        channels: int = 3,
        width: int = 64,
        small_images: bool = False,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.remat_blocks = remat_blocks
        self.conv = conv(channels, width, kernel, stride, rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        blocks = []
        features = width
        shrinking = (1, 2) if small_images else (1, 2, 3)
        for stage, size in enumerate(stage_sizes):
            inner = width * 2**stage
            for index in range(size):
                stride = 2 if stage in shrinking and index == 0 else 1
                blocks.append(block(features, inner, stride, rngs))
                features = inner * block.expansion
        self.blocks = nnx.List(blocks)
        self.classifier = nnx.Linear(features, num_classes, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = max_pool_3x3(nnx.relu(self.norm(self.conv(x))))
        x = run_blocks(self.blocks, x, remat=self.remat_blocks)
        return self.classifier(jnp.mean(x, axis=(1, 2)))


def resnet18(*, rngs: nnx.Rngs, **options) -> ResNet:
    """ResNet-18: 11,689,512 parameters with the default options."""
    return ResNet(BasicBlock, (2, 2, 2, 2), rngs=rngs, **options)


def resnet50(*, rngs: nnx.Rngs, **options) -> ResNet:
    """ResNet-50: 25,557,032 parameters with the default options."""
    return ResNet(Bottleneck, (3, 4, 6, 3), rngs=rngs, **options)
