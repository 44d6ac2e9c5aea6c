"""Arrays that are encoded block by block, without ever being there as a whole.

What is stored is often made element by element of an array that is as large: of
logits, `exp(logits - max)`. Both at once would be the peak of a language model, whose
logits are far larger than anything else that is stored. XLA does not let one take the
memory of the other: the result of a product is part of a tuple on GPUs, and pinned on
CPUs.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from jax import lax

from epmc_jax._codec import AbstractCodec
from epmc_jax._partitioning import typed_sharding
from epmc_jax.codecs import Raw
from epmc_jax.passes.exactness import ELEMENTWISE, is_reduction
from epmc_jax.passes.program import Constant, Op, Value, producers, read
from epmc_jax.passes.stored import MOST_PADDING, Selection

# How many times larger than any other array that is stored: else it is not the peak.
_LARGER = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Elementwise operations that make `value` of `inputs`, any of its rows alone.

    The first `row_axes` axes count the rows: those of several axes are one axis of what
    is encoded.
    """

    ops: list[Op]
    inputs: list[Value]
    value: Value
    row_axes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of `value` as it is encoded."""
        return self._merged(self.value.shape)

    def rows_of(self, value: Value, array: Any) -> Any:
        """`array`, which is `value`, with its rows along one axis."""
        return array.reshape(self._merged(value.shape))

    def __call__(self, *blocks: Any) -> Any:
        env = dict(zip(self.inputs, blocks, strict=True))
        for op in self.ops:
            arrays = [read(env, x) for x in op.inputs]
            env[op.outputs[0]] = self._applied(op, arrays, blocks[0].shape[0])
        return env[self.value]

    def _applied(self, op: Op, arrays: list[Any], rows: int) -> Any:
        if op.name != "broadcast_in_dim":
            return op.call(*arrays)[0]
        shape = (rows, *op.params["shape"][self.row_axes :])
        axes = op.params["broadcast_dimensions"]
        later = (axis - self.row_axes + 1 for axis in axes[self.row_axes :])
        leading = (0,) if axes else ()
        return lax.broadcast_in_dim(arrays[0], shape, (*leading, *later))

    def _merged(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape[: self.row_axes]), *shape[self.row_axes :])


def encoded_in_blocks(selection: Selection) -> dict[Value, Chain]:
    """The array that is to be made in blocks for its encoder, if there is one.

    It is far larger than all others that are stored, it is made of an array of its
    size, and the forward pass only reads sums over it: these are fused with what makes
    its elements.
    """
    program = selection.program
    by_size = sorted(selection.stored, key=lambda s: s.source.nbytes)
    if not by_size:
        return {}
    *others, largest = by_size
    value = largest.source
    if others and value.nbytes < _LARGER * others[-1].source.nbytes:
        return {}
    is_split = typed_sharding(value.aval) is not None
    if is_split or value in program.outputs or isinstance(largest.codec, Raw):
        return {}
    if value is not largest.value or value in selection.masks.values():
        return {}
    if not largest.codec.has_rows(value.shape) or largest.codec.ways > 1:
        return {}
    ops = selection.forward_ops
    if not all(is_reduction(op) for op in ops if value in op.values):
        return {}
    chains = (
        _chain(value, ops, {s.source for s in others}, row_axes)
        for row_axes in _row_axes(value, largest.codec)
    )
    chain = next(filter(None, chains), None)
    return {value: chain} if chain else {}


def _row_axes(value: Value, codec: AbstractCodec) -> list[int]:
    """How many axes may count the rows, the most first: of a batch of one text the
    positions do."""
    shape, most = value.shape, len(value.shape) - 1
    merged = (math.prod(shape[:most]), shape[most])
    allowed = MOST_PADDING * codec.encoded_nbytes(shape, value.dtype)
    fits = codec.encoded_nbytes(merged, value.dtype) <= allowed
    return [most, 1] if fits else [1]


def _chain(
    value: Value, ops: list[Op], stored: set[Value], row_axes: int
) -> Chain | None:
    made_by = producers(ops)
    rows = value.shape[:row_axes]
    members: set[Op] = set()
    inputs: dict[Value, None] = {}
    stack = [value]
    while stack:
        wanted = stack.pop()
        op = None if wanted in stored else made_by.get(wanted)
        if op is not None and _makes_rows(op, rows):
            members.add(op)
            stack += op.values
        elif wanted.shape[:row_axes] == rows:
            inputs[wanted] = None
        else:
            return None
    if value in inputs or not any(v.size >= value.size for v in inputs):
        return None
    return Chain([op for op in ops if op in members], [*inputs], value, row_axes)


def _makes_rows(op: Op, rows: tuple[int, ...]) -> bool:
    """True where `op` makes each row of its result of the same rows of its operands."""
    constants = [x for x in op.inputs if isinstance(x, Constant)]
    if any(np.ndim(c.array) for c in constants):
        return False
    if op.name == "broadcast_in_dim":
        axes = op.params["broadcast_dimensions"][: len(rows)]
        keeps_rows = axes == tuple(range(len(rows)))
        return all(keeps_rows and v.shape[: len(rows)] == rows for v in op.values)
    return op.name in ELEMENTWISE or op.name == "convert_element_type"
