"""A deep gelu network in flax.nnx: the plainest stack whose residuals dominate."""

from flax import nnx
from jax import Array

from bench.nets.blocks import Gelu, run_blocks


class GeluLayer(nnx.Module):
    """Linear layer and (tanh-approximated) gelu."""

    def __init__(self, width: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(width, width, rngs=rngs)
        self.gelu = Gelu()

    def __call__(self, x: Array) -> Array:
        return self.gelu(self.linear(x))


class GeluMlp(nnx.Module):
    """`depth` layers of one width. `remat_blocks` checkpoints each layer."""

    def __init__(
        self, *, depth: int, width: int, remat_blocks: bool = False, rngs: nnx.Rngs
    ):
        self.layers = nnx.List([GeluLayer(width, rngs) for _ in range(depth)])
        self.remat_blocks = remat_blocks

    def __call__(self, x: Array) -> Array:
        x = run_blocks(self.layers, x, remat=self.remat_blocks)
        return x
