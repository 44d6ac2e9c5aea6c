"""Forward-mode derivatives of a compressed function raise, with the remedy."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax

from epmc_jax import _jax_compat as compat
from epmc_jax._types import SecondOrderError

# A `custom_vjp` raises in forward mode too, but with jax's words, and after the call
# that made the mistake is left: the result of `jax.linearize` is called later. Tangents
# therefore pass this primitive first. Reverse mode transposes it away.
_tangent_p = compat.Primitive("epmc_tangent")


@jax.custom_jvp
def reverse_only(*arrays: Any) -> tuple[Any, ...]:
    """`arrays` themselves; using their tangents for more than a transposition raises.

    Raises: `SecondOrderError` when a tangent is computed or compiled.
    """
    return arrays


@functools.partial(reverse_only.defjvp, symbolic_zeros=True)
def _reverse_only_jvp(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    guarded = [
        t if isinstance(t, compat.SymbolicZero) else _tangent_p.bind(t)
        for t in tangents
    ]
    return tuple(primals), tuple(guarded)


def _refuse(*args: Any, **params: Any) -> Any:
    del args, params
    raise SecondOrderError(
        "forward-mode derivative of a compressed function: encoded residuals serve one "
        "backward pass and have no tangents. For jvp, linearize, jacfwd or hessian, "
        "trace the function inside `with epmc_jax.disable():`; for first-order "
        "gradients use grad, vjp or jacrev."
    )


_tangent_p.def_abstract_eval(lambda tangent: tangent)
_tangent_p.def_impl(_refuse)
compat.mlir.register_lowering(_tangent_p, _refuse)
compat.ad.deflinear2(_tangent_p, lambda ct, _: [ct])
compat.batching.primitive_batchers[_tangent_p] = lambda args, dims: (
    _tangent_p.bind(args[0]),
    dims[0],
)
