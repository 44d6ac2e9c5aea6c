"""Order between operations that share no data, kept by every scheduler of XLA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from epmc_jax import _kernels
from epmc_jax._partitioning import split_like_operand
from epmc_jax._primitives import make_pass_through


def pin(x: jax.Array, *deps: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, but not before `deps` exist.

    No copy: the result takes the memory of `x` unless `x` is read again. Derivatives
    pass through to `x` alone. On CPU this is a call that XLA cannot see into, because
    XLA:CPU drops barriers before it schedules; elsewhere it is a barrier.
    """
    return _bind(x, *deps)[0] if deps else x


def pin_on_cpu(x: jax.Array, *deps: jax.Array) -> jax.Array:
    """`pin` on CPU; elsewhere `x` as it is."""
    return _bind(x, *deps, has_barrier=False)[0] if deps else x


def barrier(x: jax.Array, *deps: jax.Array) -> list[jax.Array]:
    """`x` and `deps`, unchanged; no result of it before all operands exist.

    On CPU nothing happens. Elsewhere XLA drops an operand of a barrier whose other
    readers take it in another layout, as a result of the program may be read: they are
    to read what is returned.
    """
    return _bind(x, *deps, is_call=False) if deps else [x]


def materialized(x: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, computed once and written to memory.

    For an elementwise result that is encoded and then pinned: XLA:CPU would give each
    of the two readers an array of its own, computed twice. Elsewhere nothing happens.
    """
    return _bind(x)[0]


def _bind(x: Any, *deps: Any, is_call: bool = True, has_barrier: bool = True) -> Any:
    return pin_p.bind(x, *deps, is_call=is_call, has_barrier=has_barrier)


def _on_cpu(x: Any, *deps: Any, is_call: bool, has_barrier: bool) -> Any:
    if not is_call:
        return x, *deps
    if not _kernels.has_cpu_kernels():
        return _elsewhere(x, *deps, is_call=is_call, has_barrier=has_barrier)
    return split_like_operand(_call, (x, *deps)), *deps


def pin_locally(x: jax.Array, deps: Sequence[jax.Array]) -> jax.Array:
    """`pin` in code for a CPU that has a part of a split program to itself."""
    return _call(x, *deps) if deps else x


def _call(x: Any, *deps: Any) -> Any:
    result = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return _kernels.call_target("epmc_pin", result, (x, *deps), {}, aliases={0: 0})


def _elsewhere(x: Any, *deps: Any, is_call: bool, has_barrier: bool) -> Any:
    del is_call
    return lax.optimization_barrier((x, *deps)) if has_barrier and deps else (x, *deps)


pin_p = make_pass_through(
    "epmc_pin",
    reference=_elsewhere,
    on_cpu=_on_cpu,
    static_argnames=("is_call", "has_barrier"),
)
