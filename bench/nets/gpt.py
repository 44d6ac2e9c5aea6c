"""A GPT-2-like decoder in flax.nnx: 124,439,808 parameters by default (GPT-2 small)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from bench.nets.blocks import run_blocks
from bench.nets.transformer import Block


class Attention(nnx.Module):
    """Causal self-attention, softmax written out: its residuals are the point."""

    def __init__(self, width: int, heads: int, rngs: nnx.Rngs):
        self.heads = heads
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        batch, time, width = x.shape
        qkv = self.qkv(x).reshape(batch, time, 3, self.heads, width // self.heads)
        q, k, v = jnp.moveaxis(qkv, 2, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
        causal = jnp.tril(jnp.ones((time, time), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e30), axis=-1)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out(mixed.reshape(batch, time, width))


def _block(width: int, heads: int, rngs: nnx.Rngs) -> Block:
    return Block(width, Attention(width, heads, rngs), rngs)


class Gpt(nnx.Module):
    """Embeddings, `depth` blocks, tied output; `remat_blocks` checkpoints each one.

    `is_scanned`: the blocks are one `nnx.scan` (and none is checkpointed).
    """

    def __init__(
        self,
        *,
        depth: int = 12,
        width: int = 768,
        heads: int = 12,
        vocabulary: int = 50257,
        context: int = 1024,
        remat_blocks: bool = False,
        is_scanned: bool = False,
        rngs: nnx.Rngs,
    ):
        self.tokens = nnx.Embed(vocabulary, width, rngs=rngs)
        self.positions = nnx.Embed(context, width, rngs=rngs)
        self.blocks: Any = (
            _stacked(depth, width, heads, rngs)
            if is_scanned
            else nnx.List([_block(width, heads, rngs) for _ in range(depth)])
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.remat_blocks = remat_blocks
        self.is_scanned = is_scanned

    def __call__(self, tokens: Array) -> Array:
        # Not by calls of `nnx.Embed`: it computes in the dtype of its construction.
        embedding = self.tokens.embedding[...]
        positions = self.positions.embedding[...][: tokens.shape[1]]
        x = jnp.take(embedding, tokens, axis=0) + positions
        if self.is_scanned:
            x = _scan(x, self.blocks)
        else:
            x = run_blocks(self.blocks, x, remat=self.remat_blocks)
        return self.norm(x) @ embedding.T


def _stacked(depth: int, width: int, heads: int, rngs: nnx.Rngs) -> Block:
    """`depth` blocks as one, each parameter with a leading axis."""
    make = nnx.vmap(lambda rngs: _block(width, heads, rngs), in_axes=0, out_axes=0)
    return make(rngs.fork(split=depth))


@nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
def _scan(x: Array, block: Block) -> Array:
    return block(x)
