"""Stacks of blocks, run as they are or each within `jax.checkpoint`."""

from collections.abc import Iterable
from typing import Any

from flax import nnx
from jax import Array


def run_blocks(blocks: Iterable[Any], x: Array, *, remat: bool) -> Array:
    """Applies the blocks in turn; with `remat` only their inputs are saved."""
    for block in blocks:
        x = nnx.remat(type(block).__call__)(block, x) if remat else block(x)
    return x
