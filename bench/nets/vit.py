"""A vision transformer in flax.nnx, NHWC (Dosovitskiy et al., arXiv:2010.11929)."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import run_blocks
from bench.nets.transformer import Block


class Attention(nnx.Module):
    """Self-attention without a mask."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        batch, time, width = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3, self.heads, width // self.heads)
        mixed = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        return self.out(mixed.reshape(batch, time, width))


def _block(width: int, heads: int, rngs: nnx.Rngs) -> Block:
    return Block(width, Attention(width, heads, rngs), rngs)


class Vit(nnx.Module):
    """ViT-S/16 by default, with a class token: 22,050,664 parameters."""

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch: int = 16,
        depth: int = 12,
        width: int = 384,
        heads: int = 6,
        num_classes: int = 1000,
        remat_blocks: bool = False,
        rngs: nnx.Rngs,
    ):
        size = (patch, patch)
        self.patches = nnx.Conv(3, width, size, size, padding="VALID", rngs=rngs)
        self.token = nnx.Param(jnp.zeros((1, 1, width)))
        places = 1 + (image_size // patch) ** 2
        noise = jax.random.normal(rngs.params(), (places, width))
        self.positions = nnx.Param(0.02 * noise)
        self.blocks = nnx.List([_block(width, heads, rngs) for _ in range(depth)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.classifier = nnx.Linear(width, num_classes, rngs=rngs)
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        x = self.patches(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        token = jnp.broadcast_to(self.token[...], (x.shape[0], 1, x.shape[-1]))
        x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        x = x + self.positions[...]
        x = run_blocks(self.blocks, x, remat=self.remat_blocks)
        return self.classifier(self.norm(x[:, 0]))
