"""A planned function as one differentiable region, its control flow entered."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from epmc_jax import _jax_compat as compat
from epmc_jax._forward_mode import reverse_only
from epmc_jax._ordering import pin_on_cpu
from epmc_jax.passes import (
    backward_order,
    control_flow,
    description,
    execution,
    program,
    rewrites,
    selection,
    stored,
)
from epmc_jax.policy import Policy


@dataclasses.dataclass(frozen=True, eq=False)
class PlannedRegion:
    """A planned function: its selection, and the bytes JAX alone would keep."""

    selection: stored.Selection
    plain_bytes: int

    @property
    def gains(self) -> bool:
        """False where JAX alone would keep no more than the plan stores.

        These are sums of sizes. Arguments that the plan stores are counted on both
        sides: without it they would live until the backward pass has read them.
        """
        kept = self.selection.stored
        arguments = set(self.selection.program.arguments)
        inputs = sum(s.dense_bytes for s in kept if s.value in arguments)
        return sum(s.encoded_bytes for s in kept) < self.plain_bytes + inputs


def plan_region(
    jaxpr: Any,
    policy: Policy,
    wrt: Sequence[int],
    encoded: Sequence[bool],
    ways: int = 1,
) -> PlannedRegion:
    """Traces and plans `jaxpr`, differentiated with respect to the arguments `wrt`.

    Arguments are counted with the constants of `jaxpr` first; `encoded` says of each
    whether it is encoded where the backward pass needs it. `ways`: what is known of
    splits from around `jaxpr`, for what `policy.ways` is.
    """
    nested = program.NestedResiduals()
    ways = math.lcm(ways, policy.ways, compat.ways_of_constraints(jaxpr))
    plan = functools.partial(plan_region, policy=policy, ways=ways)
    evaluator = control_flow.Evaluator(plan, nested)
    traced = program.trace(jaxpr, wrt, lambda j, arrays: evaluator(j, arrays, encoded))
    traced = dataclasses.replace(traced, nested=nested)
    joint = rewrites.rewrite(traced, description.pool_codec(policy))
    to_encode = {v for v, e in zip(joint.arguments, encoded, strict=True) if e}
    return PlannedRegion(
        selection=selection.select(joint, policy, to_encode, ways),
        plain_bytes=program.residual_bytes(traced),
    )


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Planned:
    """What the forward pass decided, for the backward pass: no arrays.

    `selection`: None where the function runs as written.
    """

    selection: stored.Selection | None
    wrt: tuple[int, ...]
    num_arguments: int


class Region:
    """One traced function, differentiated by the planned programs.

    Called with the constants of `jaxpr` and its arguments. `on_planned`: called with
    each `PlannedRegion` that a derivative asks for.
    """

    def __init__(
        self,
        jaxpr: Any,
        policy: Policy,
        encoded: Sequence[bool],
        on_planned: Callable[[PlannedRegion], None],
    ):
        self.jaxpr = jaxpr
        self.policy = policy
        self.encoded = encoded
        self.on_planned = on_planned

    def __call__(self, *arrays):
        call = jax.custom_vjp(self._primal)
        call.defvjp(self._forward, self._backward, symbolic_zeros=True)
        return call(*reverse_only(*arrays))

    def _primal(self, *arrays):
        num_consts = len(self.jaxpr.constvars)
        return compat.eval_jaxpr(self.jaxpr, arrays[:num_consts], *arrays[num_consts:])

    def _forward(self, *primals):
        arrays = [p.value for p in primals]
        wrt = differentiated(primals)
        if not wrt:
            return self._primal(*arrays), (_Planned(None, (), len(arrays)), [], [], [])
        region = plan_region(self.jaxpr, self.policy, wrt, self.encoded)
        self.on_planned(region)
        if not region.gains:
            return self._forward_as_written(arrays, wrt)
        outputs, saved, kept = execution.run_forward(region.selection, arrays)
        planned = _Planned(region.selection, wrt, len(arrays))
        waits = backward_order.waits_for_outputs(region.selection)
        scalars = [x for x in outputs if waits and jnp.size(x) == 1]
        return outputs, (planned, saved, kept, scalars)

    def _backward(self, residuals, cotangents):
        planned, saved, kept, scalars = residuals
        if planned.selection is None and not planned.wrt:
            return (None,) * planned.num_arguments
        if planned.selection is None:
            gradients = saved(list(map(_instantiated, cotangents)))
            return _of_arguments(planned, gradients)
        given = [
            execution.ZERO
            if isinstance(ct, compat.SymbolicZero)
            else _after_forward(ct, scalars)
            for ct in cotangents
            if ct.dtype != jax.dtypes.float0
        ]
        gradients = execution.run_backward(planned.selection, saved, kept, given)
        return _of_arguments(planned, gradients)

    def _forward_as_written(self, arrays: Sequence[Any], wrt: tuple[int, ...]) -> Any:
        """Outputs and residuals of JAX alone: there is nothing to gain."""

        def of_floats(*floats):
            given = dict(zip(wrt, floats, strict=True))
            return self._primal(*(given.get(i, a) for i, a in enumerate(arrays)))

        outputs, pull_back = jax.vjp(of_floats, *(arrays[i] for i in wrt))
        return outputs, (_Planned(None, wrt, len(arrays)), pull_back, [], [])


def _after_forward(ct: Any, scalars: Sequence[Any]) -> Any:
    """The cotangent of a loss is a constant: without a tie, nothing keeps the backward
    pass from beginning before the forward pass has ended."""
    return pin_on_cpu(ct, *scalars) if jnp.size(ct) == 1 else ct


def _of_arguments(planned: _Planned, gradients: Sequence[Any]) -> tuple[Any, ...]:
    by_argument = dict(zip(planned.wrt, gradients, strict=True))
    return tuple(by_argument.get(i) for i in range(planned.num_arguments))


def _instantiated(ct: Any) -> Any:
    if ct.dtype == jax.dtypes.float0:
        return np.zeros(ct.shape, ct.dtype)
    return jnp.zeros(ct.shape, ct.dtype) if isinstance(ct, compat.SymbolicZero) else ct


def differentiated(primals: Sequence[Any]) -> tuple[int, ...]:
    """Positions of the float arguments that a derivative is asked for."""
    return tuple(
        i
        for i, primal in enumerate(primals)
        if primal.perturbed
        and jnp.issubdtype(jnp.result_type(primal.value), jnp.inexact)
    )
