"""`compress` for linen: a lifted transformation, as `nn.remat` is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from flax.core import lift

from epmc_jax.policy import Policy
from epmc_jax.transform import compress_function

_VARIABLES_AND_KEYS = 2


def compress_class(module: type[nn.Module], policy: Policy | None) -> type[nn.Module]:
    """`module` with its `__call__` compressed; parameters, names and init as before."""
    made = nn.transforms.lift_transform(_lifted, module, policy=policy)
    # Flax names submodules after their class: another name would move the parameters.
    made.__name__, made.__qualname__ = module.__name__, module.__qualname__
    made.__module__, made.__doc__ = module.__module__, module.__doc__
    return made


def compress_method(
    method: Callable[..., Any], policy: Policy | None
) -> Callable[..., Any]:
    """A method of a linen module, compressed; use above `@nn.compact`."""
    return nn.transforms.lift_transform(_lifted, method, policy=policy)


def _lifted(fun: Callable[..., Any], policy: Policy | None) -> Callable[..., Any]:
    """Compresses `fun(scope, *args)`; variables and keys are kept, inputs encoded."""

    def inner(scope_fn, repack_fn, variable_groups, rng_groups, *args, **kwargs):
        def pure(variable_groups, rng_groups, *args, **kwargs):
            scope = scope_fn(variable_groups, rng_groups)
            return fun(scope, *args, **kwargs), repack_fn(scope)

        inputs = range(_VARIABLES_AND_KEYS, _VARIABLES_AND_KEYS + len(args))
        compressed = compress_function(pure, policy, encode_argnums=inputs)
        return compressed(variable_groups, rng_groups, *args, **kwargs)

    return lift.pack(
        inner, (True,), (True,), (True,), name="compress", enable_kwargs=True
    )
