"""How many values an integer array can take, where the trace shows it."""

from __future__ import annotations

from epmc_jax.passes.program import Op, Program, Value, is_discrete

_KEEPS_RANGE = frozenset(
    """broadcast_in_dim concatenate copy copy_p dynamic_slice expand_dims reshape rev
    select_n slice sort squeeze stop_gradient transpose""".split()
)


def index_bounds(program: Program) -> dict[Value, int]:
    """`bounds[v] = n` means that the integers of `v` are in `0 ... n - 1`."""
    bounds: dict[Value, int] = {}
    for op in program.forward:
        made = _bound(op, bounds)
        if made is not None:
            bounds.update((v, made) for v in op.outputs if is_index(v))
    return bounds


def is_index(value: Value) -> bool:
    return is_discrete(value) and value.dtype != bool


def _bound(op: Op, bounds: dict[Value, int]) -> int | None:
    if op.name == "iota":
        return op.outputs[0].shape[op.params["dimension"]]
    if op.name in ("argmax", "argmin"):
        (axis,) = op.params["axes"]
        return op.values[0].shape[axis]
    if op.name in ("top_k", "approx_top_k"):
        axis = op.params.get("axis", op.params.get("reduction_dimension", -1))
        return op.values[0].shape[axis]
    if op.name == "convert_element_type" or op.name in _KEEPS_RANGE:
        indices = [v for v in op.values if is_index(v)]
        # A constant operand may hold anything: no bound then.
        if (
            len(op.values) == len(op.inputs)
            and indices
            and all(v in bounds for v in indices)
        ):
            return max(bounds[v] for v in indices)
    return None
