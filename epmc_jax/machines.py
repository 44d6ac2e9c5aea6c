"""What a machine does in a second, and how long a kernel takes on it: an estimate.

A kernel takes as long as the resource that it needs longest: memory, matrix units, or
the issue of instructions. Two kernels at once share each resource (`slowdown`).
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What a kernel needs.

    `nbytes`: read and written. `flops`: of matrix products, an addition and a
    multiplication each, of operands of `dtype`. `instructions`: of all threads.
    """

    nbytes: float = 0
    flops: float = 0
    dtype: str = "float32"
    instructions: float = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            nbytes=self.nbytes + other.nbytes,
            flops=self.flops + other.flops,
            dtype=self.dtype if self.flops >= other.flops else other.dtype,
            instructions=self.instructions + other.instructions,
        )

    def times(self, number: float) -> Cost:
        """Of `number` such kernels."""
        return dataclasses.replace(
            self,
            nbytes=number * self.nbytes,
            flops=number * self.flops,
            instructions=number * self.instructions,
        )


# Per element of the dense array, of the dearest variant that `python -m bench cuda`
# counts; what is not here takes as many as its bytes allow.
_KERNEL_INSTRUCTIONS = {
    "epmc_bit_mask_encode": 11,
    "epmc_bit_mask_decode": 3,
    "epmc_group_quant_encode": 36,
    "epmc_group_quant_decode": 37,
    "epmc_narrow_encode": 48,
    "epmc_narrow_decode": 42,
    "epmc_sparse_fixed_rate_encode": 80,
    "epmc_sparse_fixed_rate_decode": 66,
    "epmc_sparse_fixed_rate_mask": 9,
}


def kernel_instructions(target: str, elements: int) -> int:
    """Instructions of a codec's kernel for `elements` of the dense array."""
    return elements * _KERNEL_INSTRUCTIONS.get(target, 0)


@dataclasses.dataclass(frozen=True)
class Load:
    """A kernel on a machine: seconds alone, and the share of each resource it takes
    meanwhile."""

    seconds: float = 0
    shares: tuple[float, ...] = (0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Rates, all per second.

    `bytes_per_s`: to and from memory. `flops_per_s`: of matrix products by the dtype
    of their operands; others run as float32. `efficiency`: the share of `flops_per_s`
    that products reach. `instructions_per_s`: of all threads. `launch_s`: seconds that
    each kernel takes besides. `overlaps`: whether codecs run beside the layers.
    """

    name: str
    bytes_per_s: float
    flops_per_s: Mapping[str, float]
    efficiency: float
    instructions_per_s: float
    launch_s: float = 0
    overlaps: bool = True

    def load(self, cost: Cost) -> Load:
        """How `cost` loads this machine."""
        rate = self.flops_per_s.get(cost.dtype, self.flops_per_s["float32"])
        parts = (
            cost.nbytes / self.bytes_per_s,
            cost.flops / (rate * self.efficiency),
            cost.instructions / self.instructions_per_s,
        )
        seconds = self.launch_s + max(parts)
        return Load(seconds, tuple(p / seconds if seconds else 0 for p in parts))

    def seconds(self, cost: Cost) -> float:
        """Seconds of a kernel that runs alone."""
        return self.load(cost).seconds


def slowdown(*loads: Load) -> float:
    """By what kernels that run at once take longer than alone; at least 1.

    All slow down alike until no resource is asked for more than there is of it: where
    one takes 0.4 of the memory's rate alone and another all of it, both take 1.4 times
    as long. What they need of a resource together is never done faster than in turn.
    """
    return max(1, *map(sum, zip(*(load.shares for load in loads), strict=True)))


# Data sheets of the SXM modules, without sparsity. float32 is TF32: XLA's default for
# products. The efficiency is of large products in libraries; a higher one leaves less
# to hide behind.
H100 = Machine(
    name="H100",
    bytes_per_s=3.35e12,
    flops_per_s={"bfloat16": 989e12, "float16": 989e12, "float32": 495e12},
    efficiency=0.7,
    # 132 multiprocessors, 128 lanes, 1.755 GHz.
    instructions_per_s=29.6e12,
    launch_s=2e-6,
)
A100 = Machine(
    name="A100",
    bytes_per_s=2.04e12,
    flops_per_s={"bfloat16": 312e12, "float16": 312e12, "float32": 156e12},
    efficiency=0.7,
    # 108 multiprocessors, 64 lanes, 1.41 GHz.
    instructions_per_s=9.7e12,
    launch_s=2e-6,
)


def this_cpu() -> Machine:
    """This machine's CPU, measured with a copy and a matrix product: a second."""
    cpu = jax.devices("cpu")[0]
    with jax.default_device(cpu):
        x = jnp.zeros(1 << 24, jnp.float32)
        square = jnp.ones((1024, 1024), jnp.float32)
        copied = 2 * x.nbytes / _fastest(jax.jit(lambda x: x + 1), x)
        product = jax.jit(lambda x: x @ x)
        multiplied = 2 * square.shape[0] ** 3 / _fastest(product, square)
    return Machine(
        name="this CPU",
        bytes_per_s=copied,
        flops_per_s={"float32": multiplied},
        efficiency=1,
        # The kernels there are not those whose instructions are counted: they are
        # about as fast as a copy (docs/codecs.md).
        instructions_per_s=math.inf,
        overlaps=False,
    )


def _fastest(fun: Callable[[jax.Array], jax.Array], x: jax.Array) -> float:
    """Seconds of the fastest of some calls."""
    fun(x).block_until_ready()
    best, end = math.inf, time.perf_counter() + 0.3
    while (start := time.perf_counter()) < end:
        fun(x).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return best
