"""DenseNet-121 in flax.nnx, NHWC (Huang et al., arXiv:1608.06993)."""

import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import conv, run_blocks
from bench.nets.resnet import max_pool_3x3

GROWTH = 32


class DenseLayer(nnx.Module):
    """BatchNorm, ReLU, 1x1 convolution; BatchNorm, ReLU, 3x3 one: `GROWTH` features
    of all that the block has made so far."""

    def __init__(self, features_in: int, rngs: nnx.Rngs):
        self.norm1 = nnx.BatchNorm(features_in, momentum=0.9, rngs=rngs)
        self.conv1 = conv(features_in, 4 * GROWTH, 1, 1, rngs)
        self.norm2 = nnx.BatchNorm(4 * GROWTH, momentum=0.9, rngs=rngs)
        self.conv2 = conv(4 * GROWTH, GROWTH, 3, 1, rngs)

    def __call__(self, x: Array) -> Array:
        y = self.conv1(nnx.relu(self.norm1(x)))
        y = self.conv2(nnx.relu(self.norm2(y)))
        return jnp.concatenate([x, y], axis=-1)


class Transition(nnx.Module):
    """Half the features, half the height and width."""

    def __init__(self, features_in: int, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(features_in, momentum=0.9, rngs=rngs)
        self.conv = conv(features_in, features_in // 2, 1, 1, rngs)

    def __call__(self, x: Array) -> Array:
        x = self.conv(nnx.relu(self.norm(x)))
        return nnx.avg_pool(x, (2, 2), strides=(2, 2))


class DenseNet(nnx.Module):
    """DenseNet-121 by default: 7,978,856 parameters.

    `remat_blocks` checkpoints each dense layer and each transition.
    """

    def __init__(
        self,
        *,
        stage_sizes: tuple[int, ...] = (6, 12, 24, 16),
        num_classes: int = 1000,
        channels: int = 3,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        features = 2 * GROWTH
        self.conv = conv(channels, features, 7, 2, rngs)
        self.norm1 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        blocks: list[DenseLayer | Transition] = []
        for stage, size in enumerate(stage_sizes):
            if stage > 0:
                blocks.append(Transition(features, rngs))
                features //= 2
            for _ in range(size):
                blocks.append(DenseLayer(features, rngs))
                features += GROWTH
        self.blocks = nnx.List(blocks)
        self.norm2 = nnx.BatchNorm(features, momentum=0.9, rngs=rngs)
        self.classifier = nnx.Linear(features, num_classes, rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        x = max_pool_3x3(nnx.relu(self.norm1(self.conv(x))))
        x = run_blocks(self.blocks, x, remat=self.remat_blocks)
        x = nnx.relu(self.norm2(x))
        return self.classifier(jnp.mean(x, axis=(1, 2)))
