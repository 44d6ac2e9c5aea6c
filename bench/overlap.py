"""`python -m bench overlap`: what encodes and decodes hide behind, on an H100.

The gradient is compiled for an H100, which need not be there, and XLA's order of
launch is read: a call is hidden if a convolution, a matrix product or a loop stands
between its start and its end. Nothing is run, so no time is measured.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

import epmc_jax
from bench import deviceless, methods, problems, record
from bench.measure import temp_bytes
from bench.methods import Loss
from bench.problems import Problem
from bench.tables import megabytes, show

HEADER = ("lag", "encodes hidden", "decodes hidden", "XLA temp", "against lag 0")


@dataclasses.dataclass(frozen=True)
class Variant:
    """How far codec calls may be from their layer."""

    lag: int
    prefetch: bool = False

    @property
    def name(self) -> str:
        return f"{self.lag}{', prefetch' * self.prefetch}"


VARIANTS = (Variant(0), Variant(1), Variant(2))
PREFETCHING = Variant(1, prefetch=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument(
        "--problems", nargs="+", default=[*_PROBLEMS], choices=[*_PROBLEMS]
    )
    parser.add_argument("--policy", default="balanced", choices=("balanced", "precise"))
    parser.add_argument("--prefetch", action="store_true", help="decodes are calls too")
    parser.add_argument("--plot", help="a file for the picture of the last schedule")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles each problem with each lag; shows a table and records it."""
    deviceless.require()
    variants = [*VARIANTS, PREFETCHING] if options.prefetch else VARIANTS
    for name in options.problems:
        problem, rows = _PROBLEMS[name](), []
        for variant in variants:
            with console.status(f"{problem.name}: lag {variant.name}"):
                compiled = compile_variant(problem, options.policy, variant)
                schedule = epmc_jax.schedule(compiled)
            rows.append(
                {
                    "problem": problem.name,
                    "policy": options.policy,
                    "lag": variant.name,
                    "temp_bytes": temp_bytes(compiled),
                }
                | count(schedule)
            )
        title = f"{problem.name}, {options.policy}, H100 (compiled, not run)"
        show(console, title, HEADER, _cells(rows))
        console.print(f"recorded in {record.append('overlap', rows)}")
    if options.plot:
        schedule.plot(options.plot)


def compile_variant(
    problem: Problem, policy_name: str, variant: Variant
) -> jax.stages.Compiled:
    """The gradient of `problem` under a ready-made policy with the lag of `variant`."""
    policy = getattr(epmc_jax.policies, policy_name)()
    changed = epmc_jax.Policy(
        *policy.rules, seed=policy.seed, lag=variant.lag, prefetch=variant.prefetch
    )

    def wrap(loss: Loss) -> Loss:
        return epmc_jax.compress(loss, policy=changed)

    loss = problem.loss(methods.Method(variant.name, wrap))
    return deviceless.compile_gradient(loss, problem.avals())


def count(schedule: epmc_jax.Schedule) -> dict[str, Any]:
    """Calls per direction, and how many of them are hidden."""
    found = {}
    for direction in ("encode", "decode"):
        calls = [c for c in schedule.calls if c.direction == direction]
        found[f"{direction}_calls"] = len(calls)
        found[f"{direction}_hidden"] = sum(c.is_hidden for c in calls)
    return found


def _cells(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    first = rows[0]["temp_bytes"]
    return [
        (
            row["lag"],
            _fraction(row, "encode"),
            _fraction(row, "decode"),
            megabytes(row["temp_bytes"]),
            f"{row['temp_bytes'] / first:.2f}",
        )
        for row in rows
    ]


def _fraction(row: dict[str, Any], direction: str) -> str:
    calls, hidden = row[f"{direction}_calls"], row[f"{direction}_hidden"]
    return f"{hidden} of {calls} ({hidden / calls:.0%})" if calls else "no calls: fused"


_PROBLEMS = {
    "resnet50": lambda: problems.resnet50_imagenet(batch=64),
    "vgg16": lambda: problems.vgg16_imagenet(batch=32),
    "gpt": lambda: problems.gpt_small(),
    "gpt-scanned": lambda: problems.gpt_small(is_scanned=True),
    "vit": lambda: problems.vit_small(batch=64),
}
