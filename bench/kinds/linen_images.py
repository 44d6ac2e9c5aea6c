"""Networks for images, in flax.linen: `(batch, 16, 16, 3)` to 10 logits."""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from bench.kinds.layers import attention


class Mlp(nn.Module):
    """Dense layers with gelu and dropout."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for _ in range(3):
            x = nn.gelu(nn.Dense(256)(x))
            x = nn.Dropout(0.1, deterministic=False)(x)
        return nn.Dense(10)(x)


class Cnn(nn.Module):
    """Convolutions, ReLU and max-pools, without normalisation."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for features in (16, 32):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class BatchNormCnn(nn.Module):
    """Convolutions, BatchNorm, ReLU, overlapping max-pools."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for features in (16, 32):
            x = nn.Conv(features, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
            x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        return nn.Dense(10)(x.reshape(x.shape[0], -1))


class ResidualBlock(nn.Module):
    """Two convolutions with BatchNorm beside a shortcut."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = nn.Conv(self.features, (3, 3), self.stride, use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=False)(y))
        y = nn.Conv(self.features, (3, 3), use_bias=False)(y)
        y = nn.BatchNorm(use_running_average=False)(y)
        if x.shape != y.shape:
            x = nn.Conv(self.features, (1, 1), self.stride, use_bias=False)(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """Residual blocks, the second with stride, and a mean over places."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(16, (3, 3))(x)
        x = ResidualBlock(32, 2)(ResidualBlock(16)(x))
        return nn.Dense(10)(x.mean((1, 2)))


class UNet(nn.Module):
    """Long skips that are concatenated."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        skips = []
        for features in (16, 32):
            x = nn.relu(nn.Conv(features, (3, 3))(x))
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(64, (3, 3))(x))
        for features, skip in zip((32, 16), skips[::-1], strict=True):
            x = nn.ConvTranspose(features, (2, 2), (2, 2))(x)
            x = nn.relu(nn.Conv(features, (3, 3))(jnp.concatenate([x, skip], -1)))
        return nn.Conv(10, (1, 1))(x).mean((1, 2))


class Depthwise(nn.Module):
    """Depthwise separable convolutions, GroupNorm, silu, average pooling."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(32, (3, 3))(x)
        for features in (32, 64):
            x = nn.Conv(x.shape[-1], (3, 3), feature_group_count=x.shape[-1])(x)
            x = nn.silu(nn.GroupNorm(8)(nn.Conv(features, (1, 1))(x)))
            x = nn.avg_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.mean((1, 2)))


class Block(nn.Module):
    """Pre-norm transformer block with dropout; attention as jax has it."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        width = x.shape[-1]
        qkv = nn.Dense(3 * width)(nn.LayerNorm()(x))
        y = attention(qkv, is_causal=False)
        x = x + nn.Dense(width)(y)
        y = nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))
        return x + nn.Dropout(0.1, deterministic=False)(y)


class ViT(nn.Module):
    """Patches, learned positions, transformer blocks."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(64, (2, 2), (2, 2))(x).reshape(x.shape[0], -1, 64)
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        x = Block()(Block()(x))
        return nn.Dense(10)(nn.LayerNorm()(x).mean(1))
