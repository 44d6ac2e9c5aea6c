"""Networks for images, in flax.nnx: `(batch, 16, 16, 3)` to 10 logits."""

import itertools

import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.kinds.layers import attention

PIXELS = 16


def _conv(features_in: int, features: int, rngs: nnx.Rngs, **options) -> nnx.Conv:
    return nnx.Conv(features_in, features, (3, 3), rngs=rngs, **options)


class Mlp(nnx.Module):
    """Dense layers with gelu and dropout."""

    def __init__(self, *, rngs: nnx.Rngs):
        widths = (3 * PIXELS**2, 256, 256, 256)
        self.layers = nnx.List(
            [nnx.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(widths)]
        )
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.out = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for layer in self.layers:
            x = self.dropout(nnx.gelu(layer(x)))
        return self.out(x)


class Cnn(nnx.Module):
    """Convolutions, ReLU and max-pools, without normalisation."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stages = nnx.List(
            [
                nnx.List([_conv(i, o, rngs), _conv(o, o, rngs)])
                for i, o in ((3, 16), (16, 32))
            ]
        )
        self.out = nnx.Linear(32 * (PIXELS // 4) ** 2, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        for first, second in self.stages:
            x = nnx.relu(second(nnx.relu(first(x))))
            x = nnx.max_pool(x, (2, 2), (2, 2))
        return self.out(x.reshape(x.shape[0], -1))


class BatchNormCnn(nnx.Module):
    """Convolutions, BatchNorm, ReLU, overlapping max-pools."""

    def __init__(self, *, rngs: nnx.Rngs):
        widths = ((3, 16), (16, 32))
        self.convs = nnx.List([_conv(i, o, rngs, use_bias=False) for i, o in widths])
        self.norms = nnx.List([nnx.BatchNorm(o, rngs=rngs) for _, o in widths])
        self.out = nnx.Linear(32 * (PIXELS // 4) ** 2, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = nnx.max_pool(nnx.relu(norm(conv(x))), (3, 3), (2, 2), "SAME")
        return self.out(x.reshape(x.shape[0], -1))


class ResidualBlock(nnx.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    def __init__(self, features_in: int, features: int, stride: int, *, rngs: nnx.Rngs):
        self.conv1 = _conv(features_in, features, rngs, strides=stride, use_bias=False)
        self.norm1 = nnx.BatchNorm(features, rngs=rngs)
        self.conv2 = _conv(features, features, rngs, use_bias=False)
        self.norm2 = nnx.BatchNorm(features, rngs=rngs)
        self.shortcut = nnx.data(None)
        if features_in != features:
            self.shortcut = nnx.Conv(
                features_in, features, (1, 1), stride, use_bias=False, rngs=rngs
            )

    def __call__(self, x: Array) -> Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet(nnx.Module):
    """Residual blocks, the second with stride, and a mean over places."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = _conv(3, 16, rngs)
        self.first = ResidualBlock(16, 16, 1, rngs=rngs)
        self.second = ResidualBlock(16, 32, 2, rngs=rngs)
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.out(self.second(self.first(self.stem(x))).mean((1, 2)))


class UNet(nnx.Module):
    """Long skips that are concatenated."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.downs = nnx.List([_conv(3, 16, rngs), _conv(16, 32, rngs)])
        self.bottom = _conv(32, 64, rngs)
        widths = ((64, 32), (32, 16))
        self.ups = nnx.List(
            [nnx.ConvTranspose(i, o, (2, 2), (2, 2), rngs=rngs) for i, o in widths]
        )
        self.joins = nnx.List([_conv(2 * o, o, rngs) for _, o in widths])
        self.out = nnx.Conv(16, 10, (1, 1), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        skips = []
        for down in self.downs:
            x = nnx.relu(down(x))
            skips.append(x)
            x = nnx.max_pool(x, (2, 2), (2, 2))
        x = nnx.relu(self.bottom(x))
        for up, join, skip in zip(self.ups, self.joins, skips[::-1], strict=True):
            x = nnx.relu(join(jnp.concatenate([up(x), skip], -1)))
        return self.out(x).mean((1, 2))


class Depthwise(nnx.Module):
    """Depthwise separable convolutions, GroupNorm, silu, average pooling."""

    def __init__(self, *, rngs: nnx.Rngs):
        widths = ((32, 32), (32, 64))
        self.stem = _conv(3, 32, rngs)
        self.depthwise = nnx.List(
            [_conv(i, i, rngs, feature_group_count=i) for i, _ in widths]
        )
        self.pointwise = nnx.List(
            [nnx.Conv(i, o, (1, 1), rngs=rngs) for i, o in widths]
        )
        self.norms = nnx.List(
            [nnx.GroupNorm(o, num_groups=8, rngs=rngs) for _, o in widths]
        )
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.stem(x)
        layers = zip(self.depthwise, self.pointwise, self.norms, strict=True)
        for depthwise, pointwise, norm in layers:
            x = nnx.silu(norm(pointwise(depthwise(x))))
            x = nnx.avg_pool(x, (2, 2), (2, 2))
        return self.out(x.mean((1, 2)))


class Block(nnx.Module):
    """Pre-norm transformer block with dropout; attention as jax has it."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mixed = nnx.Linear(width, width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.mixed(attention(self.qkv(self.norm1(x)), is_causal=False))
        return x + self.dropout(self.down(nnx.gelu(self.up(self.norm2(x)))))


class ViT(nnx.Module):
    """Patches, learned positions, transformer blocks."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.patches = nnx.Conv(3, 64, (2, 2), (2, 2), rngs=rngs)
        positions = nnx.initializers.normal(0.02)
        self.positions = nnx.Param(positions(rngs.params(), ((PIXELS // 2) ** 2, 64)))
        self.blocks = nnx.List([Block(64, rngs=rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(64, rngs=rngs)
        self.out = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.patches(x).reshape(x.shape[0], -1, 64) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.out(self.norm(x).mean(1))
