"""Arrays that are encoded block by block, without ever being there as a whole.

What is stored is often made element by element of an array that is as large: of
logits, `exp(logits - max)`. Both at once would be the peak of a language model, whose
logits are far larger than anything else that is stored. XLA does not let one take the
memory of the other: the result of a product is part of a tuple on GPUs, and pinned on
CPUs.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jax import lax

from epmc_jax._partitioning import typed_sharding
from epmc_jax.codecs import Raw
from epmc_jax.passes.exactness import ELEMENTWISE, is_reduction
from epmc_jax.passes.program import Constant, Op, Value, live_ops, producers
from epmc_jax.passes.selection import Selection

# How many times larger than any other array that is stored: else it is not the peak.
_LARGER = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Chain:
    """Elementwise operations that make `value` of `inputs`, any of its rows alone."""

    ops: list[Op]
    inputs: list[Value]
    value: Value

    def __call__(self, *blocks: Any) -> Any:
        env = dict(zip(self.inputs, blocks, strict=True))
        rows = blocks[0].shape[0]
        for op in self.ops:
            arrays = [x.array if isinstance(x, Constant) else env[x] for x in op.inputs]
            env[op.outputs[0]] = _of_rows(op, arrays, rows)
        return env[self.value]


def _of_rows(op: Op, arrays: list[Any], rows: int) -> Any:
    if op.name != "broadcast_in_dim":
        return op.call(*arrays)[0]
    shape = (rows, *op.params["shape"][1:])
    return lax.broadcast_in_dim(arrays[0], shape, op.params["broadcast_dimensions"])


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
    value, codec = largest.source, largest.codec
    if others and value.nbytes < _LARGER * others[-1].source.nbytes:
        return {}
    is_split = typed_sharding(value.aval) is not None
    if is_split or isinstance(codec, Raw) or not codec.has_rows(value.shape):
        return {}
    ops = live_ops(program.forward, [*program.outputs, *(s.source for s in by_size)])
    readers = [op for op in ops if value in op.values]
    if value in program.outputs or not all(map(is_reduction, readers)):
        return {}
    chain = _chain(value, ops, {s.source for s in others})
    return {value: chain} if chain else {}


def _chain(value: Value, ops: list[Op], stored: set[Value]) -> Chain | None:
    made_by = producers(ops)
    members: set[Op] = set()
    inputs: dict[Value, None] = {}
    stack = [value]
    while stack:
        wanted = stack.pop()
        op = None if wanted in stored else made_by.get(wanted)
        if op is not None and _makes_rows(op, wanted.shape[0]):
            members.add(op)
            stack += op.values
        elif wanted.shape[:1] == value.shape[:1]:
            inputs[wanted] = None
        else:
            return None
    if value in inputs or not any(v.size >= value.size for v in inputs):
        return None
    return Chain([op for op in ops if op in members], [*inputs], value)


def _makes_rows(op: Op, rows: int) -> bool:
    """True where `op` makes each row of its result of the same rows of its operands."""
    if op.name == "broadcast_in_dim":
        return all(
            v.shape[:1] == (rows,) and op.params["broadcast_dimensions"][0] == 0
            for v in op.values
        )
    constants = [x for x in op.inputs if isinstance(x, Constant)]
    is_elementwise = op.name in ELEMENTWISE or op.name == "convert_element_type"
    return is_elementwise and all(np.ndim(c.array) == 0 for c in constants)
