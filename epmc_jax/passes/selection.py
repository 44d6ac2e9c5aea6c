"""Chooses what is stored, with which codec, and what is recomputed from it."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Collection, Iterable, Sequence

from epmc_jax import _jax_compat as compat
from epmc_jax._codec import AbstractCodec
from epmc_jax._partitioning import typed_sharding
from epmc_jax.codecs import BitMask, Raw
from epmc_jax.passes import exactness
from epmc_jax.passes.chains import ends_of_chains
from epmc_jax.passes.cut import minimum_cut
from epmc_jax.passes.description import Describer
from epmc_jax.passes.exactness import REORDERING
from epmc_jax.passes.masks import masked_array, masks_told_by
from epmc_jax.passes.notes import NOT_ENTERED, notes
from epmc_jax.passes.program import (
    Op,
    Program,
    Value,
    is_discrete,
    is_float,
    producers,
)
from epmc_jax.passes.stored import MOST_PADDING, Selection, Stored, encoded_nbytes
from epmc_jax.policy import Policy, Residual

# One more stored array costs a launch and an entry in the schedule, whatever its size.
_BYTES_PER_RESIDUAL = 64
# Of two arrays with equal encoded size the one with fewer dense bytes is decoded
# faster: bf16 before its f32 copy.
_DENSE_SHARE = 1 / 1024


class _Selector:
    """The graph from the arguments to what the backward pass reads."""

    def __init__(
        self,
        program: Program,
        policy: Policy,
        encoded_arguments: set[Value],
        ways: int,
    ):
        self.program = program
        self.ways = ways
        self.policy = policy
        self.encoded_arguments = encoded_arguments
        self.made_by = producers(program.forward)
        self.free = self._free_values()
        self.must_be_exact = exactness.exact_inputs(program)
        self.lossless_only = exactness.lossless_only(program)
        self.chain_ends = self._chain_ends()
        self.describer = Describer(program, encoded_arguments)
        self.codecs: dict[Value, tuple[AbstractCodec, Residual, str]] = {}

    def _free_values(self) -> set[Value]:
        """What follows from the arguments that the caller keeps alive anyway."""
        free = set(self.program.arguments) - self.encoded_arguments
        if self.policy.recompute == "none":
            free_op = lambda op: not op.values and exactness.is_cheap(op)  # noqa: E731
        else:
            free_op = lambda op: self.may_repeat(op) and free.issuperset(op.values)  # noqa: E731
        for op in self.program.forward:
            if free_op(op):
                free.update(op.outputs)
        return free

    def _chain_ends(self) -> set[Op]:
        if self.policy.recompute != "cheap":
            return set()
        return ends_of_chains(self.program, self.free)

    def may_repeat(self, op: Op) -> bool:
        recompute = self.policy.recompute
        if op.has_effects or recompute == "none":
            return False
        if recompute == "cheap":
            return exactness.is_cheap(op)
        return op.equation is None or not compat.is_saveable(recompute, op.equation)

    def targets(self) -> list[Value]:
        """What operations that need a cotangent read, and constant gradients."""
        known = set(self.program.arguments).union(self.made_by)
        read = [v for op in self.program.backward for v in op.values if v in known]
        read += [
            g for g in self.program.gradients if isinstance(g, Value) and g in known
        ]
        return [v for v in dict.fromkeys(read) if v not in self.free]

    def codec(self, value: Value) -> tuple[AbstractCodec, Residual, str]:
        if value not in self.codecs:
            self.codecs[value] = self._choose_codec(value)
        return self.codecs[value]

    def _choose_codec(self, value: Value) -> tuple[AbstractCodec, Residual, str]:
        residual = self.describer.describe(value)
        if (nested := self.describer.nested_of(value)) is not None:
            return Raw(), residual, nested.reason
        if residual.kind == "pool_index":
            return Raw(), residual, "where the maxima are"
        if not (is_discrete(value) or is_float(value)):
            return Raw(), residual, f"{value.dtype} is kept as it is"
        if value.nbytes < self.policy.min_bytes:
            return Raw(), residual, "smaller than min_bytes"
        codec = self.policy.codec_for(residual)
        if isinstance(codec, Raw):
            return codec, residual, "no rule encodes it"
        is_split = typed_sharding(value.aval) is not None
        ways = 1 if is_split else math.lcm(codec.ways, self.ways)
        codec = dataclasses.replace(codec, ways=ways)
        if encoded_nbytes(codec, value) >= value.nbytes:
            return Raw(), residual, f"{type(codec).__name__} would not make it smaller"
        if not codec.exact and value in self.must_be_exact:
            return Raw(), residual, f"read exactly by {self._exact_reader(value)}"
        if not codec.exact and value in self.lossless_only:
            return Raw(), residual, "a denominator or logarithm, or holds a large fill"
        site = (
            f"{self.policy.seed}:{residual.path}:{residual.primitive}:{residual.shape}"
        )
        codec = codec.for_site(zlib.crc32(site.encode()))
        return codec, residual, "in the cheapest cut"

    def _exact_reader(self, value: Value) -> str:
        reads = (op for op in self.program.backward if value in op.values)
        name = next(op.name for op in reads if not exactness.is_continuous(op))
        return NOT_ENTERED.get(name, name)

    def cost(self, value: Value) -> float:
        codec, _, _ = self.codec(value)
        nbytes = value.nbytes
        if not isinstance(codec, Raw):
            nbytes = encoded_nbytes(codec, value)
        return nbytes + _BYTES_PER_RESIDUAL + value.nbytes * _DENSE_SHARE

    def tells_mask(self, value: Value) -> bool:
        """True where the encoded bytes of `value`, a ReLU's output, give its mask."""
        if value not in self.describer.relu:
            return False
        return self.codec(value)[0].mask_codec(value.dtype) is not None


def select(
    program: Program, policy: Policy, encoded_arguments: set[Value], ways: int = 1
) -> Selection:
    """Chooses the stored set for `program`, rewritten by the rules before.

    `ways`: in how many parts XLA may split an array along an axis behind the first.
    """
    selector = _Selector(program, policy, encoded_arguments, ways)
    targets = selector.targets()
    nodes, edges, sources = _graph(selector, targets)
    if callable(policy.recompute):
        chosen = sources
    else:
        chosen = minimum_cut(_costs(selector, nodes, sources), edges, sources, targets)
    return _finish(selector, targets, chosen)


def _costs(
    selector: _Selector, nodes: Iterable[Value], sources: Collection[Value]
) -> dict[Value, float]:
    """The price of storing each value; less for one that makes a mask needless.

    A mask that cannot be recomputed is needed in any case, so what it costs is saved
    where the array that tells it is stored.
    """
    costs = {v: selector.cost(v) for v in nodes}
    told_by = masks_told_by(
        filter(selector.tells_mask, nodes), sources, selector.made_by
    )
    for mask, array in told_by.items():
        costs[array] -= costs[mask]
    return costs


def _graph(selector: _Selector, targets: Sequence[Value]):
    """Nodes, edges and sources of the graph in which the cut is looked for."""
    nodes: dict[Value, None] = {}
    edges: list[tuple[Value, Value]] = []
    sources: set[Value] = set()
    stack = list(targets)
    while stack:
        value = stack.pop()
        if value in nodes:
            continue
        nodes[value] = None
        op = selector.made_by.get(value)
        if op is None or _is_not_recomputed(selector, op, value):
            sources.add(value)
            continue
        needed = [v for v in op.values if v not in selector.free]
        edges += [(v, value) for v in needed]
        stack += needed
    return nodes, edges, sources


def _is_not_recomputed(selector: _Selector, op: Op, value: Value) -> bool:
    """True where `op` is dear, or decides by floats that come back with an error."""
    if not selector.may_repeat(op) or op in selector.chain_ends:
        return True
    if not exactness.is_decision(op) and value not in selector.must_be_exact:
        return False
    floats = [v for v in op.values if is_float(v) and v not in selector.free]
    return not _lossless_ancestry(selector, floats)


def _lossless_ancestry(selector: _Selector, values: Sequence[Value]) -> bool:
    """True where all that `values` could be recomputed from would be stored exactly."""
    seen: set[Value] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value in seen or value in selector.free:
            continue
        seen.add(value)
        if not selector.codec(value)[0].exact:
            return False
        op = selector.made_by.get(value)
        if op is not None and selector.may_repeat(op):
            stack += op.values
    return True


def _before_moves(selector: _Selector, value: Value) -> Value:
    """The array whose elements `value` has in another order; else `value`.

    As it was made, an array is in memory; in another order XLA may have it inside
    its consumers alone, and a call needs a copy of its own.
    """
    source = value
    while (op := selector.made_by.get(source)) is not None and op.name in REORDERING:
        if (
            not (is_float(source) and selector.may_repeat(op))
            or op in selector.chain_ends
        ):
            break
        source = op.values[0]
    if source in selector.free or source is value:
        return value
    codecs = [selector.codec(v)[0] for v in (source, value)]
    is_alike = type(codecs[0]) is type(codecs[1])
    sizes = [
        c.encoded_nbytes(v.shape, v.dtype)
        for c, v in zip(codecs, (source, value), strict=True)
    ]
    return source if is_alike and sizes[0] <= MOST_PADDING * sizes[1] else value


def _finish(
    selector: _Selector, targets: Sequence[Value], chosen: set[Value]
) -> Selection:
    """Keeps what the targets really need, and notes how the rest is recomputed."""
    chosen = {_before_moves(selector, value) for value in chosen}
    told_by = masks_told_by(
        filter(selector.tells_mask, chosen), chosen, selector.made_by
    )
    masks: dict[Value, Value] = {}
    recompute: dict[Value, Op] = {}
    arguments: set[Value] = set()
    used: set[Value] = set()
    reads = {v for op in selector.program.backward for v in op.values}
    reads.update(g for g in selector.program.gradients if isinstance(g, Value))
    stack = [*targets, *(v for v in reads if v in selector.free)]
    seen: set[Value] = set()
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in told_by:
            masks[value] = told_by[value]
            used.add(told_by[value])
        elif value in chosen:
            used.add(value)
        elif value in selector.made_by:
            op = selector.made_by[value]
            recompute.update(dict.fromkeys(op.outputs, op))
            stack += op.values
        else:
            arguments.add(value)
    order = [*selector.program.arguments, *selector.made_by]
    stored = [_stored(selector, v) for v in order if v in used]
    return Selection(
        program=selector.program,
        stored=stored,
        kept_arguments=[v for v in order if v in arguments],
        recompute={v: op for v, op in recompute.items() if v not in used},
        masks=masks,
        notes=notes(selector.program, selector.describer, stored, selector.ways),
        lag=selector.policy.lag,
        prefetch=selector.policy.prefetch,
    )


def _stored(selector: _Selector, value: Value) -> Stored:
    codec, residual, reason = selector.codec(value)
    source = value
    if isinstance(codec, BitMask):
        source = _mask_source(selector, value)
    nested = selector.describer.nested_of(value)
    return Stored(value, source, codec, residual, reason, nested)


def _mask_source(selector: _Selector, mask: Value) -> Value:
    """`y` where the mask is `y > 0` of an array that is written to memory anyway."""
    array = masked_array(mask, selector.made_by)
    readers = (op for op in selector.program.forward if array in op.values)
    written = any(not exactness.is_cheap(reader) for reader in readers)
    return array if array is not None and written else mask
