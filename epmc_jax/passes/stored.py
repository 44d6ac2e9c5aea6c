"""What is kept for the backward pass, and what is recomputed from it."""

from __future__ import annotations

import dataclasses
import math

from epmc_jax._codec import AbstractCodec
from epmc_jax._partitioning import block_shape, num_blocks, typed_sharding
from epmc_jax.codecs import Raw
from epmc_jax.passes.program import (
    NestedResidual,
    Op,
    Program,
    Value,
    itemsize,
    live_ops,
)
from epmc_jax.policy import Residual

# What an array may cost whose rows are shorter, and padded each, than if it had others.
MOST_PADDING = 1.01
# Of the largest array that is stored: to free less is not worth a tie.
TIED_SHARE = 1 / 4
# Smaller arrays XLA may have early: a tie for each would cost more than they do.
TIED_BYTES = 2**18


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """One value that is kept for the backward pass.

    `source` is what the encoder reads: `value` itself or, for `y > 0`, the array `y`.
    """

    value: Value
    source: Value
    codec: AbstractCodec
    residual: Residual
    reason: str
    nested: NestedResidual | None = None

    @property
    def dense_bytes(self) -> int:
        """Bytes of the array that JAX keeps for the same purpose."""
        if self.nested is not None:
            return self.nested.dense_bytes
        return math.prod(self.residual.shape) * itemsize(self.residual.dtype)

    @property
    def encoded_bytes(self) -> int:
        """Bytes that are kept."""
        if self.nested is not None:
            return self.nested.encoded_bytes
        if isinstance(self.codec, Raw):
            return self.value.nbytes
        return encoded_nbytes(self.codec, self.source)


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """The stored values, and the operations that recompute all else from them.

    `masks`: `{mask: y}`, masks `y > 0` that the encoded bytes of `y` tell. `lag`,
    `prefetch`: of the policy. `in_loop`: of the body of a loop.
    """

    program: Program
    stored: list[Stored]
    kept_arguments: list[Value]
    recompute: dict[Value, Op]
    masks: dict[Value, Value]
    notes: list[str]
    lag: int = 0
    prefetch: bool = False
    in_loop: bool = False

    @property
    def forward_ops(self) -> list[Op]:
        """What the forward pass runs: what outputs and stored arrays are made by."""
        wanted = [*self.program.outputs, *(s.source for s in self.stored)]
        return live_ops(self.program.forward, wanted)

    @property
    def repeated_ops(self) -> list[Op]:
        """What both passes run: XLA would merge the two, and keep the result."""
        repeated = {*self.recompute.values()}
        return [op for op in self.forward_ops if op in repeated]


def encoded_nbytes(codec: AbstractCodec, value: Value) -> int:
    """Bytes on all devices together: each encodes its block as an array of its own."""
    split = typed_sharding(value.aval)
    block = block_shape(split, value.shape)
    return num_blocks(split) * codec.encoded_nbytes(block, value.dtype)
