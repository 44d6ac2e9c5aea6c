"""Minimum vertex cut: the cheapest set of values from which the rest follows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

from epmc_jax.passes.program import Value

# scipy's flow is int32 and overflows silently: costs are scaled to stay below. No flow
# is larger than what all sources cost, or all targets.
_INFINITE = 2**30
_LARGEST_FLOW = 2**29


def minimum_cut(
    costs: Mapping[Value, float],
    edges: Iterable[tuple[Value, Value]],
    sources: Collection[Value],
    targets: Collection[Value],
) -> set[Value]:
    """Chooses the values to store so that every target can be recomputed.

    `costs`: price of storing each value of the graph, in bytes. `edges`: `(a, b)`
    where `b` is recomputed from `a` and its other predecessors. `sources`: values that
    cannot be recomputed. `targets`: values that must be available. Among the cuts of
    least cost, the one nearest to the targets: least is recomputed.
    """
    if not targets:
        return set()
    nodes = list(costs)
    index = {value: i for i, value in enumerate(nodes)}
    price = np.array([costs[v] for v in nodes], dtype=np.float64)
    most = min(sum(costs[v] for v in ends) for ends in (sources, targets))
    scale = min(1.0, _LARGEST_FLOW / max(1.0, most))
    capacity = np.clip(np.round(price * scale), 1, _INFINITE).astype(np.int32)

    # Node i is split in two: 2 i takes what comes in, 2 i + 1 gives it on.
    count = len(nodes)
    source, sink = 2 * count, 2 * count + 1
    rows = [2 * np.arange(count)]
    columns = [2 * np.arange(count) + 1]
    for tails, heads in (
        _columns([(2 * index[a] + 1, 2 * index[b]) for a, b in edges]),
        _columns([(source, 2 * index[v]) for v in sources]),
        _columns([(2 * index[v] + 1, sink) for v in targets]),
    ):
        rows.append(tails)
        columns.append(heads)
    links = sum(len(r) for r in rows[1:])
    weights = np.concatenate([capacity, np.full(links, _INFINITE, np.int32)])
    shape = (2 * count + 2, 2 * count + 2)
    graph = csr_array((weights, (np.concatenate(rows), np.concatenate(columns))), shape)
    graph.data = np.minimum(graph.data, _INFINITE).astype(np.int32)

    flow = maximum_flow(graph, source, sink).flow
    # Infinite links never saturate; int64 keeps capacity - flow from wrapping.
    residual = graph.astype(np.int64) - flow.astype(np.int64)
    residual.data = (residual.data > 0).astype(np.int8)
    residual.eliminate_zeros()
    reversed_residual = csr_array(residual.T)
    order = breadth_first_order(reversed_residual, sink, return_predecessors=False)
    reaches_sink = np.zeros(2 * count + 2, bool)
    reaches_sink[order] = True
    return {
        v
        for i, v in enumerate(nodes)
        if reaches_sink[2 * i + 1] and not reaches_sink[2 * i]
    }


def _columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
