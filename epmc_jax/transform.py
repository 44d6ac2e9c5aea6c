"""`compress` for functions: `jax.custom_vjp` around the two planned programs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from epmc_jax import policies
from epmc_jax.passes.regions import PlannedRegion, Region
from epmc_jax.policy import Policy

_MARK = "__epmc_policy__"
# Contexts that the caches of jax.jit know: what was traced outside is traced again.
_enabled = jax.make_user_context(True)
_watchers = jax.make_user_context(())


@contextlib.contextmanager
def disable() -> Iterator[None]:
    """Within this context compressed functions run as they were written.

    For derivatives that an encoded residual cannot give: forward mode (`jax.jvp`,
    `jax.linearize`) and second order (`jax.hessian`). Functions that `jax.jit` has
    traced outside the context are traced again inside.
    """
    with _enabled(False):
        yield


@contextlib.contextmanager
def watch_regions(watcher: Callable[[PlannedRegion], None]) -> Iterator[None]:
    """Calls `watcher` for every region that is planned within this context."""
    with _watchers((*_watchers.value, watcher)):
        yield


def compress_function(
    fun: Callable[..., Any],
    policy: Policy | None = None,
    encode_argnums: Sequence[int] = (),
) -> Callable[..., Any]:
    """`fun` with the same values, whose gradient stores its residuals encoded.

    Arguments and results are pytrees; leaves that are not arrays are static.
    `encode_argnums`: positions of the arguments that are encoded where the backward
    pass needs them; all others are kept as they are (parameters are alive anyway).
    """
    policy = policies.precise() if policy is None else policy
    encode_argnums = tuple(encode_argnums)

    @functools.wraps(fun)
    def compressed(*args, **kwargs):
        if not _enabled.value:
            return fun(*args, **kwargs)
        leaves, rebuild = split_arrays((args, kwargs))
        encoded = _encoded_leaves(args, encode_argnums, len(leaves))
        return _call_region(fun, policy, leaves, rebuild, encoded)

    setattr(compressed, _MARK, policy)
    return compressed


def is_compressed(fun: Callable[..., Any]) -> bool:
    """True for functions that `compress` returned."""
    return hasattr(fun, _MARK)


def split_arrays(tree: Any) -> tuple[list[Any], Callable[[Sequence[Any]], Any]]:
    """The arrays among the leaves of `tree`, and the function that puts them back."""
    leaves, structure = jax.tree.flatten(tree)
    is_array = [_is_array(leaf) for leaf in leaves]
    static = [None if a else leaf for leaf, a in zip(leaves, is_array, strict=True)]

    def rebuild(arrays: Sequence[Any]) -> Any:
        given = iter(arrays)
        merged = [
            next(given) if a else s for s, a in zip(static, is_array, strict=True)
        ]
        return jax.tree.unflatten(structure, merged)

    return [leaf for leaf, a in zip(leaves, is_array, strict=True) if a], rebuild


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic)) or hasattr(
        leaf, "__jax_array__"
    )


def _encoded_leaves(
    args: Sequence[Any], argnums: Sequence[int], count: int
) -> list[bool]:
    """For each array leaf of the call, whether its argument is to be encoded."""
    for argnum in argnums:
        if not 0 <= argnum < len(args):
            raise ValueError(
                f"encode_argnums has {argnum}, but the call has {len(args)} positional "
                "arguments: give positions from 0, and pass these arguments by "
                "position."
            )
    encoded = [
        position in argnums
        for position, arg in enumerate(args)
        for leaf in jax.tree.leaves(arg)
        if _is_array(leaf)
    ]
    return encoded + [False] * (count - len(encoded))


def _call_region(
    fun: Callable[..., Any],
    policy: Policy,
    leaves: Sequence[Any],
    rebuild: Callable[[Sequence[Any]], Any],
    encoded: Sequence[bool],
) -> Any:
    """Traces `fun` on `leaves` and calls it as one `custom_vjp` region."""
    rebuild_output: list[Callable[[Sequence[Any]], Any]] = []

    def flat(*arrays):
        args, kwargs = rebuild(arrays)
        out_leaves, back = split_arrays(fun(*args, **kwargs))
        rebuild_output[:] = [back]
        return out_leaves

    closed = jax.make_jaxpr(flat)(*leaves)
    # What `fun` closes over may be traced by an outer transformation: it becomes an
    # argument, so that no tracer is hidden from custom_vjp.
    is_encoded = [False] * len(closed.consts) + list(encoded)
    region = Region(closed.jaxpr, policy, is_encoded, _tell_watchers)
    outputs = region(*closed.consts, *leaves)
    return rebuild_output[0](outputs)


def _tell_watchers(region: PlannedRegion) -> None:
    for watcher in _watchers.value:
        watcher(region)
