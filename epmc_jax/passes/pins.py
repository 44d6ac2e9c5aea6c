"""How arrays that are stored as they are come back: pinned, or as they are.

What is recomputed from such an array would be merged with the same operation of the
forward pass, and its result kept. A pin keeps the two apart. It costs, too: on the CPU
it wants its operand in one layout, and in a copy where the operand has other readers
that are not known to come before. So there is one where it is needed, and no other.
Temp bytes of gradients that store nothing with an error (XLA:CPU, jax 0.10.2, `python
-m bench models`): a small ResNet 0.62 of plain, masked attention 0.87, mixtures of
experts 1.00; with a pin for each layer that reads an array they were 1.00, 1.10 and
1.13. ResNet-50 takes more so: 950 MB, not 934 (`python -m bench memory`).
"""

from __future__ import annotations

import dataclasses

from epmc_jax.codecs import Raw
from epmc_jax.passes.program import Value, is_float
from epmc_jax.passes.stored import Selection

# A small array is pinned in each layer anew, so that what is made of it (a mean,
# broadcast to the size of its layer) is not shared between layers either: ResNet-50,
# 4 bits, 430 MB without, 385 MB with. Small is what copies of it do not add up to a
# layer's arrays.
_SMALL_BYTES = 2**18
_SMALL_SHARE = 1 / 16


@dataclasses.dataclass(frozen=True, eq=False)
class Pins:
    """The floats that a selection stores as they are: each is in one of these.

    `each_layer`: pinned in each layer that reads it. `once`: at its first use.
    `apart`: not repeated in the forward pass, and needs no pin on the CPU.
    """

    each_layer: set[Value]
    once: set[Value]
    apart: set[Value]


def pins_of(selection: Selection) -> Pins:
    """Sorts what `selection` stores as it is."""
    stored = selection.stored
    raw = [s.value for s in stored if isinstance(s.codec, Raw) and is_float(s.value)]
    largest = max((s.value.nbytes for s in stored), default=0)
    small_bytes = min(_SMALL_BYTES, largest * _SMALL_SHARE)
    read = {v for op in selection.recompute.values() for v in op.values}
    read_in_both = {v for op in selection.repeated_ops for v in op.values}
    each_layer = {v for v in raw if v.nbytes <= small_bytes and v in read}
    once = {v for v in raw if v in read_in_both} - each_layer
    return Pins(each_layer, once, set(raw) - each_layer - once)
