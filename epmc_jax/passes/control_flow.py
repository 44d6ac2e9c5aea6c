"""Evaluates a jaxpr with loops, branches and shard_maps entered: bodies are planned."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from epmc_jax import _jax_compat as compat
from epmc_jax.passes.branches import PlannedCond
from epmc_jax.passes.exactness import CHEAP_NAMES
from epmc_jax.passes.loops import PlannedScan
from epmc_jax.passes.program import NestedResiduals
from epmc_jax.passes.shards import PlannedShardMap

_ENTERED: dict[str, Callable[..., Callable[..., Any]]] = {
    "scan": PlannedScan,
    "cond": PlannedCond,
    "shard_map": PlannedShardMap,
}


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Evaluates jaxprs, with scans, conds and shard_maps as planned ones.

    `plan(jaxpr, wrt=..., encoded=...)` gives a region with its `selection`. `nested`
    receives what the bodies store.
    """

    plan: Callable[..., Any]
    nested: NestedResiduals

    def __call__(
        self, jaxpr: Any, arrays: Sequence[Any], is_activation: Sequence[bool]
    ) -> list[Any]:
        """`jaxpr` of `arrays`: its constants and its arguments.

        `is_activation`: which of them a layer has made; the others (parameters) and
        what follows cheaply from these are not encoded.
        """
        consts = arrays[: len(jaxpr.constvars)]
        if not _has_control_flow(jaxpr):
            return compat.eval_jaxpr(jaxpr, consts, *arrays[len(consts) :])
        variables = [*jaxpr.constvars, *jaxpr.invars]
        env = dict(zip(variables, arrays, strict=True))
        made = {v for v, a in zip(variables, is_activation, strict=True) if a}
        for eqn in jaxpr.eqns:
            inputs = [
                a.val if isinstance(a, compat.Literal) else env[a] for a in eqn.invars
            ]
            from_layers = [
                not isinstance(a, compat.Literal) and a in made for a in eqn.invars
            ]
            with compat.equation_context(eqn, compat.name_stack(eqn)):
                outs = self._equation(eqn, inputs, from_layers)
            env.update(zip(eqn.outvars, outs, strict=True))
            if any(from_layers) or eqn.primitive.name not in CHEAP_NAMES:
                made.update(eqn.outvars)
        return [
            a.val if isinstance(a, compat.Literal) else env[a] for a in jaxpr.outvars
        ]

    def _equation(
        self, eqn: Any, inputs: Sequence[Any], is_activation: Sequence[bool]
    ) -> Sequence[Any]:
        name = eqn.primitive.name
        if name in _ENTERED and not compat.has_effects(eqn):
            return _ENTERED[name](eqn, self.plan, self.nested, is_activation)(*inputs)
        if name in compat.TRANSPARENT_CALLS:
            body, held = compat.called_jaxpr(eqn)
            flags = [False] * len(held) + list(is_activation)
            return self(body, [*held, *inputs], flags)
        return compat.bind_equation(eqn, inputs)


def _has_control_flow(jaxpr: Any) -> bool:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in _ENTERED:
            return True
        if eqn.primitive.name in compat.TRANSPARENT_CALLS:
            body, _ = compat.called_jaxpr(eqn)
            if _has_control_flow(body):
                return True
    return False
