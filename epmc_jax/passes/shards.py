"""Enters `shard_map`: each device hands on the encoded bytes of its own block.

The body is planned like any other function, on the arrays that one device has. Both
directions are shard_maps of the planned programs over the same mesh. What the body
stores leaves it as one array of all devices, with the device as its first axis, and
comes back to the device that it is from: nothing is moved. Operands that are kept
anyway (parameters) are read again by the backward pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from epmc_jax import _jax_compat as compat
from epmc_jax.passes import execution
from epmc_jax.passes.program import NestedOrigin, NestedResidual, NestedResiduals
from epmc_jax.passes.stored import Selection, Stored


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class _Planned:
    """What the forward pass decided, for the backward pass: no arrays.

    `wrt`: differentiated operands. `read`: operands that the backward pass takes as
    they are.
    """

    selection: Selection | None
    wrt: tuple[int, ...]
    read: tuple[int, ...]


class PlannedShardMap:
    """One shard_map equation as a `custom_vjp` of two over planned programs."""

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
        self.is_activation = list(is_activation)
        self.body, self.held = compat.called_jaxpr(eqn)
        self.layout = compat.shard_map_layout(eqn)

    def __call__(self, *operands):
        call = jax.custom_vjp(self._primal)
        call.defvjp(self._forward, self._backward, symbolic_zeros=True)
        return call(*operands)

    def _primal(self, *operands):
        return compat.bind_equation(self.eqn, operands)

    def _forward(self, *primals):
        operands = [p.value for p in primals]
        wrt = tuple(
            i
            for i, (p, v) in enumerate(zip(primals, self.eqn.invars, strict=True))
            if p.perturbed and jnp.issubdtype(v.aval.dtype, jnp.inexact)
        )
        if not wrt:
            return self._primal(*operands), (_Planned(None, (), ()), [], [])
        selection = self._plan(wrt, operands)

        def step(*blocks):
            outs, saved, _ = execution.run_forward(selection, [*self.held, *blocks])
            return outs, [a[None] for a in saved]

        out_specs = (list(self.layout.out_specs), self._saved_specs(selection))
        outs, saved = self._map(step, self.layout.in_specs, out_specs)(*operands)
        tagged = [
            self._tag(array, selection, stored)
            for array, stored in zip(saved, selection.stored, strict=True)
        ]
        arguments = selection.program.arguments
        positions = [
            arguments.index(v) - len(self.held) for v in selection.kept_arguments
        ]
        read = tuple(i for i in positions if i >= 0)
        return outs, (
            _Planned(selection, wrt, read),
            tagged,
            [operands[i] for i in read],
        )

    def _backward(self, residuals, cotangents):
        planned, saved, read = residuals
        if planned.selection is None:
            return (None,) * len(self.eqn.invars)
        has_ct = [ct.dtype != jax.dtypes.float0 for ct in cotangents]
        given = [ct for ct, has in zip(cotangents, has_ct, strict=True) if has]
        specs = [s for s, h in zip(self.layout.out_specs, has_ct, strict=True) if h]
        is_zero = [isinstance(ct, compat.SymbolicZero) for ct in given]
        in_specs = self.layout.in_specs
        wrt_specs = [in_specs[i] for i in planned.wrt]
        step = self._backward_step(planned, specs, is_zero)
        gradients = self._map(
            step,
            (
                self._saved_specs(planned.selection),
                [in_specs[i] for i in planned.read],
                [s for s, zero in zip(specs, is_zero, strict=True) if not zero],
            ),
            wrt_specs,
        )(saved, read, [ct for ct, z in zip(given, is_zero, strict=True) if not z])
        by_operand = dict(zip(planned.wrt, gradients, strict=True))
        return tuple(by_operand.get(i) for i in range(len(self.eqn.invars)))

    def _backward_step(
        self, planned: _Planned, ct_specs: Sequence[Any], is_zero: Sequence[bool]
    ) -> Callable[..., Any]:
        selection, in_specs = planned.selection, self.layout.in_specs
        assert selection is not None

        def step(saved, read, cotangents):
            arrays = iter(cotangents)
            cts = [
                execution.ZERO if zero else self._share(next(arrays), spec)
                for zero, spec in zip(is_zero, ct_specs, strict=True)
            ]
            first, arguments = len(self.held), selection.program.arguments
            blocks = dict(zip((first + i for i in planned.read), read, strict=True))
            blocks.update(enumerate(self.held))
            kept = [blocks[arguments.index(v)] for v in selection.kept_arguments]
            own = [array[0] for array in saved]
            gradients = execution.run_backward(selection, own, kept, cts)
            return [
                self._sum(g, in_specs[i])
                for g, i in zip(gradients, planned.wrt, strict=True)
            ]

        return step

    def _map(self, call: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
        return jax.shard_map(
            call,
            mesh=self.layout.mesh,
            in_specs=in_specs,
            out_specs=out_specs,
            axis_names=self.layout.axis_names,
            check_vma=self.layout.check_vma,
        )

    def _plan(self, wrt: Sequence[int], operands: Sequence[Any]) -> Selection:
        # Planned within a shard_map, where the axes of the mesh have their names.
        regions = []

        def plan_body(*blocks):
            del blocks
            first = len(self.held)
            region = self.plan(
                self.body,
                wrt=[first + i for i in wrt],
                encoded=[False] * first + self.is_activation,
            )
            regions.append(region)
            return ()

        jax.eval_shape(self._map(plan_body, self.layout.in_specs, ()), *operands)
        self.nested.plain_bytes += self.layout.num_devices * regions[0].plain_bytes
        return regions[0].selection

    def _saved_specs(self, selection: Selection) -> list[Any]:
        """The axes over which devices store different things, first."""
        return [
            PartitionSpec(self._varying_axes(s.source.aval) or None)
            for s in selection.stored
        ]

    def _varying_axes(self, aval: Any) -> tuple[Any, ...]:
        axes = self.layout.axis_names
        if self.layout.check_vma:
            axes = axes & compat.varying_axes(aval)
        return tuple(name for name in self.layout.mesh.axis_names if name in axes)

    def _unmentioned(self, spec: Any) -> tuple[Any, ...]:
        named = {n for axes in spec if axes is not None for n in jax.tree.leaves(axes)}
        return tuple(sorted(self.layout.axis_names - named))

    def _share(self, ct: Any, spec: Any) -> Any:
        """The part of a cotangent that falls to each device with the same result.

        Where JAX does not check what varies over devices, it takes results that are the
        same on all for their mean, and operands for separate ones.
        """
        if self.layout.check_vma:
            return ct
        return ct / math.prod(
            self.layout.mesh.shape[n] for n in self._unmentioned(spec)
        )

    def _sum(self, gradient: Any, spec: Any) -> Any:
        axes = () if self.layout.check_vma else self._unmentioned(spec)
        return lax.psum(gradient, axes) if axes else gradient

    def _tag(self, array: Any, selection: Selection, stored: Stored) -> Any:
        count, residual = self.layout.num_devices, stored.residual
        nested = NestedResidual(
            residual=dataclasses.replace(residual, shape=(count, *residual.shape)),
            codec=stored.codec,
            reason=f"{stored.reason}, on each of {count} devices",
            dense_bytes=count * stored.dense_bytes,
            encoded_bytes=count * stored.encoded_bytes,
            # The devices encode at the same time.
            origin=NestedOrigin(selection, stored),
        )
        return checkpoint_name(array, self.nested.add(nested))
