"""What the users of a plan should know of it."""

from __future__ import annotations

from collections.abc import Sequence

from epmc_jax._codec import short_rows
from epmc_jax._partitioning import typed_sharding
from epmc_jax.codecs import Raw
from epmc_jax.passes.description import Describer
from epmc_jax.passes.program import Program
from epmc_jax.passes.stored import Stored

# What the pass does not look into, and what its users call it.
NOT_ENTERED = {
    "scan": "lax.scan",
    "while": "lax.while_loop",
    "cond": "lax.cond",
    "shard_map": "jax.shard_map",
    "checkpoint": "jax.checkpoint",
    "remat2": "jax.checkpoint",
    "custom_vjp_call": "jax.custom_vjp",
    "pallas_call": "pallas_call",
}


def notes(
    program: Program, describer: Describer, stored: Sequence[Stored], ways: int
) -> list[str]:
    """What the pass did not look into: its arrays are stored exactly; and what it
    cannot split."""
    names = {
        NOT_ENTERED[op.name]
        for op in program.backward
        if op.name in NOT_ENTERED and not any(describer.nested_of(v) for v in op.values)
    }
    found = [
        f"{name} is not entered: what its gradient reads is kept exactly"
        for name in sorted(names)
    ]
    whole = [s for s in stored if ways > 1 and _has_whole_rows(s)]
    if whole:
        sites = ", ".join(dict.fromkeys(s.residual.path for s in whole))
        found.append(
            f"{len(whole)} arrays have rows that XLA cannot split, short ones or those "
            f"of a max-pool ({sites}): where AxisType.Auto splits them along another "
            "axis than the first, they are gathered before they are encoded. With "
            "AxisType.Explicit, or in a shard_map, they are encoded where they are"
        )
    return found


def _has_whole_rows(stored: Stored) -> bool:
    if stored.residual.kind == "pool_index":
        return True
    shape, codec = stored.source.shape, stored.codec
    is_encoded = (
        not isinstance(codec, Raw) and typed_sharding(stored.source.aval) is None
    )
    return is_encoded and len(shape) > 1 and short_rows(shape, codec.ways) is None
