"""`compress` for nnx: the module is split into arrays, and written back afterwards."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from epmc_jax.policy import Policy
from epmc_jax.transform import compress_function


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
    """A method of an nnx module, compressed. Variables it changes are written back."""

    @functools.wraps(method)
    def compressed(self, *args, **kwargs):
        graph, state = nnx.split(self)
        changed: list[tuple[Any, ...]] = []

        def pure(state, *args, **kwargs):
            module = nnx.merge(graph, state)
            before = _values(nnx.state(module))
            out = method(module, *args, **kwargs)
            graph_after, state_after = nnx.split(module)
            _check_same_graph(graph, graph_after, self)
            after = _values(state_after)
            changed[:] = [path for path in after if after[path] is not before.get(path)]
            return out, [after[path] for path in changed]

        inputs = range(1, 1 + len(args))
        run = compress_function(pure, policy, encode_argnums=inputs)
        out, values = run(state, *args, **kwargs)
        _write_back(self, dict(zip(changed, values, strict=True)))
        return out

    return compressed


def _values(state: Any) -> dict[tuple[Any, ...], Any]:
    return {path: variable.get_value() for path, variable in nnx.to_flat_state(state)}


def _write_back(module: nnx.Module, values: dict[tuple[Any, ...], Any]) -> None:
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        if path in values:
            variable.set_value(values[path])


def _check_same_graph(before: Any, after: Any, module: nnx.Module) -> None:
    if before != after:
        raise ValueError(
            f"{type(module).__name__} makes or removes variables or attributes when it "
            "is called; a compressed call can only change the values of those it has. "
            "Create them in __init__, or compress the parts of the module that do not."
        )
