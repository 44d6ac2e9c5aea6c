"""Cotangents that a later layer reads: when to have them in memory.

What is cheap, XLA:GPU computes where it is read, and keeps for that what it is made of:
of a sum over the layers of a dense block all summands, of a slice the whole. Where the
result is smaller than what is kept for it, it is written before the next layer. Temp
bytes of gradients compiled for an H100 (`balanced`, float32, `python -m bench memory
--h100`): DenseNet-121 856 MB, and 1853 without; U-Net, its skips not cropped early
(`crops.py`), 4593 and 4908 (with what is padded late, `backward_order.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from epmc_jax.passes.program import Op, Value, is_float
from epmc_jax.passes.stored import TIED_SHARE, Selection


class Carried:
    """Follows a backward pass: what each cotangent is made of, as far as kernels go."""

    def __init__(self, selection: Selection, ops: Sequence[Op]):
        program = selection.program
        self.last_read = {v: step for step, op in enumerate(ops) for v in op.values}
        returned = (g for g in program.gradients if isinstance(g, Value))
        self.last_read.update(dict.fromkeys(returned, len(ops)))
        largest = max((s.value.nbytes for s in selection.stored), default=0)
        self.least_gain = largest * TIED_SHARE
        self.made_of: dict[Value, set[Value]] = {}
        self.written(program.cotangents)

    def written(self, values: Collection[Value]) -> None:
        """`values` are in memory."""
        self.made_of.update((v, {v}) for v in values)

    def computed(self, op: Op) -> None:
        """`op` is computed where its result is read."""
        sources = (self.made_of.get(v, ()) for v in op.values)
        made_of = set().union(*sources)
        self.made_of.update((v, made_of) for v in op.outputs)

    def worth_writing(self, step: int, op: Op) -> list[Value]:
        """What is read later than by `op`, number `step`, and makes room if written."""
        self.made_of = {
            v: made_of
            for v, made_of in self.made_of.items()
            if self.last_read.get(v, 0) > step or v in op.values
        }
        waiting = {
            v: {r for r in made_of if self.last_read.get(r, 0) <= step}
            for v, made_of in self.made_of.items()
            if v not in op.values and is_float(v)
        }
        smaller = [
            v
            for v, kept in waiting.items()
            if v not in kept and v.nbytes < _nbytes(kept)
        ]
        kept = set().union(*(waiting[v] for v in smaller))
        return smaller if _nbytes(kept) - _nbytes(smaller) > self.least_gain else []


def _nbytes(values: Collection[Value]) -> int:
    return sum(v.nbytes for v in values)
