"""Order between operations that share no data, kept by every scheduler of XLA."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from epmc_jax import _kernels
from epmc_jax._jax_compat import ad
from epmc_jax._partitioning import split_like_operand
from epmc_jax._primitives import make_primitive, wait_for


def pin(x: jax.Array, *deps: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, but not before `deps` exist.

    No copy: the result takes the memory of `x` unless `x` is read again. Derivatives
    pass through to `x` alone. On CPU this is a call that XLA cannot see into, because
    XLA:CPU drops barriers before it schedules; elsewhere it is a barrier.
    """
    return pin_p.bind(x, *deps)[0] if deps else x


def pin_together(x: jax.Array, *deps: jax.Array) -> list[jax.Array]:
    """`x` and `deps`, unchanged; `x` not before `deps` exist.

    As `pin`, for results: XLA drops an operand of a barrier whose other users take it
    in another layout, and a gradient that leaves the program has such a user. Behind
    the barrier it is that user's operand.
    """
    return pin_p.bind(x, *deps) if deps else [x]


def materialized(x: jax.Array) -> jax.Array:
    """Returns `x`, unchanged, computed once and written to memory.

    For an elementwise result that is encoded and then pinned: XLA:CPU would give each
    of the two readers an array of its own, computed twice. Elsewhere nothing happens.
    """
    return pin_p.bind(x)[0]


def keep_apart(x: jax.Array, *deps: jax.Array) -> jax.Array:
    """`pin` for what the CPU orders well by itself: there, `x` as it is.

    Elsewhere it is a barrier: XLA:GPU makes what different parts of a program make of
    `x` in one kernel, and too early for the later of them.
    """
    return apart_p.bind(x, *deps) if deps else x


def _on_cpu(x: Any, *deps: Any) -> Any:
    if not _kernels.has_cpu_kernels():
        return _barrier(x, *deps)

    def call(x, *deps):
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return _kernels.call_target("epmc_pin", result, (x, *deps), {}, aliases={0: 0})

    return split_like_operand(call, (x, *deps)), *deps


def _barrier(x: Any, *deps: Any) -> Any:
    return lax.optimization_barrier((x, *deps)) if deps else (x,)


def _batch(operands: Any, axes: Any) -> Any:
    return pin_p.bind(*operands), axes


def _jvp(primals: Any, tangents: Any) -> Any:
    return pin_p.bind(*primals), tangents


def _transpose(cts: Any, *operands: Any) -> Any:
    del operands
    return list(cts)


pin_p = make_primitive(
    "epmc_pin",
    abstract=lambda *operands: operands,
    reference=_barrier,
    on_cpu=_on_cpu,
    batch=_batch,
    jvp=_jvp,
    multiple_results=True,
)
ad.primitive_transposes[pin_p] = _transpose


def _keep_apart(x: Any, *deps: Any) -> Any:
    return wait_for(x, deps)


def _batch_apart(operands: Any, axes: Any) -> Any:
    return apart_p.bind(*operands), axes[0]


def _jvp_apart(primals: Any, tangents: Any) -> Any:
    return apart_p.bind(*primals), tangents[0]


def _transpose_apart(ct: Any, x: Any, *deps: Any) -> Any:
    del x
    return [ct, *(None for _ in deps)]


apart_p: Any = make_primitive(
    "epmc_apart",
    abstract=lambda x, *deps: x,
    reference=_keep_apart,
    on_cpu=lambda x, *deps: x,
    batch=_batch_apart,
    jvp=_jvp_apart,
)
ad.primitive_transposes[apart_p] = _transpose_apart
