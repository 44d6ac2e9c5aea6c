"""Keeps native calls where their rows are, when XLA splits a program over devices.

XLA does not know how to split a custom call: it would gather all operands on every
device and run the call there. Rows are independent of each other, and the first axis of
an array counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from epmc_jax import _jax_compat as compat


def split_by_rows(
    call: Callable[..., Any], operands: Sequence[Any], num_row_operands: int
) -> Any:
    """`call(*operands)`, on each device with the rows that it has.

    The first `num_row_operands` operands and all results are split along their first
    axis alike, and along no other; the operands behind them are only waited for and
    stay as they are split. `call` is traced once with local shapes, where there are
    devices to split over.
    """
    return _partitioned(call, operands, num_row_operands, keeps_axes=False)


def split_like_operand(call: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """`call(*operands)`, whose result is split in all axes like the first operand."""
    return _partitioned(call, operands, 1, keeps_axes=True)


def _partitioned(
    call: Callable[..., Any], operands: Sequence[Any], count: int, *, keeps_axes: bool
) -> Any:
    def partition(mesh, arg_shapes, result_shapes):
        rows = _spec(arg_shapes[0])
        kept = rows if keeps_axes else rows[:1]
        shardings = [
            NamedSharding(mesh, PartitionSpec(*(kept if i < count else _spec(arg))))
            for i, arg in enumerate(arg_shapes)
        ]
        result = jax.tree.map(lambda _: shardings[0], result_shapes)
        return mesh, call, result, tuple(shardings)

    shaped = jax.eval_shape(call, *operands)
    partitioned = compat.custom_partitioning(call)
    partitioned.def_partition(
        partition=partition,
        sharding_rule=_rule(operands, jax.tree.leaves(shaped), count, keeps_axes),
    )
    return partitioned(*operands)


def _spec(arg: Any) -> tuple[Any, ...]:
    spec = tuple(arg.sharding.spec)
    return spec + (None,) * (len(arg.shape) - len(spec))


def _rule(
    operands: Sequence[Any], results: Sequence[Any], count: int, keeps_axes: bool
) -> str:
    """The Shardy rule: which axes belong together, by name.

    `r` counts rows. Axes behind it have a name of their own each, so nothing is said of
    them, except where the result keeps those of the first operand.
    """

    def names(prefix: str, array: Any, has_rows: bool) -> str:
        axes = [f"{prefix}{axis}" for axis in range(len(array.shape))]
        if has_rows and not keeps_axes:
            axes[:1] = ["r"] * len(axes[:1])
        return " ".join(axes)

    left = [
        names("x" if i == 0 else f"a{i}_", x, i < count) for i, x in enumerate(operands)
    ]
    prefix = "x" if keeps_axes else "y"
    right = [names(f"{prefix}{i or ''}", x, True) for i, x in enumerate(results)]
    return f"{', '.join(left)} -> {', '.join(right)}"
