"""`python -m bench fidelity`: gradient error at initialisation, and decisions changed.

The network is VGG16 with BatchNorm and max-pools, batch 16 at 32x32, cross-entropy.
Changed decisions are counted from outside, by the gradient with respect to zeros that
are added before each ReLU, or before each max-pool: where the gradient is zero is
decided by the masks and the pool indices alone.
"""

import argparse
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console

from bench import methods, problems, record
from bench.methods import Loss, Method
from bench.problems import Problem
from bench.tables import show

HEADER = ("method", "gradient error", "mask flips", "pool-index changes")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32, help="height and width")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", help="default: the policies")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compares each policy's gradient with the plain one; shows and records it."""
    problem = problems.vgg16_small(batch=options.batch, size=options.size)
    policies = (methods.PLAIN, methods.EXACT, methods.PRECISE, methods.BALANCED)
    chosen = methods.select(options.methods, policies)[1:]
    with console.status(problem.name):
        rows = measure(problem, chosen, seed=options.seed)
    cells = [
        (
            row["method"],
            f"{100 * row['gradient_error']:.2g} %",
            str(row["mask_flips"]),
            str(row["index_changes"]),
        )
        for row in rows
    ]
    show(console, f"{problem.name}, at initialisation", HEADER, cells)
    console.print(f"recorded in {record.append('fidelity', rows)}")


def measure(
    problem: Problem, chosen: list[Method], *, seed: int
) -> list[dict[str, Any]]:
    """One row per method: relative error of the gradient, decisions changed."""
    args = problem.arguments(seed)
    reference = gradient(problem.loss(methods.PLAIN), args)
    rows = [
        {
            "problem": problem.name,
            "method": method.name,
            "gradient_error": relative_error(
                gradient(problem.loss(method), args), reference
            ),
        }
        for method in chosen
    ]
    for name, tap in (("mask_flips", "before_relu"), ("index_changes", "before_pool")):
        zeros = zero_pattern(problem, methods.PLAIN, tap, args)
        for row, method in zip(rows, chosen, strict=True):
            found = zero_pattern(problem, method, tap, args)
            row[name] = sum(
                int(np.sum(a != b)) for a, b in zip(zeros, found, strict=True)
            )
    return rows


def gradient(loss: Loss, args: tuple[Any, ...]) -> Any:
    """The gradient with respect to the first argument."""
    return jax.jit(jax.grad(loss, has_aux=True))(*args)[0]


def relative_error(tree: Any, reference: Any) -> float:
    """`|tree - reference| / |reference|` in the 2-norm over all leaves together."""
    difference = jax.tree.map(jnp.subtract, tree, reference)
    return float(_norm(difference) / _norm(reference))


def zero_pattern(
    problem: Problem, method: Method, tap: str, args: tuple[Any, ...]
) -> list[np.ndarray]:
    """Where the gradient is exactly zero, at each place where the network calls `tap`.

    `problem` is VGG16: the tap adds zeros, and the gradient is with respect to them.
    """
    params, state, images, labels = args

    def logits(add, params, state, images):
        model = problem.rebuild(params, state, methods.PLAIN)
        return model(images, **{tap: add})

    def tapped(probes, params, state, images, labels):
        rest = iter(probes)
        found = logits(lambda x: x + next(rest), params, state, images)
        entropy = optax.softmax_cross_entropy_with_integer_labels(found, labels)
        return jnp.mean(entropy), None

    shapes: list[tuple[int, ...]] = []

    def note(x):
        shapes.append(x.shape)
        return x

    jax.eval_shape(functools.partial(logits, note), params, state, images)
    probes = [jnp.zeros(shape) for shape in shapes]
    pull_back = jax.jit(jax.grad(method.wrap(tapped), has_aux=True))
    # A sum may cancel to zero by chance, but not at the same place for other labels;
    # the decisions, being the forward pass's, are the same for all labels.
    patterns = [
        [
            np.asarray(x) == 0
            for x in pull_back(probes, params, state, images, shifted)[0]
        ]
        for shifted in (labels, (labels + 1) % 10)
    ]
    return [first & second for first, second in zip(*patterns, strict=True)]


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree)))
