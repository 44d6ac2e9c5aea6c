"""Keeps codecs where the arrays are, when a program is split over devices.

XLA does not know how to split a custom call: it would gather all operands on every
device and run the call there. Two ways out. Rows are independent of each other, and the
leading axes of an array count them: XLA may split a call along these, and decides so
when it compiles (`split_by_rows`). Within a row it cannot, because the size of a row is
fixed when the program is traced. Where the type of an array says how it is split (axes
of a mesh that are `AxisType.Explicit`), each device takes its block for an array of
its own (`on_each_device`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from epmc_jax import _jax_compat as compat


def typed_sharding(x: Any) -> NamedSharding | None:
    """How `x`, an array or an aval, is split by its type; None if it is not."""
    sharding = compat.sharding_in_type(x)
    if sharding is None or all(axes is None for axes in sharding.spec):
        return None
    return sharding


def block_shape(sharding: NamedSharding | None, shape: Sequence[int]) -> tuple:
    """The shape of what one device has of an array of `shape`."""
    if sharding is None:
        return tuple(shape)
    return tuple(
        size // math.prod(sharding.mesh.shape[name] for name in _names(axes))
        for size, axes in zip(shape, sharding.spec, strict=True)
    )


def num_blocks(sharding: NamedSharding | None) -> int:
    """In how many blocks arrays of `sharding` are split."""
    if sharding is None:
        return 1
    names = [name for axes in sharding.spec for name in _names(axes)]
    return math.prod(sharding.mesh.shape[name] for name in names)


def rows_spec(sharding: NamedSharding) -> PartitionSpec:
    """How the encoded rows of an array of `sharding` are split.

    Rows like its first axis; the bytes of a row by all that splits the others, since
    each device has a row of its own for each of its rows.
    """
    first, *others = sharding.spec
    if not others:
        return PartitionSpec(None, first)
    bytes_of_row = tuple(name for axes in others for name in _names(axes))
    return PartitionSpec(first, bytes_of_row or None)


def on_each_device(
    call: Callable[..., Any],
    operands: Sequence[Any],
    sharding: NamedSharding | None,
    results: Any,
) -> Any:
    """`call(*operands)` of the blocks that each device has.

    `sharding`: of the array that decides, None where it is not split; `results`: the
    `PartitionSpec` of each result.
    """
    if sharding is None:
        return call(*operands)
    specs = [compat.sharding_in_type(x) for x in operands]
    in_specs = tuple(PartitionSpec() if s is None else s.spec for s in specs)
    return jax.shard_map(
        call, mesh=sharding.mesh, in_specs=in_specs, out_specs=results
    )(*operands)


def _names(axes: Any) -> tuple[Any, ...]:
    """The mesh axes in one entry of a `PartitionSpec`."""
    if axes is None:
        return ()
    return axes if isinstance(axes, tuple) else (axes,)


def split_by_rows(
    call: Callable[..., Any],
    operands: Sequence[Any],
    num_row_operands: int,
    *,
    row_axes: int = 1,
) -> Any:
    """`call(*operands)`, on each device with the rows that it has.

    The first `num_row_operands` operands and all results are split along their first
    `row_axes` axes alike, and along no other; the operands behind them are only waited
    for and stay as they are split. `call` is traced once with local shapes, where there
    are devices to split over.
    """
    return _partitioned(call, operands, num_row_operands, row_axes)


def split_like_operand(call: Callable[..., Any], operands: Sequence[Any]) -> Any:
    """`call(*operands)`, whose result is split in all axes like the first operand."""
    return _partitioned(call, operands, 1, operands[0].ndim)


def _partitioned(
    call: Callable[..., Any], operands: Sequence[Any], count: int, row_axes: int
) -> Any:
    def partition(mesh, arg_shapes, result_shapes):
        rows = PartitionSpec(*_spec(arg_shapes[0])[:row_axes])
        shardings = [
            NamedSharding(mesh, rows if i < count else PartitionSpec(*_spec(arg)))
            for i, arg in enumerate(arg_shapes)
        ]
        result = jax.tree.map(lambda _: shardings[0], result_shapes)
        return mesh, call, result, tuple(shardings)

    shaped = jax.eval_shape(call, *operands)
    partitioned = compat.custom_partitioning(call)
    partitioned.def_partition(
        partition=partition,
        sharding_rule=_rule(operands, jax.tree.leaves(shaped), count, row_axes),
    )
    return partitioned(*operands)


def _spec(arg: Any) -> tuple[Any, ...]:
    spec = tuple(arg.sharding.spec)
    return spec + (None,) * (len(arg.shape) - len(spec))


def _rule(
    operands: Sequence[Any], results: Sequence[Any], count: int, row_axes: int
) -> str:
    """The Shardy rule: which axes belong together, by name.

    `r0`, `r1` ... count rows. Axes behind them have a name of their own each, so
    nothing is said of them.
    """

    def names(prefix: str, array: Any, has_rows: bool) -> str:
        rows = row_axes if has_rows else 0
        axes = range(len(array.shape))
        return " ".join(f"r{i}" if i < rows else f"{prefix}{i}" for i in axes)

    left = [names(f"x{i}_", x, i < count) for i, x in enumerate(operands)]
    right = [names(f"y{i}_", x, True) for i, x in enumerate(results)]
    return f"{', '.join(left)} -> {', '.join(right)}"
