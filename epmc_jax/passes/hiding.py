"""Behind which layer each encode hides on a machine, and how much of it: an estimate.

What an encode may run beside are the `lag` layers after its own. It hides as far as
these leave of the machine what it needs: a large convolution leaves memory idle, a
small matrix product does not, nor does an elementwise kernel, which does not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from epmc_jax import _kernels
from epmc_jax.codecs import Raw
from epmc_jax.machines import Load, Machine, slowdown
from epmc_jax.passes.costs import encode_cost, op_cost
from epmc_jax.passes.description import site
from epmc_jax.passes.exactness import takes_long
from epmc_jax.passes.program import Value
from epmc_jax.passes.stored import Selection, Stored


@dataclasses.dataclass(frozen=True)
class Hiding:
    """Seconds of one encode that the step does not feel, and that it does; `beside`:
    the site of the layer that hides most of it, if one does."""

    beside: str | None = None
    hidden_s: float = 0.0
    exposed_s: float = 0.0

    def times(self, number: int) -> Hiding:
        """Of all iterations of a loop."""
        return Hiding(self.beside, number * self.hidden_s, number * self.exposed_s)


@dataclasses.dataclass
class _Layer:
    """An operation that takes long; `left_s`: for how long nothing runs beside it."""

    site: str
    load: Load
    left_s: float


def hiding(selection: Selection, machine: Machine) -> dict[Stored, Hiding]:
    """By stored residual, each encode by itself in the order of the forward pass."""
    layers, layer_of = _layers(selection, machine)
    bodies: dict[Selection, dict[Stored, Hiding]] = {}
    found = {}
    for stored in selection.stored:
        nested = stored.nested
        if nested is not None and nested.origin is not None:
            origin = nested.origin
            if origin.selection not in bodies:
                bodies[origin.selection] = hiding(origin.selection, machine)
            found[stored] = bodies[origin.selection][origin.stored].times(origin.times)
        elif isinstance(stored.codec, Raw):
            found[stored] = Hiding()
        else:
            first = layer_of.get(stored.source, 0)
            after = layers[first : first + selection.lag]
            found[stored] = _hide(stored, after, machine)
    return found


def _layers(
    selection: Selection, machine: Machine
) -> tuple[list[_Layer], dict[Value, int]]:
    """The layers of the forward pass; of each value, how many of them it waits for."""
    layers: list[_Layer] = []
    layer_of: dict[Value, int] = {}
    for op in selection.forward_ops:
        if takes_long(op):
            load = machine.load(op_cost(op))
            layers.append(_Layer(site(op), load, load.seconds))
        layer_of.update(dict.fromkeys(op.outputs, len(layers)))
    return layers, layer_of


def _hide(stored: Stored, layers: Sequence[_Layer], machine: Machine) -> Hiding:
    source = stored.source
    if machine.overlaps and stored.codec.encode_fuses:
        # Memory limits the kernel that makes the array; only the bytes are added.
        return Hiding(exposed_s=stored.encoded_bytes / machine.bytes_per_s)
    encode = machine.load(encode_cost(stored.codec, source.shape, source.dtype))
    kernel = stored.codec.encode_kernel(source.dtype)
    if not (machine.overlaps and kernel and _kernels.is_for_cuda(kernel.target)):
        return Hiding(exposed_s=encode.seconds)
    left, hidden, most, beside = encode.seconds, 0.0, 0.0, None
    for layer in layers:
        part = min(left, layer.left_s)
        layer.left_s -= part
        left -= part
        # Both take longer by this: what the layer loses is exposed.
        gained = part * (2 - slowdown(layer.load, encode))
        hidden += gained
        if gained > most:
            most, beside = gained, layer.site
    return Hiding(beside, hidden, encode.seconds - hidden)
