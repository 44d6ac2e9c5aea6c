"""Order between operations that share no data, kept by every scheduler of XLA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from epmc_jax import _kernels
from epmc_jax._jax_compat import ad
from epmc_jax._partitioning import split_like_operand
from epmc_jax._primitives import make_primitive, move_to_front


def pin(x: jax.Array, *deps: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, but not before `deps` exist.

    No copy: the result takes the memory of `x` unless `x` is read again. Derivatives
    pass through to `x` alone. On CPU this is a call that XLA cannot see into, because
    XLA:CPU drops barriers before it schedules; elsewhere it is a barrier.
    """
    return _bind(x, *deps)[0] if deps else x


def pin_together(x: jax.Array, *deps: jax.Array) -> list[jax.Array]:
    """`x` and `deps`, unchanged; `x` not before `deps` exist.

    For `deps` that leave the program. XLA drops an element of a barrier that has no
    reader where the operand is the barrier's alone, and a layout of its own that the
    result of the program has makes it so. Readers of what is returned are readers of
    the barrier.
    """
    return _bind(x, *deps) if deps else [x]


def pin_encoded(
    x: jax.Array, encoded: Sequence[tuple[jax.Array, str | None]], *, lags: bool
) -> list[jax.Array]:
    """`x` and the bytes of `encoded`; `x` not before those that `lags` concerns.

    `encoded`: bytes, each with the target that makes them beside the layers where it
    can. Is it asynchronous on the platform, they are waited for where `lags` is true;
    bytes of all others where it is false. As with `pin_together`, later readers are to
    take what is returned: XLA awaits an asynchronous call before its first reader.
    """
    rows = tuple(array for array, _ in encoded)
    targets = tuple(target for _, target in encoded)
    return pin_p.bind(x, *rows, targets=targets, lags=lags) if rows else [x]


def materialized(x: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, computed once and written to memory.

    For an elementwise result that is encoded and then pinned: XLA:CPU would give each
    of the two readers an array of its own, computed twice. Elsewhere nothing happens.
    """
    return _bind(x)[0]


def materialized_for(x: jax.Array, target: str) -> jax.Array:
    """Returns `x`, unchanged, written to memory before anything reads it, where calls
    of `target` are asynchronous.

    XLA:GPU makes `x` and what follows from it in one kernel with several results, and
    takes the result that only the call reads when the call is awaited, not before: the
    call would start when the layer that it was to run beside is done.
    """
    return pin_p.bind(x, targets=(target,), lags=True)[0]


def _bind(x: jax.Array, *deps: jax.Array) -> Any:
    return pin_p.bind(x, *deps, targets=(None,) * len(deps), lags=False)


def _on_cpu(x: Any, *deps: Any, targets: Any, lags: bool) -> Any:
    if lags or not _kernels.has_cpu_kernels():
        return _reference(x, *deps, targets=targets, lags=lags)

    def call(x, *deps):
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return _kernels.call_target("epmc_pin", result, (x, *deps), {}, aliases={0: 0})

    return split_like_operand(call, (x, *deps)), *deps


def _on_cuda(x: Any, *deps: Any, targets: Any, lags: bool) -> Any:
    if not deps:
        is_read = any(map(_kernels.runs_asynchronously, targets))
        return [lax.optimization_barrier(x) if is_read else x]
    waits = [_kernels.runs_asynchronously(target) == lags for target in targets]
    awaited = iter(_barrier(x, *(d for d, w in zip(deps, waits, strict=True) if w)))
    return next(awaited), *(
        next(awaited) if w else d for d, w in zip(deps, waits, strict=True)
    )


def _reference(x: Any, *deps: Any, targets: Any, lags: bool) -> Any:
    del targets
    return (x, *deps) if lags else _barrier(x, *deps)


def _barrier(x: Any, *deps: Any) -> Any:
    return lax.optimization_barrier((x, *deps)) if deps else (x,)


def _batch(operands: Any, axes: Any, **params: Any) -> Any:
    if not params["lags"]:
        return pin_p.bind(*operands, **params), axes
    # Encoded rows are of a whole batch: with the axes that the call gives them. Other
    # axes stand between the end of the call and the barrier, and XLA awaits it there.
    x, *encoded = operands
    x_axis, *axes = axes
    for i, axis in enumerate(axes):
        if axis is not None:
            encoded[i] = move_to_front(encoded[i], axis)
            axes[i] = 0
    merged = [
        rows if axis is None else rows.reshape(math.prod(rows.shape[:2]), rows.shape[2])
        for rows, axis in zip(encoded, axes, strict=True)
    ]
    x, *pinned = pin_p.bind(x, *merged, **params)
    pinned = [p.reshape(rows.shape) for p, rows in zip(pinned, encoded, strict=True)]
    return [x, *pinned], [x_axis, *axes]


def _jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    return pin_p.bind(*primals, **params), tangents


def _transpose(cts: Any, *operands: Any, **params: Any) -> Any:
    del operands, params
    return list(cts)


pin_p = make_primitive(
    "epmc_pin",
    abstract=lambda *operands, **params: operands,
    reference=_reference,
    on_cpu=_on_cpu,
    on_cuda=_on_cuda,
    batch=_batch,
    jvp=_jvp,
    static_argnames=("targets", "lags"),
    multiple_results=True,
)
ad.primitive_transposes[pin_p] = _transpose
