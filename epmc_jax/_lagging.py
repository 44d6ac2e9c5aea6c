"""What waits for an encode that may run beside the layers, and what does not.

Whether it does depends on the platform, and a program is traced for all of them: it has
the ties of both kinds, and each platform takes its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from epmc_jax import _kernels
from epmc_jax._ordering import barrier, pin
from epmc_jax._primitives import make_pass_through


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


pin_encoded_p = make_pass_through(
    "epmc_pin_encoded",
    reference=_elsewhere,
    on_cpu=_elsewhere,
    on_cuda=_on_cuda,
    static_argnames=("targets", "lags"),
)
