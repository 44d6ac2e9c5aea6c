"""What the networks share: convolutions, and stacks of blocks, checkpointed or not."""

from collections.abc import Iterable
from typing import Any

from flax import nnx
from jax import Array

he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


class Gelu(nnx.Module):
    """tanh-approximated gelu as a module, so that it can be checkpointed as one."""

    def __call__(self, x: Array) -> Array:
        return nnx.gelu(x)


def conv(
    features_in: int, features: int, kernel: int, stride: int, rngs: nnx.Rngs
) -> nnx.Conv:
    """Square kernel without bias; at stride 1 height and width stay."""
    return nnx.Conv(
        features_in,
        features,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2,
        use_bias=False,
        kernel_init=he_normal,
        rngs=rngs,
    )


def run_block(block: Any, *args: Any, remat: bool) -> Any:
    """Calls the block; with `remat` only what it is given is saved."""
    return nnx.remat(type(block).__call__)(block, *args) if remat else block(*args)


def run_blocks(blocks: Iterable[Any], x: Array, *, remat: bool) -> Array:
    """Applies the blocks in turn; with `remat` only their inputs are saved."""
    for block in blocks:
        x = run_block(block, x, remat=remat)
    return x
