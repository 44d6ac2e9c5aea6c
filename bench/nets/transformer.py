"""The block that the transformers share."""

from flax import nnx
from jax import Array

from bench.nets.blocks import Gelu


class Block(nnx.Module):
    """Pre-norm `attention` and a gelu MLP of four times the width."""

    def __init__(self, width: int, attention: nnx.Module, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = attention
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.gelu = Gelu()
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.gelu(self.up(self.norm2(x))))
