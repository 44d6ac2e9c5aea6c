"""The gradient of taking one element of each row, as a loss takes the target's logit.

JAX scatters the cotangents into an array of zeros. To compare positions gives the same
array where it is read: XLA computes it in the kernel of the reader. A scatter has a
kernel of its own, and what is added to its result must be written before: logits'
gradient in float32, of a loss that casts them from bfloat16.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax._partitioning import typed_sharding
from epmc_jax.passes.program import Op, Program, Value
from epmc_jax.passes.zeros import is_zero, zero_arrays

_MODES = frozenset(
    {
        lax.GatherScatterMode.CLIP,
        lax.GatherScatterMode.FILL_OR_DROP,
        lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    }
)


def placed_in_rows(program: Program) -> Program:
    """Scatters of one element into each row become comparisons of positions."""
    zeros = zero_arrays(program)
    backward = [
        _placed_in_row(op)
        if op.name == "scatter-add"
        and is_zero(op.inputs[0], zeros)
        and _takes_one_of_each_row(op)
        else op
        for op in program.backward
    ]
    return dataclasses.replace(program, backward=backward)


def _takes_one_of_each_row(op: Op) -> bool:
    numbers, (result,) = op.params["dimension_numbers"], op.outputs
    axes = [*numbers.operand_batching_dims, *numbers.scatter_dims_to_operand_dims]
    in_order = sorted(numbers.scatter_indices_batching_dims)
    if (
        sorted(axes) != list(range(len(result.shape)))
        or len(numbers.scatter_dims_to_operand_dims) != 1
        or list(numbers.scatter_indices_batching_dims) != in_order
        or op.params["mode"] not in _MODES
    ):
        return False
    rows = np.prod([result.shape[axis] for axis in numbers.operand_batching_dims])
    split = typed_sharding(result.aval)
    return all(_size(x) == rows for x in op.inputs[1:]) and (
        split is None or split.spec[axes[-1]] is None
    )


def _size(x: Any) -> int:
    return x.size if isinstance(x, Value) else np.size(x.array)


def _placed_in_row(op: Op) -> Op:
    """`op` with the same inputs, but the zeros."""
    numbers, (result,) = op.params["dimension_numbers"], op.outputs
    (axis,) = numbers.scatter_dims_to_operand_dims
    length, clips = result.shape[axis], op.params["mode"] == lax.GatherScatterMode.CLIP
    of_indices = numbers.scatter_indices_batching_dims
    windows = numbers.update_window_dims

    def call(indices, updates):
        counted = [d for d in range(updates.ndim) if d not in windows]
        of_updates = [counted[d] for d in of_indices]
        if indices.dtype.itemsize < 4:  # too narrow to number a long row
            indices = indices.astype(np.int32)
        indices = _along(axis, indices, of_indices)
        if clips:
            indices = jnp.clip(indices, 0, length - 1)
        places = jnp.arange(length, dtype=indices.dtype)
        places = lax.expand_dims(
            places, [d for d in range(len(result.shape)) if d != axis]
        )
        updates = _along(axis, updates, of_updates)
        return [jnp.where(indices == places, updates, jnp.zeros((), updates.dtype))]

    return dataclasses.replace(
        op, name="place_in_row", inputs=op.inputs[1:], params={}, call=call
    )


def _along(axis: int, x: Any, rows: Any) -> Any:
    """`x`, whose axes `rows` count rows and whose others are 1, with one of 1 at
    `axis`."""
    others = [d for d in range(x.ndim) if d not in rows]
    return lax.expand_dims(lax.squeeze(x, others), (axis,))
