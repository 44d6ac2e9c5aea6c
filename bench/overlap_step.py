"""Measured on this machine's CPU: what the encoding costs a step, what runs at once."""

import functools
import statistics

import jax
import jax.numpy as jnp
import numpy as np

from bench import demo_training, methods
from bench.measure import interleaved_ms, relative_time
from bench.methods import Method
from epmc_jax.codecs import GroupQuant

COMPARED = (
    methods.PLAIN,
    methods.PRECISE,
    methods.BALANCED,
    methods.UNOPTIMISED,
    methods.UNOPTIMISED_JNP,
)


class _Advancing:
    """A call takes the next step of one training run, always with the same batch."""

    def __init__(self, method: Method, settings: demo_training.Settings):
        self.stepper = demo_training.Stepper(method, settings)
        self.state = demo_training.initial_state(settings, seed=0)
        rng = np.random.default_rng(0)
        shape = (settings.batch, settings.crop, settings.crop, 1)
        self.images = rng.normal(size=shape).astype(np.float32)
        self.labels = rng.integers(0, 10, settings.batch).astype(np.int32)

    def __call__(self) -> jax.Array:
        self.state, value = self.stepper(self.state, self.images, self.labels)
        return value


def relative_steps(settings: demo_training.Settings, rounds: int) -> dict[str, float]:
    """The step of the demo's ResNet-18 in each way, in turns, relative to plain."""
    with jax.default_device(jax.devices("cpu")[0]):
        calls = {m.name: _Advancing(m, settings) for m in COMPARED}
        times = interleaved_ms(calls, rounds=rounds, warm_up=3)
    return relative_time(times, methods.PLAIN.name)


def concurrency(rounds: int) -> dict[str, float]:
    """Milliseconds of an encode, of a matrix product, and of both in one program.

    Neither needs the other. What XLA:CPU runs at once would take less than the sum.
    """
    codec = GroupQuant(bit_width=8)
    x = jnp.ones((64, 1 << 18))
    square = jnp.ones((640, 640))

    def encode(x: jax.Array, square: jax.Array) -> jax.Array:
        del square
        return codec.encode(x).rows

    def multiply(x: jax.Array, square: jax.Array) -> jax.Array:
        del x
        return square @ square

    def both(x: jax.Array, square: jax.Array) -> tuple[jax.Array, jax.Array]:
        return encode(x, square), multiply(x, square)

    with jax.default_device(jax.devices("cpu")[0]):
        calls = {
            fun.__name__: functools.partial(jax.jit(fun), x, square)
            for fun in (encode, multiply, both)
        }
        times = interleaved_ms(calls, rounds=rounds, warm_up=2)
    return {name: statistics.median(found) for name, found in times.items()}
