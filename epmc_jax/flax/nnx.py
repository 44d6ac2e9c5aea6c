"""`compress` for nnx: modules are split into arrays, and written back afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import nnx

from epmc_jax.policy import Policy
from epmc_jax.transform import compress_function

_NODES = (nnx.Pytree, nnx.Variable)


def compress_class(module: type[nnx.Module], policy: Policy | None) -> type[nnx.Module]:
    """A subclass of `module` whose `__call__` is compressed; all else is inherited."""
    names = {"__module__": module.__module__, "__qualname__": module.__qualname__}
    call = compress_method(module.__call__, policy)
    make: Any = type(module)
    return make(module.__name__, (module,), {**names, "__call__": call})


def compress_instance(module: nnx.Module, policy: Policy | None) -> Callable[..., Any]:
    """The call of `module`, compressed: `compress(block)(x)`."""
    return compress_method(type(module).__call__, policy).__get__(module)


def compress_method(
    method: Callable[..., Any], policy: Policy | None
) -> Callable[..., Any]:
    """A method of an nnx module, compressed; the arrays of its call are encoded."""

    @functools.wraps(method)
    def compressed(self, *args, **kwargs):
        inputs = range(1, 1 + len(args))
        return call_with_modules(method, policy, inputs, (self, *args), kwargs)

    return compressed


def has_modules(args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """True where a call is given modules, random streams or variables."""
    return any(map(_is_node, jax.tree.leaves((args, kwargs), is_leaf=_is_node)))


def _is_node(x: Any) -> bool:
    return isinstance(x, _NODES)


def call_with_modules(
    fun: Callable[..., Any],
    policy: Policy | None,
    encode_argnums: Sequence[int],
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    """Calls `fun` compressed, with nnx objects as arrays, and writes changes back.

    Their arrays are kept, as parameters are; those of `encode_argnums` are encoded.
    """
    leaves, structure = jax.tree.flatten((args, kwargs), is_leaf=_is_node)
    is_node = [_is_node(leaf) for leaf in leaves]
    nodes = tuple(leaf for leaf in leaves if _is_node(leaf))
    others = [None if n else leaf for leaf, n in zip(leaves, is_node, strict=True)]
    is_encoded = _leaves_of(args, encode_argnums, len(leaves))
    graph, state = nnx.split(nodes)
    changed: list[tuple[Any, ...]] = []

    def pure(state, encoded, kept):
        copies = nnx.merge(graph, state)
        before = _values(nnx.state(copies))
        at = iter(copies)
        given = [
            next(at) if n else e if e is not None else k
            for n, e, k in zip(is_node, encoded, kept, strict=True)
        ]
        copied_args, copied_kwargs = jax.tree.unflatten(structure, given)
        out = fun(*copied_args, **copied_kwargs)
        graph_after, state_after = nnx.split(copies)
        _check_same_graph(graph, graph_after, nodes)
        after = _values(state_after)
        changed[:] = [path for path in after if after[path] is not before.get(path)]
        return out, [after[path] for path in changed]

    encoded = [x if e else None for x, e in zip(others, is_encoded, strict=True)]
    kept = [None if e else x for x, e in zip(others, is_encoded, strict=True)]
    run = compress_function(pure, policy, encode_argnums=(1,))
    out, values = run(state, encoded, kept)
    _write_back(nodes, dict(zip(changed, values, strict=True)))
    return out


def _leaves_of(args: Sequence[Any], argnums: Sequence[int], count: int) -> list[bool]:
    """For each leaf of the call, whether it is of an argument that is to be encoded."""
    of = [
        position in argnums
        for position, arg in enumerate(args)
        for _ in jax.tree.leaves(arg, is_leaf=_is_node)
    ]
    return of + [False] * (count - len(of))


def _values(state: Any) -> dict[tuple[Any, ...], Any]:
    return {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _write_back(nodes: Any, values: dict[tuple[Any, ...], Any]) -> None:
    for path, variable in nnx.to_flat_state(nnx.state(nodes)):
        if path in values:
            variable.set_value(values[path])


def _check_same_graph(before: Any, after: Any, nodes: Sequence[Any]) -> None:
    if before != after:
        names = ", ".join(type(node).__name__ for node in nodes)
        raise ValueError(
            f"{names} makes or removes variables or attributes when called; a "
            "compressed call can only change the values of those it has. Create them "
            "in __init__, or compress the parts of the module that do not."
        )
