"""What the residuals of a network would take in CSR, counted from its own numbers.

A policy whose codec counts nonzeros stores what `balanced` stores, in one forward pass.
An element that is kept in CSR takes a float32 and an int32, a row one int32 more.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import epmc_jax
from bench import methods
from bench.problems import Problem
from bench.without_kernels import JnpGroupQuant

ELEMENT_BYTES = 8
ROW_BYTES = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountingQuant(JnpGroupQuant):
    """Notes the elements, nonzeros and rows that `GroupQuant` is given; all bytes are
    zero, for what they decode to is not wanted."""

    found: Any = dataclasses.field(default=None, compare=False)

    def decode_reference(
        self, rows: jax.Array, shape: tuple[int, ...], dtype: Any
    ) -> jax.Array:
        del rows
        return jnp.zeros(shape, dtype)

    def encode_reference(self, x: jax.Array) -> jax.Array:
        rows = x.shape[0] if x.ndim > 1 else 1

        def note(nonzeros: np.ndarray) -> None:
            self.found.append((x.size, int(nonzeros), rows))

        jax.debug.callback(note, jnp.count_nonzero(x))
        return jnp.zeros(self.encoded_shape(x.shape, x.dtype), jnp.uint8)


def residual_bytes(problem: Problem, *, seed: int = 0) -> dict[str, int]:
    """`csr_bytes`: all stored floats in CSR. `sparse_bytes`: each in CSR or as it is,
    whichever is less. `stored_bytes`: what `balanced` stores, masks and pool indices
    included, which CSR is spared here."""
    found: list[tuple[int, int, int]] = []
    policy = methods.with_floats(
        epmc_jax.policies.balanced(), CountingQuant, found=found
    )
    loss = problem.loss(methods.compressed("counting", policy))
    args = problem.arguments(seed)

    @jax.jit
    def forward(params, *rest):
        return jax.vjp(lambda params: loss(params, *rest), params, has_aux=True)[1]

    jax.block_until_ready(jax.tree.leaves(forward(*args)))
    jax.effects_barrier()
    plan = epmc_jax.plan(problem.loss(methods.PLAIN), *args, policy=policy)
    csr = [ELEMENT_BYTES * nonzeros + ROW_BYTES * (n + 1) for _, nonzeros, n in found]
    dense = [4 * size for size, _, _ in found]
    return {
        "csr_bytes": sum(csr),
        "sparse_bytes": sum(map(min, csr, dense)),
        "stored_bytes": plan.stored_bytes,
    }
