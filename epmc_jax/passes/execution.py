"""Runs the two programs, tied so that the compiler keeps the order that saves memory.

Without ties XLA delays an encode until just before its decode, and the array that
was to be replaced lives on. Three data dependencies pin the order (`pin`): what follows
an encoded array waits for its encode; a decode waits for the cotangent of the layer
that needs it; where a cotangent leaves a layer, the layer's parameter gradients come
first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from epmc_jax import _jax_compat as compat
from epmc_jax._codec import Encoded
from epmc_jax._ordering import barrier, materialized, pin, pin_on_cpu
from epmc_jax._partitioning import on_each_device, typed_sharding
from epmc_jax.codecs import BitMask, Raw, relu_gradient
from epmc_jax.passes.backward_order import (
    gradients_first,
    read_by_several,
    scattered_into_sums,
    values_read_before_residuals,
)
from epmc_jax.passes.blocks import encoded_in_blocks
from epmc_jax.passes.carried import Carried
from epmc_jax.passes.casts import LateCasts, casts_before_layers, repeated_casts
from epmc_jax.passes.crops import Crops, crops_before_layers
from epmc_jax.passes.draws import LateDraw, draws_after_layers
from epmc_jax.passes.encoding import Encoder
from epmc_jax.passes.exactness import is_cheap, is_reduction, takes_long
from epmc_jax.passes.pins import pins_of
from epmc_jax.passes.program import Constant, Op, Value, is_float, read
from epmc_jax.passes.stored import Selection, Stored

# A decoded array serves one layer; the next one decodes the bytes again. Kept over the
# matmul or convolution between them it would add an array to the peak: 24 gelu layers
# on XLA:CPU 5.0 arrays against 3.3, ResNet-50 with 8 bits 485 MB against 433.


class _Zero:
    """Stands for a cotangent that is known to be zero."""


ZERO = _Zero()


def run_forward(selection: Selection, arrays: Sequence[Any]) -> tuple[list, list, list]:
    """Returns the outputs, the stored arrays (encoded) and the kept arguments."""
    program = selection.program
    env: dict[Value, Any] = dict(zip(program.arguments, arrays, strict=True))
    kept = [env[v] for v in selection.kept_arguments]
    encoder = Encoder(selection, env)
    for argument in program.arguments:
        encoder.encode(argument)
    ops = selection.forward_ops
    last = next(filter(takes_long, reversed(ops)), None)
    before: list[Mapping[Op, Crops | LateCasts | LateDraw]] = [
        crops_before_layers(selection),
        casts_before_layers(selection),
        draws_after_layers(selection),
    ]
    moved = {op for by_op in before for m in by_op.values() for op in m.ops}
    for op in ops:
        if op in moved:
            continue
        for by_op in before:
            if op in by_op:
                by_op[op].run(env)
        if not (is_cheap(op) or is_reduction(op)):
            encoder.await_due(op.values)
        outs = op.call(*(read(env, x) for x in op.inputs))
        env.update(zip(op.outputs, outs, strict=True))
        if takes_long(op):
            encoder.layer += 1
        for value in op.outputs:
            encoder.encode(value, op)
        if op is last:
            encoder.await_due(op.outputs)
    outputs = [read(env, x) for x in program.outputs]
    return outputs, [encoder.saved[s] for s in selection.stored], kept


def run_backward(
    selection: Selection,
    saved: Sequence[Any],
    kept: Sequence[Any],
    cotangents: Sequence[Any],
) -> list[Any]:
    """Returns the gradients. `cotangents` may be `ZERO` where they are known to be."""
    return _Backward(selection, saved, kept).run(cotangents)


class _Backward:
    """One run of the backward pass: decodes and recomputes where a layer needs it."""

    def __init__(self, selection: Selection, saved: Sequence[Any], kept: Sequence[Any]):
        self.selection = selection
        self.stored = dict(
            zip((s.value for s in selection.stored), selection.stored, strict=True)
        )
        self.saved = dict(zip(self.stored, saved, strict=True))
        self.at_hand = dict(zip(selection.kept_arguments, kept, strict=True))
        self.pins = pins_of(selection)
        self.repeated_casts = repeated_casts(selection)
        self.in_blocks = encoded_in_blocks(selection)
        self.env: dict[Value, Any] = {}
        self.decoded: dict[Value, Any] = {}
        self.ties: list[Any] = []
        self.untied_gradients: list[Value] = []
        self.moved_gradients: dict[Value, Value] = {}
        self.unpinned_gradients: list[Value] = []
        self.shared = read_by_several(selection)
        self.scattered = scattered_into_sums(selection)
        self.prefetched: dict[Value, tuple[Any, int]] = {}
        self.cotangent_now: list[Any] = []

    def run(self, cotangents: Sequence[Any]) -> list[Any]:
        program = self.selection.program
        self.env.update(zip(program.cotangents, cotangents, strict=True))
        arrays = [ct for ct in cotangents if ct is not ZERO]
        self.ties = sorted(arrays, key=jnp.size)[-1:]
        leads_on = values_read_before_residuals(self.selection)
        ops = gradients_first(program.backward, leads_on, set(program.cotangents))
        self.carried = Carried(self.selection, ops)
        for step, op in enumerate(ops):
            self._run_op(step, op, leads_on)
        return [self._input(g) for g in program.gradients]

    def _run_op(self, step: int, op: Op, leads_on: set[Value]) -> None:
        if all(
            self.env.get(v, ZERO) is ZERO for v in op.values if not self._is_residual(v)
        ):
            self.env.update(dict.fromkeys(op.outputs, ZERO))
            return
        is_scattered = not self.scattered.isdisjoint(op.outputs)
        ends_layer = not (is_cheap(op) or is_reduction(op) or is_scattered)
        leading = [v for v in op.outputs if v in leads_on]
        if ends_layer and leading:
            self._take_gradients_before(step, op)
        self._materialize_cotangents(op)
        if not is_cheap(op):
            self.cotangent_now = [self.env[v] for v in self._largest_cotangent(op)]
        self.env.update(zip(op.outputs, self._call(op), strict=True))
        if is_cheap(op):
            self.carried.computed(op)
        else:
            self.carried.written(op.outputs)
        if is_scattered:
            return
        if is_cheap(op):
            self._follow_gradients(op)
            return
        gradients = [v for v in op.outputs if v not in leads_on]
        self.untied_gradients += gradients
        self.unpinned_gradients += gradients
        if ends_layer and leading:
            self._end_layer(leading[-1])

    def _materialize_cotangents(self, op: Op) -> None:
        """XLA:CPU would compute them for each of their readers, in another array each,
        and keep what they are made of for the last."""
        if is_cheap(op) or is_reduction(op):
            return
        for value in op.values:
            if value in self.shared and self.env[value] is not ZERO:
                self.env[value] = materialized(self.env[value])
                self.shared.discard(value)

    def _follow_gradients(self, op: Op) -> None:
        """A gradient that is moved or cast as it is returned.

        On CPU the result is pinned instead: XLA makes a product in the order that its
        one reader wants, which would else be a copy. Elsewhere it is tied as it was
        made, but for a cast, of which the barrier would have an element without a
        reader, which XLA drops. Tied in another order than the product has made it in,
        it costs encodes under `vmap` their place beside the layers.
        """
        (result,) = op.outputs[:1]
        made = [v for v in op.values if v.size == result.size]
        if not set(made).isdisjoint(self.unpinned_gradients):
            left = [v for v in self.unpinned_gradients if v not in made]
            self.unpinned_gradients = [*left, result]
        origins = [self.moved_gradients.get(v, v) for v in made]
        tied = next((v for v in origins if v in self.untied_gradients), None)
        if tied is None:
            return
        self.moved_gradients[result] = tied
        if op.name == "convert_element_type":
            left = [v for v in self.untied_gradients if v is not tied]
            self.untied_gradients = [*left, result]

    def _call(self, op: Op) -> list[Any]:
        if op.name == "relu_gradient":
            mask, ct = op.values[0], op.inputs[1]
            if mask in self.stored and isinstance(self.stored[mask].codec, BitMask):
                operands = (self.saved[mask], self._input(ct))
                split = typed_sharding(mask.aval)
                results = split and split.spec
                return [on_each_device(relu_gradient, operands, split, results)]
        return op.call(*(self._input(x) for x in op.inputs))

    def _take_gradients_before(self, step: int, op: Op) -> None:
        """`op` leads out of a layer: not on CPU, the layer's gradients come before
        it, and what makes room for it."""
        cotangent = self._largest_cotangent(op)
        carried = [
            v
            for v in self.carried.worth_writing(step, op)
            if self.env[v] is not ZERO and v not in self.untied_gradients
        ]
        if not cotangent or not (self.untied_gradients or carried):
            return
        tied = [*cotangent, *self.untied_gradients, *carried]
        self.env.update(zip(tied, barrier(*(self.env[v] for v in tied)), strict=True))
        self.carried.written(carried)
        self.untied_gradients = []

    def _end_layer(self, leading: Value) -> None:
        """`leading` left a layer: on CPU, the layer's gradients come before its
        readers."""
        gradients = (self.env[v] for v in self.unpinned_gradients)
        self.env[leading] = pin_on_cpu(self.env[leading], *gradients)
        self.unpinned_gradients = []
        self.ties.append(self.env[leading])
        self.decoded.clear()

    def _largest_cotangent(self, op: Op) -> list[Value]:
        """Of those that `op` reads; none, or one."""
        read = [v for v in op.values if not self._is_residual(v)]
        known = [v for v in read if self.env[v] is not ZERO]
        return sorted(known, key=lambda v: v.nbytes)[-1:]

    def _is_residual(self, value: Value) -> bool:
        return (
            value in self.stored
            or value in self.selection.masks
            or value in self.selection.recompute
            or value in self.at_hand
        )

    def _input(self, x: Value | Constant) -> Any:
        if isinstance(x, Constant):
            return x.array
        if self._is_residual(x):
            return self._residual(x)
        array = self.env[x]
        return compat.zeros_like_aval(x.aval) if array is ZERO else array

    def _residual(self, value: Value) -> Any:
        """Decodes or recomputes `value`, or takes what this layer has of it."""
        stack = [value]
        while stack:
            wanted = stack[-1]
            if self._has(wanted):
                stack.pop()
            elif wanted in self.stored:
                self._decode(self.stored[wanted])
            elif wanted in self.selection.masks:
                self._decode_mask(wanted)
            else:
                op = self.selection.recompute[wanted]
                missing = [v for v in op.values if not self._has(v)]
                stack += missing
                if not missing:
                    self._recompute(op)
        return self._take(value)

    def _has(self, value: Value) -> bool:
        return value in self.at_hand or value in self.decoded

    def _take(self, value: Value) -> Any:
        if value in self.at_hand:
            return self.at_hand[value]
        return self.decoded[value]

    def _recompute(self, op: Op) -> None:
        inputs = [
            x.array if isinstance(x, Constant) else self._take(x) for x in op.inputs
        ]
        if not is_cheap(op) and op.values:
            # XLA would find the same operation in the forward pass, keep its result
            # instead of this one, and with it the memory.
            largest = max(range(len(inputs)), key=lambda i: jnp.size(inputs[i]))
            inputs[largest] = pin(inputs[largest], *self.ties[-1:])
        elif (argument := self.repeated_casts.get(op)) is not None:
            place = next(i for i, x in enumerate(op.inputs) if x is argument)
            inputs[place] = barrier(inputs[place], *self.cotangent_now)[0]
        self.decoded.update(zip(op.outputs, op.call(*inputs), strict=True))

    def _decode_mask(self, mask: Value) -> None:
        """`y > 0` from the bytes of `y`, without decoding it."""
        array = self.selection.masks[mask]
        codec = self.stored[array].codec.mask_codec(array.dtype)
        assert codec is not None
        encoded = Encoded(
            self.saved[array], codec, mask.shape, mask.dtype, typed_sharding(mask.aval)
        )
        self.decoded[mask] = codec.decode(encoded, after=self.ties[-1:])

    def _decode(self, stored: Stored) -> None:
        saved, value = self.saved[stored.value], stored.value
        if not isinstance(stored.codec, Raw):
            split, chain = typed_sharding(value.aval), self.in_blocks.get(value)
            shape = chain.shape if chain else value.shape
            encoded = Encoded(saved, stored.codec, shape, value.dtype, split)
            self.decoded[value] = self._decoded(encoded, value).reshape(value.shape)
        elif not is_float(value):
            self.at_hand[value] = saved
        elif value in self.pins.apart:
            self.at_hand[value] = barrier(saved, *self.ties[-1:])[0]
        elif value in self.pins.each_layer:
            self.decoded[value] = pin(saved, *self.ties[-1:])
        else:
            # Alive anyway: one pin, at its first use, serves every layer.
            self.at_hand[value] = pin(saved, *self.ties[-1:])

    def _decoded(self, encoded: Encoded, value: Value) -> Any:
        now, lag = self.ties[-1:], self.selection.lag
        if not self.selection.prefetch:
            return encoded.decode(after=now)
        # Where decodes run beside the layers, the next one would start while this array
        # is in use.
        earlier, layer = self.prefetched.get(value, (None, 0))
        if len(self.ties) - layer > lag:
            earlier = None
        ahead = self.ties[:-lag][-1:] or self.ties[:1]
        array = encoded.codec.decode(encoded, after=now, ahead=ahead, earlier=earlier)
        self.prefetched[value] = array, len(self.ties)
        return array
