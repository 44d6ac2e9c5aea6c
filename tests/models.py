"""Small networks and measures that several tests share."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

IMAGES = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
LABELS = jnp.arange(4) % 10


class ConvBlock(nn.Module):
    """Convolution, BatchNorm, ReLU and, if asked, an overlapping max-pool."""

    features: int
    pool: bool = False

    @nn.compact
    def __call__(self, x, train=True):
        x = nn.Conv(self.features, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(x))
        return nn.max_pool(x, (3, 3), (2, 2), "SAME") if self.pool else x


class Cnn(nn.Module):
    """Four convolutions with BatchNorm and max-pools, dropout, two dense layers."""

    block: type[nn.Module] = ConvBlock

    @nn.compact
    def __call__(self, x, train=True):
        for features in (8, 16):
            x = self.block(features)(x, train)
            x = self.block(features, pool=True)(x, train)
        x = nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(nn.Dropout(0.2, deterministic=not train)(x))


class NnxBlock(nnx.Module):
    """`ConvBlock` with a max-pool, in nnx, and dropout."""

    def __init__(self, features_in, features, *, rngs):
        self.conv = nnx.Conv(features_in, features, (3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        x = self.dropout(nnx.relu(self.norm(self.conv(x))))
        return nnx.max_pool(x, (2, 2), (2, 2))


class NnxCnn(nnx.Module):
    """Two blocks and a classifier."""

    def __init__(self, block=NnxBlock, *, rngs):
        self.first = block(3, 8, rngs=rngs)
        self.second = block(8, 16, rngs=rngs)
        self.dense = nnx.Linear(8 * 8 * 16, 10, rngs=rngs)

    def __call__(self, x):
        x = self.second(self.first(x))
        return self.dense(x.reshape(x.shape[0], -1))


def cross_entropy(logits, labels):
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
    return -picked.mean()


def cnn_loss(model=None):
    """`loss(params, statistics, images, key)` of `Cnn`, and arguments for it."""
    model = Cnn() if model is None else model
    variables = model.init({"params": jax.random.key(0)}, IMAGES, train=False)

    def loss(params, statistics, images, key):
        logits, updates = model.apply(
            {"params": params, "batch_stats": statistics},
            images,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        return cross_entropy(logits, LABELS), updates

    arguments = (variables["params"], variables["batch_stats"], IMAGES)
    return loss, (*arguments, jax.random.key(3))


def dropouts(layers, x, key):
    """Dense layers, each with a tanh and a dropout."""
    for index, weights in enumerate(layers):
        x = jnp.tanh(x @ weights)
        keep = jax.random.bernoulli(jax.random.fold_in(key, index), 0.9, x.shape)
        x = jnp.where(keep, x / 0.9, 0)
    return (x**2).mean()


def mlp_loss(weights, x):
    for w in weights:
        x = jax.nn.gelu(x @ w)
    return (x**2).mean()


def relative_error(reference, other) -> float:
    """`||other - reference|| / ||reference||` over all leaves."""
    pairs = list(zip(jax.tree.leaves(reference), jax.tree.leaves(other), strict=True))
    distance = sum(jnp.sum((a - b).astype(jnp.float32) ** 2) for a, b in pairs)
    norm = sum(jnp.sum(a.astype(jnp.float32) ** 2) for a, _ in pairs)
    return float(jnp.sqrt(distance / norm))


def same_bits(reference, other) -> bool:
    """True where structure and every bit of the leaves agree."""
    if jax.tree.structure(reference) != jax.tree.structure(other):
        return False
    pairs = zip(jax.tree.leaves(reference), jax.tree.leaves(other), strict=True)
    return all(bool(jnp.array_equal(a, b, equal_nan=True)) for a, b in pairs)


def temp_bytes(fun, *args) -> int:
    """Temporary bytes of the compiled `fun`, as XLA reports them."""
    compiled = jax.jit(fun).lower(*args).compile()
    return compiled.memory_analysis().temp_size_in_bytes
