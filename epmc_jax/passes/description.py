"""What a policy is told of each value: its kind, its place, its range."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable

from epmc_jax._codec import AbstractCodec
from epmc_jax.codecs import PoolIndex
from epmc_jax.passes.exactness import statistics_of
from epmc_jax.passes.program import (
    NestedResidual,
    Op,
    Program,
    Value,
    is_float,
    producers,
)
from epmc_jax.passes.ranges import index_bounds
from epmc_jax.passes.zeros import is_zero_scalar
from epmc_jax.policy import Kind, Policy, PoolWindow, Residual


class Describer:
    """Makes the `Residual` of any value of a program."""

    def __init__(self, program: Program, encoded_arguments: set[Value]):
        self.made_by = producers(program.forward)
        self.nested = program.nested.by_name
        self.encoded_arguments = encoded_arguments
        self.statistics = statistics_of(program)
        self.bounds = index_bounds(program)
        self.names = _checkpoint_names(program.forward)
        self.relu = _relu_values(program)

    def nested_of(self, value: Value) -> NestedResidual | None:
        """What the body of a loop, or a branch, stores in `value`."""
        return self.nested.get(self.names.get(value, ""))

    def describe(self, value: Value) -> Residual:
        op = self.made_by.get(value)
        if (nested := self.nested_of(value)) is not None:
            return nested.residual
        if op is not None and op.name == "max_pool" and value is op.outputs[1]:
            return describe_pool(op, op.params["codec"])
        return Residual(
            kind=self._kind(value),
            path=site(op) if op else "argument",
            primitive=op.name if op else "argument",
            shape=value.shape,
            dtype=value.dtype,
            name=self.names.get(value),
            num_values=self.bounds.get(value),
            is_saved_input=value in self.encoded_arguments,
        )

    def _kind(self, value: Value) -> Kind:
        if not is_float(value):
            return "mask" if value.dtype == bool else "index"
        if value in self.statistics:
            return "statistic"
        return "relu" if value in self.relu else "dense"


def site(op: Op) -> str:
    """The module path of `op`, or the line of code where no module has a name."""
    return _without_transformations(op.path) or op.line


@functools.cache
def _without_transformations(path: str) -> str:
    parts = []
    for part in path.split("/"):
        while part.endswith(")") and "(" in part:
            part = part[part.index("(") + 1 : -1]
        if part:
            parts.append(part)
    return "/".join(parts)


def _checkpoint_names(ops: Iterable[Op]) -> dict[Value, str]:
    """Values tagged by `checkpoint_name`: the tag's operand and its result."""
    names: dict[Value, str] = {}
    for op in ops:
        if op.name == "name":
            names.update(dict.fromkeys([*op.values, *op.outputs], op.params["name"]))
    return names


def _relu_values(program: Program) -> set[Value]:
    """Outputs of `max(z, 0)`, also after pooling and moves."""
    found: set[Value] = set()
    for op in program.forward:
        is_relu = op.name == "max" and any(is_zero_scalar(x) for x in op.inputs)
        moves = op.name in (
            "max_pool",
            "reduce_window_max",
            "reshape",
            "transpose",
            "squeeze",
        )
        if is_relu or (moves and op.inputs[0] in found):
            found.add(op.outputs[0])
    return found


def pool_codec(policy: Policy) -> Callable[[Op, PoolWindow], AbstractCodec]:
    """The function that `rewrite` asks for the codec of a pool's index."""
    return lambda op, pool: policy.codec_for(describe_pool(op, pool))


def describe_pool(op: Op, pool: PoolWindow | PoolIndex) -> Residual:
    """The residual of a max-pool: the choices in each of its windows."""
    (operand,) = op.values
    return Residual(
        kind="pool_index",
        path=site(op),
        primitive=op.name,
        shape=operand.shape,
        dtype=operand.dtype,
        num_values=math.prod(pool.window),
        pool=PoolWindow(window=pool.window, strides=pool.strides, padding=pool.padding),
    )
