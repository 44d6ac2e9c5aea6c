"""Memory and time of one gradient, measured in the same way for every method."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.extend

from bench.methods import Loss


def gradient(loss: Loss) -> Callable[..., Any]:
    """`(params, state, *batch) -> ((value, new_state), gradient)`."""
    return jax.value_and_grad(loss, has_aux=True)


def compile_gradient(loss: Loss, args: tuple[Any, ...]) -> jax.stages.Compiled:
    """The gradient of `loss`, compiled for the default device."""
    return jax.jit(gradient(loss)).lower(*args).compile()


def temp_bytes(compiled: jax.stages.Compiled) -> int:
    """XLA's figure for the memory that a program needs besides arguments and results.

    Not `peak_memory_in_bytes`: it is wrong on the CPU.
    """
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise RuntimeError(f"{jax.default_backend()} gives no memory analysis.")
    return analysis.temp_size_in_bytes


def program_bytes(compiled: jax.stages.Compiled) -> dict[str, int]:
    """XLA's figures: temp, and what a program needs of the device altogether."""
    temp = temp_bytes(compiled)
    analysis: Any = compiled.memory_analysis()
    arguments, outputs = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    return {
        "temp_bytes": temp,
        "device_bytes": arguments + outputs + temp - analysis.alias_size_in_bytes,
    }


def saved_bytes(loss: Loss, args: tuple[Any, ...]) -> int:
    """Bytes that the forward pass hands to the backward pass, as JAX lists them.

    Arguments are not counted: they are alive anyway. What XLA then keeps can be less,
    because it recomputes cheap residuals by itself: see `temp_bytes`.
    """

    def pull_back(*args):
        return jax.vjp(lambda params: loss(params, *args[1:]), args[0], has_aux=True)[1]

    closed = jax.make_jaxpr(pull_back)(*args)
    arguments = set(closed.jaxpr.invars)
    residuals = {
        var
        for var in closed.jaxpr.outvars
        if not isinstance(var, jax.extend.core.Literal) and var not in arguments
    }
    avals: list[Any] = [var.aval for var in residuals]
    return sum(math.prod(a.shape) * a.dtype.itemsize for a in avals)


def interleaved_ms(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Times of each call, in turns, so that what slows the machine slows all alike.

    Each call must return what it computed, so that it can be waited for.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(warm_up + rounds):
        # The order rotates: who comes after whom must not matter.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            jax.block_until_ready(calls[name]())
            if turn >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def relative_time(times: Mapping[str, list[float]], reference: str) -> dict[str, float]:
    """Median of the ratio, round by round, of each call to the reference."""
    base = times[reference]
    return {
        name: statistics.median(t / b for t, b in zip(found, base, strict=True))
        for name, found in times.items()
    }
