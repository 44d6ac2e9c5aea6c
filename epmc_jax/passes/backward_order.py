"""The order of the backward pass: what leads on, and what comes before a layer ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from epmc_jax.passes.exactness import is_cheap, is_reduction, may_communicate
from epmc_jax.passes.program import Op, Value, is_float, live_ops
from epmc_jax.passes.stored import TIED_SHARE, Selection


def read_by_several(selection: Selection) -> set[Value]:
    """Floats that a loop over elements makes and several other operations read."""
    backward = selection.program.backward
    readers = Counter(
        value
        for op in backward
        if not (is_cheap(op) or is_reduction(op))
        for value in {*op.values}
    )
    made = (v for op in backward if is_cheap(op) for v in op.outputs)
    return {v for v in made if is_float(v) and readers[v] > 1}


def scattered_into_sums(selection: Selection) -> set[Value]:
    """Results of scatters that one addition reads, and nothing else.

    XLA scatters into the other summand, and neither fills an array with zeros nor adds
    two, unless something else reads the result. So no tie may.
    """
    program = selection.program
    readers = Counter(v for op in program.backward for v in op.values)
    readers.update(g for g in program.gradients if isinstance(g, Value))
    added = {v for op in program.backward if op.name == "add_any" for v in op.values}
    made = (op.outputs[0] for op in program.backward if op.name == "scatter-add")
    return {v for v in made if v in added and readers[v] == 1}


def values_read_before_residuals(selection: Selection) -> set[Value]:
    """Values on the way to an operation that needs a stored array: not yet
    gradients."""
    residuals = {s.value for s in selection.stored}.union(
        selection.recompute, selection.masks
    )
    found: set[Value] = set()
    for op in reversed(selection.program.backward):
        goes_on = not found.isdisjoint(op.outputs)
        if goes_on or not residuals.isdisjoint(op.values):
            found.update(op.values)
    return found


def waits_for_outputs(selection: Selection) -> bool:
    """True where a large array is read for an output, but is not stored itself.

    While the output is not there, the array is: logits, of which a loss takes those of
    the targets. Where there is no such array the tie would only cost: it keeps an
    output alive that `jax.grad` has no use for. For one that devices exchange it would
    cost a collective, so there is none; what XLA splits by itself is not known here,
    and may cost `jax.grad` the sum of one number over CPUs.
    """
    program, stored = selection.program, selection.stored
    sources = {s.source for s in stored}
    before_residuals = live_ops(program.forward, sources)
    is_before = {v for op in before_residuals for v in op.outputs} - sources
    for_outputs = live_ops(program.forward, program.outputs)
    large = max((v.nbytes for v in sources), default=0) * TIED_SHARE
    later = set(for_outputs).difference(before_residuals)
    return not any(map(may_communicate, later)) and any(
        value in is_before and value.nbytes > large
        for op in later
        for value in op.values
    )


def gradients_first(
    ops: Sequence[Op], leads_on: set[Value], cotangents: set[Value]
) -> list[Op]:
    """Reorders `ops`: before a layer ends, the gradients that can be had are taken."""
    backward_values = (
        cotangents.union(*(op.outputs for op in ops)) if ops else cotangents
    )
    available = set(cotangents)
    waiting: list[Op] = list(ops)
    side = [op for op in ops if leads_on.isdisjoint(op.outputs)]
    done: set[int] = set()
    order: list[Op] = []

    def run(op: Op) -> None:
        order.append(op)
        done.add(id(op))
        available.update(op.outputs)

    for op in waiting:
        if id(op) in done:
            continue
        if leads_on.isdisjoint(op.outputs) or is_cheap(op) or is_reduction(op):
            run(op)
            continue
        for candidate in side:
            if id(candidate) not in done and available.issuperset(
                v for v in candidate.values if v in backward_values
            ):
                run(candidate)
        side = [s for s in side if id(s) not in done]
        run(op)
    return _padded_late(order)


def _padded_late(ops: Sequence[Op]) -> list[Op]:
    """Reorders `ops`: the cotangent of a slice is padded just before it is read.

    Until then the smaller array is there.
    """
    order: list[Op] = []
    waiting: dict[Value, Op] = {}

    def run(op: Op) -> None:
        for value in op.values:
            if value in waiting:
                run(waiting.pop(value))
        order.append(op)

    for op in ops:
        if op.name == "pad":
            waiting[op.outputs[0]] = op
        else:
            run(op)
    return [*order, *waiting.values()]
