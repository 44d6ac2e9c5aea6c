"""Everything that depends on the version of jax: nothing outside this module does.

Supported: jax 0.10.2 up to 0.12. What is taken from `jax._src` has no public
name in all of these versions.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import jax
from jax._src import ad_util, dispatch, source_info_util
from jax._src.core import NamedAxisEffect, jaxprs_in_params
from jax.core import eval_jaxpr as eval_jaxpr
from jax.custom_derivatives import SymbolicZero as SymbolicZero
from jax.experimental.custom_partitioning import (
    custom_partitioning as custom_partitioning,
)
from jax.experimental.scheduling_groups import xla_metadata_call
from jax.extend.core import ClosedJaxpr as ClosedJaxpr
from jax.extend.core import Jaxpr as Jaxpr
from jax.extend.core import JaxprEqn as JaxprEqn
from jax.extend.core import Literal as Literal
from jax.extend.core import Primitive as Primitive
from jax.extend.core import Var as Var
from jax.interpreters import ad as ad
from jax.interpreters import batching as batching
from jax.interpreters import mlir as mlir
from jax.sharding import NamedSharding, PartitionSpec

INLINED_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "remat_call"}
)


# Calls without a derivative of their own: their bodies may be evaluated in place.
TRANSPARENT_CALLS = frozenset({"jit", "pjit", "closed_call", "core_call"})


def called_jaxpr(eqn: JaxprEqn) -> tuple[Jaxpr, Sequence[Any]]:
    """The body of a call equation and the constants it closes over."""
    return _opened(
        eqn.params["jaxpr"] if "jaxpr" in eqn.params else eqn.params["call_jaxpr"]
    )


def branch_jaxprs(eqn: JaxprEqn) -> list[tuple[Jaxpr, Sequence[Any]]]:
    """The branches of a cond equation, each with the constants it closes over."""
    return [_opened(branch) for branch in eqn.params["branches"]]


def _opened(body: Any) -> tuple[Jaxpr, Sequence[Any]]:
    # jax 0.12 merged ClosedJaxpr into Jaxpr: the constants are an attribute of both.
    return (body.jaxpr, body.consts) if hasattr(body, "consts") else (body, ())


def equations(body: Any) -> list[JaxprEqn]:
    """The equations of a body that is a parameter of an equation."""
    return list(_opened(body)[0].eqns)


def bind_equation(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """Applies one equation to `inputs`, as `eval_jaxpr` does."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # jax < 0.10 returned (subfuns, params); it is one dict since.
    subfuns, params = bound if isinstance(bound, tuple) else ((), bound)
    out = eqn.primitive.bind(*subfuns, *inputs, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def equation_context(eqn: JaxprEqn, scope: str) -> AbstractContextManager[Any]:
    """Name stack (`scope`), traceback and settings under which `eqn` was made."""
    stack = ExitStack()
    traceback = eqn.source_info.traceback
    names = source_info_util.current_name_stack()
    for name in filter(None, scope.split("/")):
        names = names.extend(name)
    stack.enter_context(source_info_util.user_context(traceback, name_stack=names))
    stack.enter_context(eqn.ctx.manager)
    return stack


def name_stack(eqn: JaxprEqn) -> str:
    """The named scopes around `eqn`, joined by `/`."""
    return str(eqn.source_info.name_stack)


def source_line(eqn: JaxprEqn) -> str:
    """`folder/file:line (function)` of the user's code that made `eqn`.

    Layers of Flax are passed over: they say "a convolution", not which one.
    """
    frames = list(source_info_util.user_frames(eqn.source_info.traceback))
    own = [f for f in frames if "/flax/" not in f.file_name] or frames
    if not own:
        return "unknown"
    file = "/".join(own[0].file_name.split("/")[-2:])
    return f"{file}:{own[0].start_line} ({own[0].function_name})"


def trace_to_jaxpr(fun: Callable[..., Any], avals: Sequence[Any]) -> ClosedJaxpr:
    """`jax.make_jaxpr` on avals as `jax.typeof` gives them: shardings are kept."""
    return jax.make_jaxpr(fun)(*avals)


def cotangent_aval(aval: Any) -> Any:
    """The aval of a cotangent of `aval`: float0 for integers and booleans."""
    return aval.to_ct_aval()


def aval_like(aval: Any, dtype: Any) -> Any:
    """`aval` with another dtype, sharding and all else kept."""
    return aval.update(dtype=jax.numpy.dtype(dtype), weak_type=False)


def is_tracer(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def is_saveable(policy: Callable[..., Any], eqn: JaxprEqn) -> bool:
    """What a `jax.checkpoint` policy says of `eqn`.

    Raises `ValueError` for policies that offload: a residual is encoded here instead.
    """
    avals = [v.aval for v in eqn.invars]
    answer = policy(eqn.primitive, *avals, **eqn.params)
    if isinstance(answer, bool):
        return answer
    kind = type(answer).__name__
    if kind not in ("SaveableType", "RecomputeType"):
        raise ValueError(
            f"recompute= takes jax.checkpoint policies that save or recompute, this "
            f"one answered {answer!r} for {eqn.primitive.name}: use the policy of the "
            "same name without offloading, and rules for the codecs."
        )
    return kind == "SaveableType"


def encoded_aval(aval: Any, shape: Sequence[int], dtype: Any) -> Any:
    """The aval of an array made from one of `aval`, with another shape and dtype.

    What concerns devices is kept, but for the axes that are split: those are of `aval`.
    """
    unsplit = aval.sharding.update(spec=PartitionSpec(*(None for _ in shape)))
    return aval.update(
        shape=tuple(shape), dtype=dtype, weak_type=False, sharding=unsplit
    )


def sharding_in_type(x: Any) -> NamedSharding | None:
    """How the type of `x` says that it is split; None if it says nothing.

    Only axes of a mesh that are `AxisType.Explicit` are in the type of an array.
    """
    aval = x if isinstance(x, jax.core.ShapedArray) else jax.typeof(x)
    sharding = getattr(aval, "sharding", None)
    if not isinstance(sharding, NamedSharding) or not sharding.mesh.explicit_axes:
        return None
    return sharding


def ways_of_constraints(jaxpr: Any) -> int:
    """In how many parts the `sharding_constraint`s in `jaxpr` split axes behind the
    first: the least common multiple; 1 where they split none."""
    ways = 1
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "sharding_constraint":
            ways = math.lcm(ways, *_later_ways(eqn.params["sharding"]))
        for inner in jaxprs_in_params(eqn.params):
            ways = math.lcm(ways, ways_of_constraints(inner))
    return ways


def _later_ways(sharding: Any) -> list[int]:
    if not isinstance(sharding, NamedSharding):
        return []
    return [
        math.prod(sharding.mesh.shape[name] for name in jax.tree.leaves(axes))
        for axes in tuple(sharding.spec)[1:]
        if axes is not PartitionSpec.UNCONSTRAINED
    ]


def tangent_aval(aval: Any) -> Any:
    """The aval of a tangent of `aval`: float0 for integers and booleans."""
    return aval.to_tangent_aval()


def scan_layout(eqn: JaxprEqn) -> tuple[int, int]:
    """Numbers of constants and of carries of a scan; what follows is scanned over."""
    params = eqn.params
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    # jax 0.12 holds a flat tree of the three groups of operands.
    numbered = params["ft_in"].update(list(range(len(eqn.invars))))
    consts, carry, _ = (list(group) for group in numbered.unpack())
    return len(consts), len(carry)


@dataclasses.dataclass(frozen=True)
class ShardMapLayout:
    """How a shard_map equation splits its operands: `jax.shard_map`'s arguments."""

    mesh: Any
    axis_names: frozenset[Any]
    in_specs: tuple[Any, ...]
    out_specs: tuple[Any, ...]
    check_vma: bool

    @property
    def num_devices(self) -> int:
        """Devices, or groups of these, that run the body."""
        return math.prod(self.mesh.shape[name] for name in self.axis_names)


def shard_map_layout(eqn: JaxprEqn) -> ShardMapLayout:
    params = eqn.params
    return ShardMapLayout(
        mesh=params["mesh"],
        axis_names=frozenset(params["newly_manual_axes"]),
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        check_vma=params["check_vma"],
    )


def varying_axes(aval: Any) -> frozenset[Any]:
    """The mesh axes, within a shard_map, over which arrays of `aval` differ."""
    return frozenset(aval.mat.varying)


def zeros_like_aval(aval: Any) -> Any:
    """Zeros of the type `aval`, with all that it says of devices."""
    return ad_util.zeros_like_aval(aval)


def result_avals(fun: Callable[..., Any], *avals: Any) -> list[Any]:
    """The avals of the leaves that `fun` returns: with all that they say of devices."""
    return list(jax.make_jaxpr(fun)(*avals).out_avals)


def has_effects(eqn: JaxprEqn) -> bool:
    """True where `eqn` does more than its results say (naming a mesh axis is none)."""
    return any(not isinstance(e, NamedAxisEffect) for e in eqn.effects)


def on_gpu_stream(fun: Callable[..., Any], stream: int) -> Callable[..., Any]:
    """`fun` as a call that XLA starts on CUDA stream `stream` and awaits later.

    What `compute_on` says of a stream, without what it says of memory: that is a call
    which XLA does not know in a program for several devices (jax 0.10.2).
    """
    return xla_metadata_call(
        fun, _xla_stream_annotation=str(stream), inlineable="false"
    )


def needs_devices_to_lower(primitive: Primitive) -> None:
    """Has jax tell the devices to the lowering of `primitive`.

    jax looks for custom partitioning in the traced program, not in what primitives
    become when they are lowered.
    """
    dispatch.prim_requires_devices_during_lowering.add(primitive)
