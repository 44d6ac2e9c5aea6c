"""Enters `lax.cond` and `lax.switch`: the branch that is taken hands on encoded bytes.

Each branch is planned like any other function. The arrays that branches store are laid
over each other where they agree in shape and dtype, so that a switch keeps about as
much as its most demanding branch, where JAX keeps the sum of all. Parameters are read
again by the backward pass of a branch, and not stored.
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
from epmc_jax.passes.stored import Selection


@dataclasses.dataclass(frozen=True, eq=False)
class _Branch:
    """One planned branch: `held`, its own constants, come before the operands.

    `slots`: where its stored arrays are among those that leave the cond.
    """

    held: Sequence[Any]
    selection: Selection
    avals: list[Any]
    slots: list[int] = dataclasses.field(default_factory=list)

    def read(self) -> list[int]:
        """Positions of the arguments that the backward pass takes as they are."""
        arguments = self.selection.program.arguments
        return [arguments.index(v) for v in self.selection.kept_arguments]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Planned:
    """What the forward pass decided, for the backward pass: no arrays.

    `wrt`: differentiated operands, the index not counted. `read`: operands that the
    backward pass takes.
    """

    branches: list[_Branch]
    wrt: tuple[int, ...]
    read: tuple[int, ...]


class PlannedCond:
    """One cond equation as a `custom_vjp` of two conds over planned branches."""

    def __init__(
        self,
        eqn: Any,
        plan: Callable[..., Any],
        nested: NestedResiduals,
        is_activation: Sequence[bool],
    ):
        self.eqn = eqn
        self.plan = plan
        self.nested = nested
        self.is_activation = list(is_activation[1:])

    def __call__(self, *operands):
        call = jax.custom_vjp(self._primal)
        call.defvjp(self._forward, self._backward, symbolic_zeros=True)
        return call(*operands)

    def _primal(self, *operands):
        return compat.bind_equation(self.eqn, operands)

    def _forward(self, *primals):
        index, *operands = (p.value for p in primals)
        avals = [v.aval for v in self.eqn.invars[1:]]
        wrt = tuple(
            i
            for i, (p, aval) in enumerate(zip(primals[1:], avals, strict=True))
            if p.perturbed and jnp.issubdtype(aval.dtype, jnp.inexact)
        )
        if not wrt:
            return self._primal(index, *operands), (_Planned([], (), ()), index, [], [])
        branches = self._plan(wrt, avals)
        slots = _share_slots(branches)
        outs, saved = lax.switch(
            index, [_forward_of(b, slots) for b in branches], *operands
        )
        tagged = self._tag(saved, branches)
        first = [len(b.held) for b in branches]
        read = sorted(
            {i - n for b, n in zip(branches, first, strict=True) for i in b.read()}
            & set(range(len(operands)))
        )
        planned = _Planned(branches, wrt, tuple(read))
        return outs, (planned, index, tagged, [operands[i] for i in read])

    def _plan(self, wrt: Sequence[int], avals: Sequence[Any]) -> list[_Branch]:
        branches = []
        for jaxpr, held in compat.branch_jaxprs(self.eqn):
            encoded = [False] * len(held) + self.is_activation
            region = self.plan(jaxpr, wrt=[len(held) + i for i in wrt], encoded=encoded)
            self.nested.plain_bytes += region.plain_bytes
            saved = compat.result_avals(_saved_by(region.selection, held), *avals)
            branches.append(_Branch(held, region.selection, saved))
        return branches

    def _tag(self, saved: Sequence[Any], branches: Sequence[_Branch]) -> list[Any]:
        largest: dict[int, NestedOrigin] = {}
        for branch in branches:
            for slot, stored in zip(branch.slots, branch.selection.stored, strict=True):
                if (
                    slot not in largest
                    or stored.dense_bytes > largest[slot].stored.dense_bytes
                ):
                    largest[slot] = NestedOrigin(branch.selection, stored)
        return [
            checkpoint_name(array, self.nested.add(_nested(largest[slot])))
            for slot, array in enumerate(saved)
        ]

    def _backward(self, residuals, cotangents):
        planned, index, saved, read = residuals
        if not planned.branches:
            return (None,) * len(self.eqn.invars)
        given = [ct for ct in cotangents if ct.dtype != jax.dtypes.float0]
        is_zero = [isinstance(ct, compat.SymbolicZero) for ct in given]
        avals = [self.eqn.invars[1 + i].aval for i in planned.wrt]
        gradients = lax.switch(
            index,
            [_backward_of(b, planned, is_zero, avals) for b in planned.branches],
            saved,
            read,
            [ct for ct, zero in zip(given, is_zero, strict=True) if not zero],
        )
        by_operand = dict(zip(planned.wrt, gradients, strict=True))
        return (None, *(by_operand.get(i) for i in range(len(self.eqn.invars) - 1)))


def _saved_by(selection: Selection, held: Sequence[Any]) -> Callable[..., Any]:
    return lambda *operands: execution.run_forward(selection, [*held, *operands])[1]


def _nested(origin: NestedOrigin) -> NestedResidual:
    stored = origin.stored
    return NestedResidual(
        residual=stored.residual,
        codec=stored.codec,
        reason=f"{stored.reason}, in a branch",
        dense_bytes=stored.dense_bytes,
        encoded_bytes=stored.encoded_bytes,
        origin=origin,
    )


def _share_slots(branches: Sequence[_Branch]) -> list[Any]:
    """Gives the arrays of each branch a slot of their aval; returns the slots'
    avals."""
    slots: list[Any] = []
    for branch in branches:
        left = list(enumerate(slots))
        for aval in branch.avals:
            fits = (k for k, (_, other) in enumerate(left) if other == aval)
            place = next(fits, None)
            if place is None:
                branch.slots.append(len(slots))
                slots.append(aval)
            else:
                branch.slots.append(left.pop(place)[0])
    return slots


def _forward_of(branch: _Branch, slots: Sequence[Any]) -> Callable[..., Any]:
    def run(*operands):
        arrays = [*branch.held, *operands]
        outs, saved, _ = execution.run_forward(branch.selection, arrays)
        by_slot = dict(zip(branch.slots, saved, strict=True))
        filled = [
            by_slot[i] if i in by_slot else compat.zeros_like_aval(aval)
            for i, aval in enumerate(slots)
        ]
        return outs, filled

    return run


def _backward_of(
    branch: _Branch, planned: _Planned, is_zero: Sequence[bool], avals: Sequence[Any]
) -> Callable[..., Any]:
    def run(saved, read, cotangents):
        first = len(branch.held)
        operands = dict(zip((first + i for i in planned.read), read, strict=True))
        arguments = {**dict(enumerate(branch.held)), **operands}
        given = iter(cotangents)
        gradients = execution.run_backward(
            branch.selection,
            [saved[slot] for slot in branch.slots],
            [arguments[i] for i in branch.read()],
            [execution.ZERO if zero else next(given) for zero in is_zero],
        )
        return [g.astype(aval.dtype) for g, aval in zip(gradients, avals, strict=True)]

    return run
