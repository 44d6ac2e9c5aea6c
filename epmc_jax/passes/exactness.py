"""Which operations a lossy value may pass through, and which are cheap to repeat.

A stored residual that comes back with a small error may reach the gradient only
through arithmetic in which a small error stays small. It must not decide anything
(a comparison, a rounding, a sort), must not stand where a zero is a pole (a
denominator, a logarithm), and must not go into code that is differentiated again or
that the pass does not read (a checkpointed region, a loop, a custom call).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from epmc_jax import _jax_compat as compat
from epmc_jax.passes.program import Constant, Op, Program, Value, is_discrete, is_float

ELEMENTWISE = frozenset(
    """abs acos acosh add add_any asin asinh atan atan2 atanh cbrt clamp conj copy
    copy_p
    cos cosh div erf erf_inv erfc exp exp2 expm1 imag integer_pow log log1p log2
    logistic max min mul mul_no_cse neg one_minus_square polynomial pow real
    reduce_precision relu_gradient rsqrt select_n sin sinh sqrt square stop_gradient
    sub tan tanh""".split()
)
_MOVES = frozenset(
    """broadcast_in_dim concatenate expand_dims name pad pcast place_in_row pvary
    reshape rev slice split squeeze stack tile transpose unstack""".split()
)
# The same elements in another order or shape.
REORDERING = frozenset({"reshape", "squeeze", "transpose"})
_DECISIONS = frozenset(
    """and bitcast_convert_type ceil clz eq eq_to floor ge gt is_finite le le_to lt
    lt_to ne nextafter not or population_count rem round shift_left
    shift_right_arithmetic shift_right_logical sign xor""".split()
)
_SOURCES = frozenset({"iota", "empty"})
CHEAP_NAMES = ELEMENTWISE | _MOVES | _DECISIONS | _SOURCES | {"convert_element_type"}
_CONTRACTIONS = frozenset(
    """conv_general_dilated cumlogsumexp cumprod cumsum dot_general dynamic_slice
    dynamic_update_slice fft gather ragged_dot_general reduce_sum reduce_window_sum
    scaled_dot scatter-add triangular_solve""".split()
)
_LONG = frozenset(
    """cond conv_general_dilated custom_vjp_call dot_general ffi_call pallas_call
    ragged_dot_general scaled_dot scan shard_map while""".split()
)
# Between devices: as smooth as a sum or a copy, but never repeated.
_BETWEEN_DEVICES = frozenset(
    """all_gather all_gather_invariant all_to_all ppermute psum psum_invariant
    reduce_scatter reshard sharding_constraint""".split()
)
# Positions of the operands in which a value near zero is a pole of the result or of
# its derivative: an absolute error that is harmless elsewhere is unbounded there.
_POLES = {
    "div": (1,),
    "log": (0,),
    "log1p": (0,),
    "log2": (0,),
    "acos": (0,),
    "acosh": (0,),
    "asin": (0,),
    "atan2": (0, 1),
    "atanh": (0,),
    "rsqrt": (0,),
    "sqrt": (0,),
    "cbrt": (0,),
    "pow": (0, 1),
    "erf_inv": (0,),
    "rem": (0, 1),
}
_SCALED_COPIES = (
    _MOVES | _BETWEEN_DEVICES | {"copy", "copy_p", "mul", "neg", "convert_element_type"}
)

# A fill value beyond this (masked attention scores hold -1e9 or less) would be the
# range of its group: the values beside it would come back as nothing but error.
_LARGE_FILL = 1e4
_SPREADING = (
    _MOVES
    | _BETWEEN_DEVICES
    | frozenset(
        """add add_any clamp convert_element_type copy copy_p mul neg select_n
        sub""".split()
    )
)


def is_cheap(op: Op) -> bool:
    """True where repeating `op` costs less than reading its result from memory."""
    return op.name in CHEAP_NAMES and len(op.outputs) >= 1


def is_reduction(op: Op) -> bool:
    """True for sums, maxima and the like over axes: small results, no layer of its
    own."""
    window = op.name.startswith("reduce_window")
    return (
        op.name.startswith("reduce_") and op.name != "reduce_precision" and not window
    )


def takes_long(op: Op) -> bool:
    """True where another kernel can hide beside `op`: matrix products, loops, calls."""
    return op.name in _LONG


def may_communicate(op: Op) -> bool:
    """True where `op` may be a collective, or contain one."""
    return op.name in _BETWEEN_DEVICES or op.name == "shard_map"


def is_continuous(op: Op) -> bool:
    """True where a small error in a float input makes a small error in the output."""
    if op.name == "convert_element_type":
        return all(is_float(v) for v in op.outputs)
    if op.name == "integer_pow":
        return True
    return op.name in ELEMENTWISE | _MOVES | _CONTRACTIONS | _BETWEEN_DEVICES


def exact_inputs(program: Program) -> set[Value]:
    """Float values that the backward pass must see exactly.

    They enter an operation that depends on a cotangent and is not continuous in them.
    """
    cotangent_side = _depends_on_cotangent(program)
    return {
        value
        for op in program.backward
        if not is_continuous(op)
        for value in op.values
        if is_float(value) and value not in cotangent_side
    }


def _depends_on_cotangent(program: Program) -> set[Value]:
    values = set(program.cotangents)
    for op in program.backward:
        values.update(op.outputs)
    return values


def lossless_only(program: Program) -> set[Value]:
    """Values that must not be stored with an error: poles and filled arrays.

    They may still be recomputed from lossy values further up.
    """
    return _pole_operands([*program.forward, *program.backward]) | _filled(
        program.forward
    )


def _pole_operands(ops: Iterable[Op]) -> set[Value]:
    """Operands whose zero is a pole, back through moves and products."""
    found: set[Value] = set()
    for op in reversed(list(ops)):
        positions = _POLES.get(op.name, ())
        if op.name == "integer_pow" and op.params["y"] < 0:
            positions = (0,)
        found.update(
            v
            for i, v in enumerate(op.inputs)
            if i in positions and isinstance(v, Value)
        )
        if op.name in _SCALED_COPIES and not found.isdisjoint(op.outputs):
            found.update(op.values)
    return found


def _filled(ops: Iterable[Op]) -> set[Value]:
    """Values that may hold a large constant beside ordinary numbers."""
    constants: dict[Value, float] = {}
    found: set[Value] = set()
    for op in ops:
        fills = [_scalar(x, constants) for x in op.inputs]
        is_copy = op.name in ("broadcast_in_dim", "convert_element_type", "reshape")
        if is_copy and fills[0] is not None:
            constants[op.outputs[0]] = fills[0]
            continue
        brings_fill = op.name in ("select_n", "pad", "concatenate") and any(
            fill is not None and not abs(fill) < _LARGE_FILL for fill in fills
        )
        spreads_fill = op.name in _SPREADING and not found.isdisjoint(op.values)
        if brings_fill or spreads_fill:
            found.update(v for v in op.outputs if is_float(v))
    return found


def _scalar(x: Value | Constant, constants: dict[Value, float]) -> float | None:
    """The one number that `x` holds everywhere, if the trace knows it."""
    if isinstance(x, Value):
        return constants.get(x)
    if compat.is_tracer(x.array) or np.size(x.array) != 1:
        return None
    array = np.asarray(x.array)
    return float(array.reshape(())) if array.dtype.kind in "fiub" else None


def is_decision(op: Op) -> bool:
    """True where `op` makes something discrete out of a float, or rounds it."""
    if is_continuous(op):
        return False
    return any(is_float(v) for v in op.values)


def is_statistic(op: Op, statistics: set[Value]) -> bool:
    """True for sums, maxima and means over many elements, and what follows from them.

    Such values are small, and each stands for many elements: they are kept exact.
    """
    if is_reduction(op):
        return 16 * op.outputs[0].size <= sum(v.size for v in op.values)
    # A broadcast would make a large array of it: there the statistic ends.
    if not is_cheap(op) or not op.values:
        return False
    largest = max(v.size for v in op.values)
    return all(v in statistics for v in op.values) and op.outputs[0].size <= largest


def statistics_of(program: Program) -> set[Value]:
    found: set[Value] = set()
    for op in program.forward:
        if is_statistic(op, found):
            found.update(v for v in op.outputs if not is_discrete(v))
    return found
