"""Parts of an array that a later layer reads: when to have them in memory.

XLA slices where the slice is read, and keeps the whole until then: a U-Net's skips,
until they are cropped and concatenated. Where the parts are smaller they are written
before the next layer, once nothing else reads the whole. Temp bytes of the U-Net's
gradient (`balanced`, compiled for an H100, `python -m bench memory --h100`): float32
4279 MB, and 4593 without; bfloat16 2561 and 2718. Not on CPUs, where another layer sets
the peak.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

from epmc_jax._ordering import barrier
from epmc_jax.codecs import Raw
from epmc_jax.passes.exactness import takes_long
from epmc_jax.passes.program import Op, Value, is_float, read
from epmc_jax.passes.stored import TIED_SHARE, Selection


@dataclasses.dataclass(frozen=True, eq=False)
class Crops:
    """Slices `ops`, of which `parts` are read, made before a layer reads `before`."""

    before: Value
    ops: list[Op]
    parts: list[Value]

    def run(self, env: dict[Value, Any]) -> None:
        """Adds the parts to `env`, and replaces `before` there."""
        for op in self.ops:
            (env[op.outputs[0]],) = op.call(*(read(env, x) for x in op.inputs))
        tied = [self.before, *self.parts]
        env.update(zip(tied, barrier(*(env[v] for v in tied)), strict=True))


def crops_before_layers(selection: Selection) -> dict[Op, Crops]:
    """Operations of the forward pass that take long, and the slices made before."""
    program, ops = selection.program, selection.forward_ops
    made_at = {v: step for step, op in enumerate(ops) for v in op.outputs}
    encoded = {s.source for s in selection.stored}
    kept = {s.source for s in selection.stored if isinstance(s.codec, Raw)}
    kept.update(v for v in program.outputs if isinstance(v, Value))
    frees = made_at.keys() - kept
    read_at = {
        v: step for step, op in enumerate(ops) if op.name != "slice" for v in op.values
    }
    least_gain = TIED_SHARE * max((s.value.nbytes for s in selection.stored), default=0)
    found: dict[Op, Crops] = {}
    for whole, slices in _slices(ops).items():
        made = [op.outputs[0] for op in slices]
        parts = [v for v in made if v in read_at]
        gain = whole.nbytes - sum(part.nbytes for part in parts)
        # A slice that is encoded is encoded where it stands.
        is_free = whole in frees and encoded.isdisjoint(made)
        if not is_free or not parts or gain <= least_gain:
            continue
        last_read = max(made_at[whole], read_at.get(whole, 0))
        until = min(made_at[op.outputs[0]] for op in slices)
        layer = next(filter(takes_long, ops[last_read + 1 : until]), None)
        before = _largest_made(layer, made_at)
        if layer is not None and before is not None:
            earlier = found.get(layer, Crops(before, [], []))
            found[layer] = Crops(
                before, [*earlier.ops, *slices], [*earlier.parts, *parts]
            )
    return found


def _slices(ops: Collection[Op]) -> dict[Value, list[Op]]:
    """For each array that is sliced the slices, and those of a slice."""
    whole_of: dict[Value, Value] = {}
    found: dict[Value, list[Op]] = {}
    for op in ops:
        if op.name == "slice" and is_float(op.outputs[0]):
            (operand,) = op.values
            whole = whole_of.get(operand, operand)
            whole_of[op.outputs[0]] = whole
            found.setdefault(whole, []).append(op)
    return found


def _largest_made(op: Op | None, made: Collection[Value]) -> Value | None:
    floats = [v for v in op.values if v in made and is_float(v)] if op else []
    return max(floats, key=lambda v: v.nbytes, default=None)
