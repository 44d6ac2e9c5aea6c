"""The cut is the cheapest there is: compared with trying every subset."""

import itertools

import jax
import numpy as np
import pytest

from epmc_jax.passes.cut import minimum_cut
from epmc_jax.passes.program import Value


def _values(count):
    return [Value(jax.core.ShapedArray((i + 1,), np.float32)) for i in range(count)]


def _is_cut(chosen, edges, sources, targets):
    """True where no target is reached from a source without passing `chosen`."""
    reached = [s for s in sources if s not in chosen]
    for value in reached:
        new = [b for a, b in edges if a is value and b not in chosen]
        reached += [b for b in new if b not in reached]
    return not set(reached) & set(targets)


def _cheapest(costs, edges, sources, targets):
    subsets = itertools.chain.from_iterable(
        itertools.combinations(costs, n) for n in range(len(costs) + 1)
    )
    return min(
        sum(costs[v] for v in subset)
        for subset in subsets
        if _is_cut(set(subset), edges, sources, targets)
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_cut_is_the_cheapest(seed):
    rng = np.random.default_rng(seed)
    values = _values(8)
    costs = {v: int(rng.integers(1, 100)) for v in values}
    edges = [
        (values[i], values[j])
        for i in range(8)
        for j in range(i + 1, 8)
        if rng.random() < 0.35
    ]
    sources, targets = set(values[:2]), values[6:]
    chosen = minimum_cut(costs, edges, sources, targets)
    assert _is_cut(chosen, edges, sources, targets)
    best = _cheapest(costs, edges, sources, targets)
    assert sum(costs[v] for v in chosen) == best


def test_of_equal_cuts_the_one_nearest_to_the_targets_is_taken():
    a, b, c = _values(3)
    costs = dict.fromkeys((a, b, c), 5)
    assert minimum_cut(costs, [(a, b), (b, c)], {a}, [c]) == {c}


def test_costs_beyond_int32_are_compared_rightly():
    a, b, c = _values(3)
    costs = {a: 40e9, b: 39e9, c: 41e9}
    assert minimum_cut(costs, [(a, b), (b, c)], {a}, [c]) == {b}


def test_nothing_is_stored_for_no_target():
    assert minimum_cut({}, [], set(), []) == set()


def test_small_differences_count_beside_large_arrays():
    """A launch is 64 bytes, and thousands of arrays are hundreds of gigabytes."""
    whole, *parts = _values(4)
    others = _values(3000)
    costs = {whole: 21_000_064, **dict.fromkeys(parts, 7_000_064)}
    costs.update(dict.fromkeys(others, 2e8))
    edges = [(whole, part) for part in parts]
    edges += [(others[0], other) for other in others[1:]]
    chosen = minimum_cut(costs, edges, {whole, others[0]}, parts)
    assert chosen == {whole}
