"""ResNet-18 and ResNet-50 in flax.linen, NHWC: the demo trains the first."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

_Conv = partial(
    nn.Conv,
    use_bias=False,
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)


def _batch_norm(train: bool) -> partial[nn.BatchNorm]:
    return partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: the block of ResNet-18."""

    width: int
    stride: int
    train: bool
    expansion = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = _batch_norm(self.train)
        y = _Conv(self.width, (3, 3), self.stride, padding=1)(x)
        y = nn.relu(norm()(y))
        y = _Conv(self.width, (3, 3), padding=1)(y)
        y = norm()(y)
        if x.shape != y.shape:
            x = norm()(_Conv(self.width, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions: the block of ResNet-50."""

    width: int
    stride: int
    train: bool
    expansion = 4

    @nn.compact
    def __call__(self, x: Array) -> Array:
        norm = _batch_norm(self.train)
        features = self.width * self.expansion
        y = nn.relu(norm()(_Conv(self.width, (1, 1))(x)))
        y = _Conv(self.width, (3, 3), self.stride, padding=1)(y)
        y = nn.relu(norm()(y))
        y = _Conv(features, (1, 1))(y)
        y = norm()(y)
        if x.shape != y.shape:
            x = norm()(_Conv(features, (1, 1), self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Stem, four stages of residual blocks, global average, linear classifier.

    `small_images` replaces the 7x7 stride-2 convolution of the stem by a 3x3 stride-1
    one, and the last stage keeps the size of the third: on 2x2 images XLA:CPU runs a
    3x3 convolution a hundred times slower than on 4x4 ones (569 against 20 ms for 512
    channels and batch 100, jax 0.10.2). `remat_blocks` wraps each block in
    `jax.checkpoint`.
    """

    stage_sizes: Sequence[int]
    block: Any = BasicBlock
    num_classes: int = 1000
    small_images: bool = False
    remat_blocks: bool = False

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        kernel, stride = (3, 1) if self.small_images else (7, 2)
        x = _Conv(64, (kernel, kernel), stride, padding=kernel // 2, name="stem")(x)
        x = nn.relu(_batch_norm(train)(name="stem_norm")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        block = nn.remat(self.block) if self.remat_blocks else self.block
        shrinking = (1, 2) if self.small_images else (1, 2, 3)
        for stage, size in enumerate(self.stage_sizes):
            for index in range(size):
                stride = 2 if stage in shrinking and index == 0 else 1
                name = f"stage{stage}_block{index}"
                x = block(64 * 2**stage, stride, train, name=name)(x)
        x = jnp.mean(x, axis=(1, 2))
        return nn.Dense(self.num_classes, name="classifier")(x)


ResNet18 = partial(ResNet, (2, 2, 2, 2), BasicBlock)
ResNet50 = partial(ResNet, (3, 4, 6, 3), Bottleneck)
