"""Large arrays that are made of an argument alone: parameters or images in bfloat16.

The argument is alive anyway. XLA makes what is made of it as soon as the program
starts, for all layers, and keeps it for the backward pass, which has the same
operations. So each pass makes it where a layer reads it, behind a barrier. Temp bytes
of AlexNet's gradient (`balanced`, bfloat16, float32 parameters, compiled for an H100,
`python -m bench memory --h100 --dtype bf16`): 352 MB, and 524 without.

Not on CPUs, where a pin copies the argument. Not in a loop either, whose iterations
would each make it anew: XLA makes it once, before the loop.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from epmc_jax._ordering import barrier
from epmc_jax.passes.exactness import REORDERING, is_cheap, takes_long
from epmc_jax.passes.program import Op, Value, is_float, producers, read
from epmc_jax.passes.stored import TIED_BYTES, Selection


@dataclasses.dataclass(frozen=True, eq=False)
class LateCasts:
    """What a layer reads of arguments, made once `after`, which it reads too, is there.

    `chains`: operations, each of what the one before it has made, the first of an
    argument.
    """

    after: Value
    chains: list[list[Op]]

    def run(self, env: dict[Value, Any]) -> None:
        """Adds the results to `env`, and replaces `after` there."""
        arguments = [chain[0].values[0] for chain in self.chains]
        awaited = [self.after, *arguments]
        behind = barrier(*(env[v] for v in awaited))
        made = dict(zip(awaited, behind, strict=True))
        for op in self.ops:
            (made[op.outputs[0]],) = op.call(*(read(made, x) for x in op.inputs))
        # Other readers of an argument take it as it is.
        env.update((v, made[v]) for v in made if v not in arguments)

    @property
    def ops(self) -> list[Op]:
        return [op for chain in self.chains for op in chain]


def casts_before_layers(selection: Selection) -> dict[Op, LateCasts]:
    """Operations of the forward pass that take long, and the casts each alone reads."""
    if selection.in_loop:
        return {}
    program, forward = selection.program, selection.forward_ops
    made_by = producers(forward)
    of_layers = _made_of_layers(forward)
    readers = Counter(v for op in forward for v in op.values)
    readers.update(v for v in program.outputs if isinstance(v, Value))
    readers.update(s.source for s in selection.stored)

    def chain_to(value: Value) -> list[Op]:
        chain: list[Op] = []
        while (op := made_by.get(value)) is not None:
            is_alone = readers[value] == 1 and len(op.values) == 1
            if not (is_alone and is_cheap(op) and len(op.outputs) == 1):
                return []
            chain.insert(0, op)
            (value,) = op.values
        return chain if any(map(_is_large_copy, chain)) else []

    found: dict[Op, LateCasts] = {}
    for op in filter(takes_long, forward):
        chains = {v: chain_to(v) for v in op.values}
        activations = [v for v in op.values if v in of_layers and is_float(v)]
        if any(chains.values()) and activations:
            largest = max(activations, key=lambda v: v.nbytes)
            found[op] = LateCasts(largest, [*filter(None, chains.values())])
    return found


def _made_of_layers(forward: Sequence[Op]) -> set[Value]:
    """What does not follow from the arguments by cheap operations."""
    found: set[Value] = set()
    for op in forward:
        if not is_cheap(op) or not found.isdisjoint(op.values):
            found.update(op.outputs)
    return found


def repeated_casts(selection: Selection) -> dict[Op, Value]:
    """The operations of the backward pass that make a large array of an argument, as
    the forward pass does; with each, what it reads of the argument."""
    if selection.in_loop:
        return {}
    of_arguments = set(selection.kept_arguments)
    found: dict[Op, Value] = {}
    for op in selection.repeated_ops:
        if not (is_cheap(op) and of_arguments.issuperset(op.values)):
            continue
        of_arguments.update(op.outputs)
        arguments = [v for v in op.values if _is_argument(selection, v)]
        if arguments and _is_large_copy(op):
            found[op] = max(arguments, key=lambda v: v.nbytes)
    return found


def _is_large_copy(op: Op) -> bool:
    if op.name in REORDERING:
        return False
    return any(is_float(v) and v.nbytes > TIED_BYTES for v in op.outputs)


def _is_argument(selection: Selection, value: Value) -> bool:
    """True for arguments that are kept, with their elements in any order."""
    while (op := selection.recompute.get(value)) and op.name in REORDERING:
        value = op.values[0]
    return value in selection.kept_arguments
