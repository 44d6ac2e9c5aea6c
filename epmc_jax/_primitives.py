"""Makes a JAX primitive of a native kernel and its jnp reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from epmc_jax import _jax_compat as compat
from epmc_jax._jax_compat import Primitive, ad, batching, mlir
from epmc_jax._types import SecondOrderError


def make_primitive(
    name: str,
    *,
    abstract: Callable[..., Any],
    reference: Callable[..., Any],
    on_cpu: Callable[..., Any],
    batch: Callable[..., Any],
    jvp: Callable[..., Any],
    on_cuda: Callable[..., Any] | None = None,
    static_argnames: Sequence[str] = (),
    multiple_results: bool = False,
) -> Primitive:
    """A primitive: `on_cpu` on CPUs, `on_cuda` on NVIDIA GPUs, `reference` elsewhere.

    `reference(*operands, **params)`, `on_cpu(...)` and, where given, `on_cuda(...)` are
    traceable functions with the same results, `abstract(*avals, **params)` gives their
    avals; `batch` and `jvp` are rules as in `jax.interpreters`. `static_argnames`: the
    names of `params`.
    """
    primitive = Primitive(name)
    primitive.multiple_results = multiple_results
    primitive.def_abstract_eval(abstract)
    compat.needs_devices_to_lower(primitive)
    primitive.def_impl(_compiled(primitive, tuple(static_argnames)))
    lowerings = {None: reference, "cpu": on_cpu, "cuda": on_cuda or reference}
    for platform, function in lowerings.items():
        rule = mlir.lower_fun(function, multiple_results=multiple_results)
        mlir.register_lowering(primitive, rule, platform=platform)
    batching.primitive_batchers[primitive] = batch
    ad.primitive_jvps[primitive] = jvp
    return primitive


def make_pass_through(name: str, **options: Any) -> Primitive:
    """A primitive whose results are its operands, for the order that it stands for.

    Derivatives pass through, and mapped axes: an asynchronous call is awaited before
    anything that gives its result other axes. `options`: as for `make_primitive`.
    """
    primitive = make_primitive(
        name,
        abstract=lambda *operands, **params: operands,
        jvp=lambda primals, tangents, **params: (
            primitive.bind(*primals, **params),
            tangents,
        ),
        batch=lambda operands, axes, **params: (
            primitive.bind(*operands, **params),
            axes,
        ),
        multiple_results=True,
        **options,
    )
    ad.primitive_transposes[primitive] = lambda cts, *operands, **params: list(cts)
    return primitive


def _compiled(primitive: Primitive, static_argnames: tuple[str, ...]) -> Any:
    """Runs `primitive` outside of jit, and inside `jax.disable_jit()` too."""
    jitted = jax.jit(primitive.bind, static_argnames=static_argnames)

    def run(*operands: Any, **params: Any) -> Any:
        with jax.disable_jit(False):
            return jitted(*operands, **params)

    return run


def wait_for(x: jax.Array, after: Sequence[jax.Array]) -> jax.Array:
    """`x`, but not before `after` exists, where XLA keeps barriers (not on CPU)."""
    return lax.optimization_barrier((x, *after))[0] if after else x


def zero_tangent(primal_out: Any) -> ad.Zero:
    """The symbolic zero for an output that has no derivative."""
    return ad.Zero(compat.tangent_aval(jax.typeof(primal_out)))


def has_derivative(tangent: Any) -> bool:
    """False for symbolic zeros and for the tangents of integers and booleans."""
    return not isinstance(tangent, ad.Zero) and tangent.dtype != jax.dtypes.float0


def refuse_second_order(codec: Any) -> None:
    """Raises `SecondOrderError`: bytes made by `codec` would be taken for constants."""
    raise SecondOrderError(
        f"second derivative through a residual encoded by {codec}: the encoded bytes "
        "have no derivative. For jvp, hessian or a gradient of a gradient, trace the "
        "function inside `with epmc_jax.disable():`."
    )


def move_to_front(x: jax.Array, axis: int) -> jax.Array:
    """The mapped axis of a batched operand, first."""
    return jnp.moveaxis(x, axis, 0)
