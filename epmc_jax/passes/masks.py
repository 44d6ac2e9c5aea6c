"""Masks of ReLUs that need no bits of their own: the stored array tells them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epmc_jax.passes.program import Op, Value, is_float
from epmc_jax.passes.zeros import is_zero_scalar


def masked_array(mask: Value, made_by: Mapping[Value, Op]) -> Value | None:
    """`y` where `mask` is `y > 0` of a float array."""
    op = made_by.get(mask)
    if op is None or op.name != "gt" or not isinstance(op.inputs[0], Value):
        return None
    is_sign = is_float(op.inputs[0]) and is_zero_scalar(op.inputs[1])
    return op.inputs[0] if is_sign else None


def masks_told_by(
    told: Iterable[Value], masks: Iterable[Value], made_by: Mapping[Value, Op]
) -> dict[Value, Value]:
    """`{mask: y}` for each of `masks` that is `y > 0` of a `y` in `told`."""
    arrays = set(told)
    found = {mask: masked_array(mask, made_by) for mask in masks}
    return {mask: y for mask, y in found.items() if y is not None and y in arrays}
