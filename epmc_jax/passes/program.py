"""The joint program: forward and backward pass of a function as one operation list."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from epmc_jax import _jax_compat as compat


class Value:
    """One array of the program; compared by identity."""

    __slots__ = ("aval",)

    def __init__(self, aval: Any):
        self.aval = aval

    @property
    def shape(self) -> tuple[int, ...]:
        return self.aval.shape

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    @property
    def size(self) -> int:
        return int(np.prod(self.aval.shape))

    @property
    def nbytes(self) -> int:
        return self.size * itemsize(self.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An array or scalar that the trace holds itself."""

    array: Any


@dataclasses.dataclass(eq=False)
class Op:
    """One operation: `call(*inputs)` returns the list of its outputs.

    `equation`: of the jaxpr, where the operation comes from there; `made_for`: the
    operation that a rule made it for, else. `path`: its named scopes.
    """

    name: str
    inputs: list[Value | Constant]
    outputs: list[Value]
    params: dict[str, Any]
    call: Callable[..., list[Any]]
    path: str = ""
    has_effects: bool = False
    equation: Any = None
    made_for: Op | None = None

    @property
    def line(self) -> str:
        """The line of the user's code that made it."""
        if self.equation is None:
            return self.made_for.line if self.made_for else "unknown"
        return compat.source_line(self.equation)

    @property
    def values(self) -> list[Value]:
        """The inputs that are not constants."""
        return [v for v in self.inputs if isinstance(v, Value)]


@dataclasses.dataclass(frozen=True)
class NestedOrigin:
    """Where a nested residual is stored: the `Selection` of the body, what that calls
    it, and how often the body runs."""

    selection: Any
    stored: Any
    times: int = 1


@dataclasses.dataclass(frozen=True)
class NestedResidual:
    """A residual that the body of a loop or a branch stores.

    `residual`, `codec`, `reason`: as for those of the program itself; shape and bytes
    are those of all iterations of a loop. `origin`: where it comes from.
    """

    residual: Any
    codec: Any
    reason: str
    dense_bytes: int
    encoded_bytes: int
    origin: NestedOrigin | None = None


@dataclasses.dataclass
class NestedResiduals:
    """The entered loops and branches of a program.

    `by_name`: what they store, by the name with which the array is tagged that leaves
    them. `plain_bytes`: what JAX alone would keep.
    """

    by_name: dict[str, NestedResidual] = dataclasses.field(default_factory=dict)
    plain_bytes: int = 0

    def add(self, residual: NestedResidual) -> str:
        """Takes note of `residual`; returns the name to tag its array with."""
        name = f"epmc/{len(self.by_name)}"
        self.by_name[name] = residual
        return name


@dataclasses.dataclass(eq=False)
class Program:
    """`outputs` and `gradients` from `arguments` and `cotangents`.

    Operations are in an order in which each comes after what it needs. `backward`
    holds those that depend on a cotangent; they are linear in the cotangents.
    """

    arguments: list[Value]
    cotangents: list[Value]
    forward: list[Op]
    backward: list[Op]
    outputs: list[Value | Constant]
    gradients: list[Value | Constant]
    nested: NestedResiduals = dataclasses.field(default_factory=NestedResiduals)


def itemsize(dtype: Any) -> int:
    """Bytes of one element; typed PRNG keys count as their data (2 x uint32)."""
    if jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 8
    return np.dtype(dtype).itemsize


def is_float(value: Value) -> bool:
    """True for real floating-point arrays (complex arrays are kept as they are)."""
    return jax.dtypes.issubdtype(value.dtype, np.floating)


def is_discrete(value: Value) -> bool:
    """True for booleans and integers: always exact."""
    return value.dtype == np.bool_ or jax.dtypes.issubdtype(value.dtype, np.integer)


def residual_bytes(program: Program) -> int:
    """Bytes of what the backward pass reads of the forward pass, arguments left out."""
    tagged = program.nested.by_name
    made = {
        out
        for op in program.forward
        for out in op.outputs
        if op.name != "name" or op.params["name"] not in tagged
    }
    read = {v for op in program.backward for v in op.values}
    return sum(v.nbytes for v in read & made) + program.nested.plain_bytes


def producers(ops: Iterable[Op]) -> dict[Value, Op]:
    return {out: op for op in ops for out in op.outputs}


def read(env: Mapping[Value, Any], x: Value | Constant) -> Any:
    """The array of an operation's input `x`."""
    return x.array if isinstance(x, Constant) else env[x]


def live_ops(ops: Sequence[Op], wanted: Iterable[Value | Constant]) -> list[Op]:
    """The operations that `wanted` depends on, and those with side effects."""
    needed = {v for v in wanted if isinstance(v, Value)}
    kept = []
    for op in reversed(ops):
        if op.has_effects or any(out in needed for out in op.outputs):
            kept.append(op)
            needed.update(op.values)
    return kept[::-1]


def trace(
    jaxpr: Any,
    wrt: Sequence[int],
    evaluate: Callable[[Any, Sequence[Any]], Sequence[Any]],
) -> Program:
    """Traces `jaxpr` and its VJP with respect to the arguments `wrt` together.

    The constants of `jaxpr` are its leading arguments: `evaluate(jaxpr, arguments)`
    gives its outputs. Integer outputs have no cotangent.
    """
    avals = [v.aval for v in (*jaxpr.constvars, *jaxpr.invars)]
    ct_avals = [compat.cotangent_aval(v.aval) for v in jaxpr.outvars]
    has_ct = [aval.dtype != jax.dtypes.float0 for aval in ct_avals]

    def joint(*args):
        def of_wrt(*differentiated):
            full = list(args[: len(avals)])
            for i, x in zip(wrt, differentiated, strict=True):
                full[i] = x
            return list(evaluate(jaxpr, full))

        outs, vjp = jax.vjp(of_wrt, *[args[i] for i in wrt])
        given = iter(args[len(avals) :])
        cts = [
            next(given) if real else np.zeros(aval.shape, jax.dtypes.float0)
            for aval, real in zip(ct_avals, has_ct, strict=True)
        ]
        return *outs, *vjp(cts)

    real_ct_avals = [a for a, real in zip(ct_avals, has_ct, strict=True) if real]
    closed = compat.trace_to_jaxpr(joint, [*avals, *real_ct_avals])
    return _split(closed, len(avals), len(ct_avals))


def _split(closed: Any, num_arguments: int, num_outputs: int) -> Program:
    """Sorts the operations of the joint trace by whether they need a cotangent."""
    body, consts = closed.jaxpr, closed.consts
    inputs = [Value(v.aval) for v in body.invars]
    ops: list[Op] = []
    results = _inline(body, [Constant(c) for c in consts], inputs, ops)
    cotangents = inputs[num_arguments:]
    depends = set(cotangents)
    forward, backward = [], []
    for op in live_ops(ops, results):
        if depends.isdisjoint(op.values):
            forward.append(op)
        else:
            depends.update(op.outputs)
            backward.append(op)
    return Program(
        arguments=inputs[:num_arguments],
        cotangents=cotangents,
        forward=forward,
        backward=backward,
        outputs=results[:num_outputs],
        gradients=results[num_outputs:],
    )


def _inline(
    jaxpr: Any,
    consts: Sequence[Value | Constant],
    inputs: Sequence[Value | Constant],
    ops: list[Op],
    scope: str = "",
) -> list[Value | Constant]:
    """Appends the operations of `jaxpr` to `ops`, entering calls; returns its
    outputs."""
    env: dict[Any, Value | Constant] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Value | Constant:
        return Constant(atom.val) if isinstance(atom, compat.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        args = [read(a) for a in eqn.invars]
        path = "/".join(filter(None, (scope, compat.name_stack(eqn))))
        if eqn.primitive.name in compat.INLINED_CALLS:
            sub, sub_consts = compat.called_jaxpr(eqn)
            held = [Constant(c) for c in sub_consts]
            outs = _inline(sub, held, args, ops, path)
        else:
            made = [Value(v.aval) for v in eqn.outvars]
            ops.append(_op(eqn, args, made, path))
            outs = [*made]
        env.update(zip(eqn.outvars, outs, strict=True))
    return [read(a) for a in jaxpr.outvars]


def _op(eqn: Any, inputs: list, outputs: list[Value], path: str) -> Op:
    def call(*arrays):
        with compat.equation_context(eqn, path):
            return compat.bind_equation(eqn, arrays)

    return Op(
        name=eqn.primitive.name,
        inputs=inputs,
        outputs=outputs,
        params=eqn.params,
        call=call,
        path=path,
        has_effects=compat.has_effects(eqn),
        equation=eqn,
    )
