"""Encodes what is stored as it appears, and ties what follows to the bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from epmc_jax._block_coding import encode_made
from epmc_jax._lagging import materialized_for, pin_encoded
from epmc_jax._ordering import barrier, materialized
from epmc_jax.codecs import Raw
from epmc_jax.passes.blocks import encoded_in_blocks
from epmc_jax.passes.exactness import is_cheap
from epmc_jax.passes.pins import pins_of
from epmc_jax.passes.program import Op, Value, is_float
from epmc_jax.passes.stored import Selection, Stored


@dataclasses.dataclass(frozen=True)
class _Lagging:
    """An encode that is not waited for before the end of `layer`."""

    stored: Stored
    target: str
    layer: int


class Encoder:
    """Encodes values as they appear, and ties what follows to the encoded bytes.

    What encodes between the layers is waited for at once, what encodes beside them
    `lag` layers later. Which of the two a codec does depends on the platform: the
    program has the ties of both, and each platform takes its own (`pin_encoded`).
    What XLA computes inside the kernel that makes the array is made there.
    """

    def __init__(self, selection: Selection, env: dict[Value, Any]):
        self.env = env
        self.lag = selection.lag
        self.prefetch = selection.prefetch
        self.layer = 0
        self.made_in: dict[Value, int] = {}
        self.saved: dict[Stored, Any] = {}
        self.untied: list[tuple[Any, str | None]] = []
        self.lagging: list[_Lagging] = []
        self.pinned_later = pins_of(selection).once
        self.read = {v for op in selection.forward_ops for v in op.values}
        self.in_blocks = encoded_in_blocks(selection)
        self.by_source: dict[Value, list[Stored]] = {}
        for stored in selection.stored:
            self.by_source.setdefault(stored.source, []).append(stored)

    def encode(self, value: Value, op: Op | None = None) -> None:
        """Encodes what is stored of `value`, which `op` made; None: an argument."""
        self.made_in[value] = self.layer
        to_store = self.by_source.get(value, ())
        if value in self.in_blocks:
            self._encode_in_blocks(*to_store)
            return
        carries = op is not None and not is_cheap(op)
        encodes = any(not isinstance(s.codec, Raw) for s in to_store)
        array = self.env[value]
        if not carries and (encodes or value in self.pinned_later):
            array = materialized(array)
        fused = [s for s in to_store if s.codec.encode_fuses]
        beside = [s for s in to_store if s not in fused]
        for stored in fused:
            array = self._encode_fused(stored, array)
        # With its bits it is written anyway.
        if not (fused and value in self.read):
            for target in filter(None, map(self._target, beside)):
                array = materialized_for(array, target)
        for stored in beside:
            self.saved[stored] = self._encoded(stored, array)
        if is_float(value) and (carries or encodes):
            array, *_ = pin_encoded(array, self.untied, lags=False)
            self.untied = []
        # Every later reader takes the pinned array, so that it is the last reader of
        # the one before and shares its memory.
        self.env[value] = array

    def _encode_fused(self, stored: Stored, array: Any) -> Any:
        """Returns `array`, where there are barriers made at once with its bytes.

        What only the encoder reads is never in memory there.
        """
        rows = stored.codec.encode(array, lags=True).rows
        kernel = stored.codec.encode_kernel(stored.source.dtype)
        is_read = stored.source in self.read
        if is_read:
            array, rows = barrier(array, rows)
        self.saved[stored] = rows
        # With the target of a kernel they are not awaited once more on GPUs.
        self.untied.append((rows, kernel.target if kernel and is_read else None))
        return array

    def _encode_in_blocks(self, stored: Stored) -> None:
        """Nothing reads the array as a whole, so nothing is tied to it."""
        chain = self.in_blocks[stored.source]
        operands = (chain.rows_of(v, self.env[v]) for v in chain.inputs)
        self.saved[stored] = encode_made(chain, *operands, codec=stored.codec)
        self.untied.append((self.saved[stored], None))

    def _target(self, stored: Stored) -> str | None:
        """The kernel that may encode `stored` beside the layers."""
        dtype = stored.source.dtype
        kernel = stored.codec.encode_kernel(dtype) if self.lag else None
        return kernel.target if kernel else None

    def _encoded(self, stored: Stored, array: Any) -> Any:
        if isinstance(stored.codec, Raw):
            return array
        rows = stored.codec.encode(array, lags=self.lag > 0).rows
        target = self._target(stored)
        self.untied.append((rows, target))
        if target:
            self.lagging.append(_Lagging(stored, target, self.layer + self.lag))
        return rows

    def await_due(self, read: Sequence[Value]) -> None:
        """What has a kernel of its own, and reads `read`, waits for encodes due by now.

        Not what leaves the layer before: XLA adds a bias in the kernel of a product,
        where no barrier is between. Nor a layer that reads nothing new, as a shortcut
        does: it runs at any time.
        """
        due = [late for late in self.lagging if late.layer <= self.layer]
        new = [v for v in read if is_float(v) and self.made_in.get(v) == self.layer]
        if not (due and new):
            return
        self.lagging = [late for late in self.lagging if late not in due]
        largest = max(new, key=lambda v: v.nbytes)
        encoded = [(self.saved[late.stored], late.target) for late in due]
        self.env[largest], *rows = pin_encoded(self.env[largest], encoded, lags=True)
        for late, pinned in zip(due, rows, strict=True):
            # A decode beside the layers starts late if only it reads what is behind
            # the barrier (`materialized_for`): it takes the bytes as they are.
            if late.stored.codec.keeps_decision or not self.prefetch:
                self.saved[late.stored] = pinned
