"""Random numbers: drawn where a layer needs them.

They follow from a key alone: XLA draws those of all layers as soon as the program
starts, and keeps them. On GPUs that is a byte per element of each dropout, more than is
stored of its mask and its array in 4 bits; on CPUs it is eight. So the key of a draw
waits for the layer before it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax

from epmc_jax._ordering import pin
from epmc_jax.passes.exactness import is_cheap, takes_long
from epmc_jax.passes.program import Op, Value, is_float
from epmc_jax.passes.stored import TIED_BYTES, Selection


@dataclasses.dataclass(frozen=True, eq=False)
class LateDraw:
    """`key`, which is not to be used before `after` is there."""

    key: Value
    after: Value

    # All operations run in their places.
    ops: ClassVar[tuple[Op, ...]] = ()

    def run(self, env: dict[Value, Any]) -> None:
        """Replaces the key in `env`."""
        key, after = env[self.key], env[self.after]
        if not jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
            env[self.key] = pin(key, after)
            return
        pinned = pin(jax.random.key_data(key), after)
        env[self.key] = jax.random.wrap_key_data(pinned, impl=jax.random.key_impl(key))


def draws_after_layers(selection: Selection) -> dict[Op, LateDraw]:
    """Operations of the forward pass that make a large array of a key, which no layer
    made, once there is a layer to wait for."""
    found: dict[Op, LateDraw] = {}
    of_layers: set[Value] = set()
    last: Value | None = None
    for op in selection.forward_ops:
        if not of_layers.isdisjoint(op.values) or takes_long(op):
            of_layers.update(op.outputs)
        elif last is not None and not is_cheap(op) and _is_draw(op):
            found[op] = LateDraw(op.values[0], last)
        if takes_long(op):
            floats = [v for v in op.outputs if is_float(v)]
            last = max(floats, key=lambda v: v.nbytes, default=last)
    return found


def _is_draw(op: Op) -> bool:
    made = sum(v.nbytes for v in op.outputs)
    return len(op.values) == 1 and made > TIED_BYTES > op.values[0].nbytes
