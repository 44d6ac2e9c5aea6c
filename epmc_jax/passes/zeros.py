"""Zeros that the trace shows: numbers, and arrays filled with them."""

from __future__ import annotations

import numpy as np

from epmc_jax import _jax_compat as compat
from epmc_jax.passes.program import Constant, Program, Value


def is_zero_scalar(x: Value | Constant) -> bool:
    """True where the trace shows that `x` is the number 0."""
    if isinstance(x, Value) or compat.is_tracer(x.array) or np.ndim(x.array) != 0:
        return False
    return bool(x.array == 0)


def zero_arrays(program: Program) -> set[Value]:
    """Arrays into which the number 0 was broadcast."""
    found: set[Value] = set()
    for op in program.forward:
        if op.name == "broadcast_in_dim" and is_zero(op.inputs[0], found):
            found.update(op.outputs)
    return found


def is_zero(x: Value | Constant, zeros: set[Value]) -> bool:
    """True for the number 0, and for `zeros`."""
    return x in zeros if isinstance(x, Value) else is_zero_scalar(x)
