"""Enters `lax.scan`: iterations hand on encoded bytes, not the arrays of JAX's own
rule.

JAX stacks what the gradient of a loop needs of every iteration. Here the body is
planned like any other function, its carry encoded where the gradient needs it, and both
directions are scans of the planned programs. Constants and parameters that it scans
over are read again by the backward scan, and not stacked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from epmc_jax import _jax_compat as compat
from epmc_jax.passes import execution
from epmc_jax.passes.program import NestedOrigin, NestedResidual, NestedResiduals
from epmc_jax.passes.stored import Selection, Stored

Plan = Callable[..., Any]
"""`plan(jaxpr, wrt=..., encoded=...)` gives a region with its `selection`."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Planned:
    """What the forward scan decided, for the backward one: no arrays.

    `wrt`: differentiated operands of the equation. `read`: arguments of the body that
    its backward pass takes, as it takes them.
    """

    selection: Selection | None
    wrt: tuple[int, ...]
    read: tuple[int, ...]


class PlannedScan:
    """One scan equation as a `custom_vjp` of two scans over planned programs.

    Operands are constants, carry, scanned arrays; results are carry, stacked results.
    The arguments of the body are `held`, its own constants, and the operands.
    """

    def __init__(
        self,
        eqn: Any,
        plan: Plan,
        nested: NestedResiduals,
        is_activation: Sequence[bool],
    ):
        self.eqn = eqn
        self.is_activation = is_activation
        self.plan = plan
        self.nested = nested
        self.body, self.held = compat.called_jaxpr(eqn)
        self.num_consts, self.num_carry = compat.scan_layout(eqn)
        self.first_xs = self.num_consts + self.num_carry

    def __call__(self, *operands):
        call = jax.custom_vjp(self._primal)
        call.defvjp(self._forward, self._backward, symbolic_zeros=True)
        return call(*operands)

    def _primal(self, *operands):
        return compat.bind_equation(self.eqn, operands)

    def _forward(self, *primals):
        operands = [p.value for p in primals]
        wrt = self._differentiated(primals)
        if not wrt:
            return self._primal(*operands), (_Planned(None, (), ()), [], [])
        selection = self._plan(wrt)
        consts = operands[: self.num_consts]

        def step(carry, xs):
            arrays = [*self.held, *consts, *carry, *xs]
            outs, saved, _ = execution.run_forward(selection, arrays)
            return outs[: self.num_carry], (outs[self.num_carry :], saved)

        init, xs = operands[self.num_consts : self.first_xs], operands[self.first_xs :]
        carry, (ys, saved) = self._scan(step, init, xs, self.eqn.params["reverse"])
        tagged = [
            self._tag(array, selection, stored)
            for array, stored in zip(saved, selection.stored, strict=True)
        ]
        arguments = selection.program.arguments
        read = tuple(arguments.index(v) for v in selection.kept_arguments)
        arrays = [*self.held, *operands]
        planned = _Planned(selection, wrt, read)
        return [*carry, *ys], (planned, tagged, [arrays[i] for i in read])

    def _backward(self, residuals, cotangents):
        planned, saved, read = residuals
        if planned.selection is None:
            return (None,) * len(self.eqn.invars)
        backward = _BackwardStep(self, planned, cotangents, read)
        (ct_carry, sums), ct_xs = self._scan(
            backward,
            backward.initial(),
            backward.scanned(saved),
            not self.eqn.params["reverse"],
        )
        by_operand = dict(zip(planned.wrt, [*sums, *ct_carry, *ct_xs], strict=True))
        return tuple(by_operand.get(i) for i in range(len(self.eqn.invars)))

    def _scan(self, step, init, xs, reverse):
        length, unroll = self.eqn.params["length"], self.eqn.params["unroll"]
        return lax.scan(step, init, xs, length, reverse=reverse, unroll=unroll)

    def _differentiated(self, primals: Sequence[Any]) -> tuple[int, ...]:
        """A carry takes part as soon as anything does: it may depend on it."""
        floats = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in self.eqn.invars]
        taking_part = [p.perturbed and f for p, f in zip(primals, floats, strict=True)]
        if any(taking_part):
            carry = slice(self.num_consts, self.first_xs)
            taking_part[carry] = floats[carry]
        return tuple(i for i, t in enumerate(taking_part) if t)

    def _plan(self, wrt: Sequence[int]) -> Selection:
        # The carry of an iteration is nowhere else: it is encoded, not kept. So is what
        # a layer has made to be scanned over; a constant would be, in each iteration.
        encoded = [False] * (len(self.held) + self.num_consts)
        encoded += [True] * self.num_carry
        encoded += self.is_activation[self.first_xs :]
        body_wrt = [len(self.held) + i for i in wrt]
        region = self.plan(self.body, wrt=body_wrt, encoded=encoded)
        self.nested.plain_bytes += self.eqn.params["length"] * region.plain_bytes
        return dataclasses.replace(region.selection, in_loop=True)

    def _tag(self, array: Any, selection: Selection, stored: Stored) -> Any:
        length = self.eqn.params["length"]
        residual = stored.residual
        nested = NestedResidual(
            residual=dataclasses.replace(residual, shape=(length, *residual.shape)),
            codec=stored.codec,
            reason=f"{stored.reason}, in each of {length} iterations",
            dense_bytes=length * stored.dense_bytes,
            encoded_bytes=length * stored.encoded_bytes,
            origin=NestedOrigin(selection, stored, length),
        )
        return checkpoint_name(array, self.nested.add(nested))


class _BackwardStep:
    """The body of the backward scan.

    Its carry are the cotangents of the loop's carry, and the sums of the constants'
    gradients; it scans over what the iterations stored and read, and over the
    cotangents of their results.
    """

    def __init__(
        self,
        scan: PlannedScan,
        planned: _Planned,
        cotangents: Any,
        read: Sequence[Any],
    ):
        self.planned = planned
        self.read = read
        real = [ct for ct in cotangents if ct.dtype != jax.dtypes.float0]
        first_xs = scan.first_xs
        self.num_consts = sum(i < scan.num_consts for i in planned.wrt)
        self.num_carry = sum(scan.num_consts <= i < first_xs for i in planned.wrt)
        self.ct_carry = [_instantiated(ct) for ct in real[: self.num_carry]]
        self.ct_ys = real[self.num_carry :]
        self.const_avals = [
            scan.eqn.invars[i].aval for i in planned.wrt[: self.num_consts]
        ]
        self.is_scanned = [i >= len(scan.held) + first_xs for i in planned.read]

    def initial(self) -> Any:
        return self.ct_carry, [compat.zeros_like_aval(a) for a in self.const_avals]

    def scanned(self, saved: Sequence[Any]) -> Any:
        xs = [a for a, s in zip(self.read, self.is_scanned, strict=True) if s]
        return saved, xs, [ct for ct in self.ct_ys if not _is_zero(ct)]

    def __call__(self, state: Any, iteration: Any) -> Any:
        (ct_carry, sums), (saved, xs, ct_ys) = state, iteration
        slices, given = iter(xs), iter(ct_ys)
        read = [
            next(slices) if s else a
            for a, s in zip(self.read, self.is_scanned, strict=True)
        ]
        ct_ys = [execution.ZERO if _is_zero(ct) else next(given) for ct in self.ct_ys]
        assert self.planned.selection is not None
        gradients = execution.run_backward(
            self.planned.selection, saved, read, [*ct_carry, *ct_ys]
        )
        of_consts = gradients[: self.num_consts]
        behind_carry = self.num_consts + self.num_carry
        sums = [s + g for s, g in zip(sums, of_consts, strict=True)]
        return (gradients[self.num_consts : behind_carry], sums), gradients[
            behind_carry:
        ]


def _is_zero(ct: Any) -> bool:
    return isinstance(ct, compat.SymbolicZero)


def _instantiated(ct: Any) -> Any:
    return compat.zeros_like_aval(ct.aval) if _is_zero(ct) else ct
