"""`compress`: one name for functions and for Flax modules."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

from epmc_jax.policy import Policy, check_policy
from epmc_jax.transform import compress_function


def compress(
    target: Any = None,
    *,
    policy: Policy | None = None,
    encode_argnums: int | Sequence[int] = (),
) -> Any:
    """Stores what the gradient of `target` needs from its forward pass encoded.

    `target`: a function; a linen class or method (above `@nn.compact`); an nnx class,
    method or instance. Values are unchanged; gradients carry the error of the codecs
    that `policy` chooses (default: `policies.precise()`, 8 bits, exact decisions).
    `encode_argnums`: for functions, positions of arguments to encode too; inputs of
    a module are, its parameters, statistics and keys never. Usable as a decorator,
    with or without arguments.

    Raises: `TypeError` for what cannot be compressed, and for linen instances.
    `SecondOrderError` when a second derivative passes an encoded residual.
    Source: Chen et al., EPMC, 2022, doi:10.1007/s00521-021-06433-5.
    """
    if target is None:
        return functools.partial(compress, policy=policy, encode_argnums=encode_argnums)
    check_policy(policy)
    if isinstance(encode_argnums, int):
        encode_argnums = (encode_argnums,)
    made = _compress_flax(target, policy)
    if made is None:
        _check_function(target)
        return _compress_function(target, policy, encode_argnums)
    if encode_argnums:
        raise ValueError(
            f"encode_argnums={tuple(encode_argnums)} is for functions: of a module, "
            "the inputs of the call are encoded and everything else is kept. Leave "
            "it out."
        )
    return made


def _compress_function(
    fun: Callable[..., Any], policy: Policy | None, encode_argnums: Sequence[int]
) -> Callable[..., Any]:
    """A function, which may be called with nnx modules if Flax is in use by then."""
    of_arrays = compress_function(fun, policy, encode_argnums)

    @functools.wraps(of_arrays)
    def compressed(*args, **kwargs):
        if "flax" in sys.modules:
            from epmc_jax.flax import nnx

            if nnx.has_modules(args, kwargs):
                return nnx.call_with_modules(fun, policy, encode_argnums, args, kwargs)
        return of_arrays(*args, **kwargs)

    return compressed


def _check_function(target: Any) -> None:
    if inspect.isclass(target) or not callable(target):
        raise TypeError(
            "compress takes a function, a Flax module class or a method, got "
            f"{target!r}: give what is called, for example the loss function."
        )


def _compress_flax(target: Any, policy: Policy | None) -> Any:
    """`target` compressed if it belongs to Flax, else None; does not import Flax."""
    if "flax" not in sys.modules:
        return None
    import flax.linen
    import flax.nnx

    from epmc_jax.flax import linen, nnx

    if inspect.isclass(target) and issubclass(target, flax.linen.Module):
        return linen.compress_class(target, policy)
    if inspect.isclass(target) and issubclass(target, flax.nnx.Module):
        return nnx.compress_class(target, policy)
    if isinstance(target, flax.linen.Module):
        name = type(target).__name__
        raise TypeError(
            f"compress takes a linen class or method, not an instance of {name}: write "
            f"compress({name})(...) where the module is made."
        )
    if isinstance(target, flax.nnx.Module):
        return nnx.compress_instance(target, policy)
    if _is_method_in_class_body(target):
        return _method(target, policy)
    return None


def _is_method_in_class_body(target: Any) -> bool:
    if inspect.isclass(target) or not callable(target) or inspect.ismethod(target):
        return False
    parameters = list(inspect.signature(target).parameters)
    return bool(parameters) and parameters[0] == "self"


def _method(method: Callable[..., Any], policy: Policy | None) -> Callable[..., Any]:
    """Decorates in a class body: which Flax API it is shows when it is called."""
    import flax.linen

    from epmc_jax.flax import linen, nnx

    of_linen = linen.compress_method(method, policy)
    of_nnx = nnx.compress_method(method, policy)

    @functools.wraps(method)
    def compressed(self, *args, **kwargs):
        chosen = of_linen if isinstance(self, flax.linen.Module) else of_nnx
        return chosen(self, *args, **kwargs)

    return compressed
