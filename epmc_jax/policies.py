"""Ready-made policies, from no loss at all to a byte budget."""

from __future__ import annotations

from epmc_jax.codecs import GroupQuant
from epmc_jax.policy import Policy, Rule, pack_index, pack_mask

_DECISIONS = (Rule(codec=pack_mask), Rule(codec=pack_index))


def exact() -> Policy:
    """No loss: masks and indices in bits, cheap operations recomputed, floats kept."""
    return Policy(*_DECISIONS)


def precise(*, seed: int = 0) -> Policy:
    """8 bits for floats, exact decisions: gradients within about 2 %."""
    return Policy(*_DECISIONS, *_quantised(GroupQuant(bit_width=8)), seed=seed)


def balanced(*, seed: int = 0) -> Policy:
    """4 bits for floats, exact decisions: the noise is below that of minibatches."""
    codec = GroupQuant(bit_width=4, rounding="stochastic")
    return Policy(*_DECISIONS, *_quantised(codec), seed=seed)


def _quantised(codec: GroupQuant) -> tuple[Rule, ...]:
    return Rule(kind="relu", codec=codec), Rule(kind="dense", codec=codec)
