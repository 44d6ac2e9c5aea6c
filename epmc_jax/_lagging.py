"""What waits for an encode that may run beside the layers, and what does not.

Whether it does depends on the platform, and a program is traced for all of them: it has
the ties of both kinds, and each platform takes its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from epmc_jax import _kernels
from epmc_jax._ordering import barrier, pin
from epmc_jax._primitives import make_pass_through, move_to_front


def pin_encoded(
    x: jax.Array, encoded: Sequence[tuple[jax.Array, str | None]], *, lags: bool
) -> list[jax.Array]:
    """`x` and the bytes of `encoded`; `x` not before those that `lags` concerns.

    `encoded`: bytes, each with the target that makes them beside the layers where it
    can. Is it asynchronous on the platform, they are waited for where `lags` is true;
    bytes of all others where it is false. As with `barrier`, later readers are to take
    what is returned: XLA awaits an asynchronous call before its first reader.
    """
    rows = tuple(array for array, _ in encoded)
    targets = tuple(target for _, target in encoded)
    return pin_encoded_p.bind(x, *rows, targets=targets, lags=lags) if rows else [x]


def materialized_for(x: jax.Array, target: str) -> jax.Array:
    """Returns `x`, unchanged, written to memory before anything reads it, where calls
    of `target` are asynchronous.

    XLA:GPU makes `x` and what follows from it in one kernel with several results, and
    takes the result that only the call reads when the call is awaited, not before: the
    call would start when the layer that it was to run beside is done.
    """
    return pin_encoded_p.bind(x, targets=(target,), lags=True)[0]


def _elsewhere(x: Any, *rows: Any, targets: Any, lags: bool) -> Any:
    del targets
    return x if lags else pin(x, *rows), *rows


def _on_cuda(x: Any, *rows: Any, targets: Any, lags: bool) -> Any:
    if not rows:
        is_read = any(map(_kernels.runs_asynchronously, targets))
        return [lax.optimization_barrier(x) if is_read else x]
    waits = [_kernels.runs_asynchronously(target) == lags for target in targets]
    awaited = iter(barrier(x, *(r for r, w in zip(rows, waits, strict=True) if w)))
    return next(awaited), *(
        next(awaited) if w else r for r, w in zip(rows, waits, strict=True)
    )


def _batch(operands: Any, axes: Any, **params: Any) -> Any:
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
    x, *pinned = pin_encoded_p.bind(x, *merged, **params)
    pinned = [p.reshape(rows.shape) for p, rows in zip(pinned, encoded, strict=True)]
    return [x, *pinned], [x_axis, *axes]


pin_encoded_p = make_pass_through(
    "epmc_pin_encoded",
    reference=_elsewhere,
    on_cpu=_elsewhere,
    on_cuda=_on_cuda,
    batch=_batch,
    static_argnames=("targets", "lags"),
)
