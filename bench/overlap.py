"""`python -m bench overlap`: what encodes and decodes hide behind, on an H100.

The gradient is compiled for an H100, which need not be there, and XLA's order of
launch is read: a call is hidden if a convolution, a matrix product or a loop stands
between its start and its end. Times of the H100 are simulated in that order
(`epmc_jax.machines`), none is measured. Steps on this machine's CPU are measured.
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

import epmc_jax
from bench import (
    demo_training,
    deviceless,
    methods,
    overlap_bars,
    overlap_problems,
    overlap_step,
    record,
    unoptimised,
)
from bench.measure import temp_bytes
from bench.methods import Method
from bench.problems import Problem
from bench.summaries import Bar
from bench.tables import show
from epmc_jax import machines

# Milliseconds are simulated.
HEADER = ("way", "encodes hidden", "decodes", "temp MB", "step ms", "codecs", "exposed")
STEP_HEADER = ("way", "step / plain")
# The cheapest that a ReLU's output allows; more would cost the scheme more time.
UNOPTIMISED = Method(
    methods.UNOPTIMISED.name, functools.partial(unoptimised.encode_all, capacity=0.5)
)


@dataclasses.dataclass(frozen=True)
class Variant:
    """How far codec calls may be from their layer."""

    lag: int
    prefetch: bool = False

    @property
    def name(self) -> str:
        return f"lag {self.lag}{', prefetch' * self.prefetch}"

    def method(self, policy_name: str) -> Method:
        """A ready-made policy with this lag."""
        policy = getattr(epmc_jax.policies, policy_name)()
        lagging = methods.changed(policy, lag=self.lag, prefetch=self.prefetch)
        return methods.compressed(self.name, lagging)


VARIANTS = (Variant(0), Variant(1), Variant(2))
PREFETCHING = Variant(1, prefetch=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    names = [*overlap_problems.IN_BFLOAT16]
    parser.add_argument("--problems", nargs="*", default=names, choices=names)
    parser.add_argument("--policy", default="balanced", choices=("balanced", "precise"))
    parser.add_argument("--float32", action="store_true", help="and smaller batches")
    parser.add_argument("--prefetch", action="store_true", help="decodes are calls too")
    parser.add_argument(
        "--rounds", type=int, default=20, help="steps on the CPU; 0: none"
    )
    parser.add_argument("--plot", help="a file for the picture of the last schedule")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles each problem in each way, simulates, measures; judges and records.

    Raises: `SystemExit` if memory grows by more than it may.
    """
    bars = []
    if options.problems:
        deviceless.require()
    for name in options.problems:
        bars += overlap_bars.of_problem(_problem(name, options, console))
    if options.rounds:
        bars += _steps(options, console)
    overlap_bars.report(console, bars)


def _problem(
    name: str, options: argparse.Namespace, console: Console
) -> list[dict[str, Any]]:
    found = overlap_problems
    makers = found.IN_FLOAT32 if options.float32 else found.IN_BFLOAT16
    problem, rows = makers[name](), []
    variants = [*VARIANTS, PREFETCHING] if options.prefetch else VARIANTS
    ours = [variant.method(options.policy) for variant in variants]
    for method in (methods.PLAIN, UNOPTIMISED, *ours):
        with console.status(f"{_name(problem)}: {method.name}"):
            compiled = compile_method(problem, method)
            schedule = epmc_jax.schedule(compiled)
        if options.plot and method.name == "lag 1":
            schedule.plot(options.plot)
        rows.append(
            {"problem": _name(problem), "policy": options.policy, "way": method.name}
            | {"temp_bytes": temp_bytes(compiled)}
            | count(schedule, lag=_lag(variants, method))
            | simulated(schedule)
        )
    title = f"{_name(problem)}, {options.policy}, H100 (compiled, not run)"
    show(console, title, HEADER, _cells(rows))
    console.print(f"recorded in {record.append('overlap', rows)}")
    return rows


def _name(problem: Problem) -> str:
    """With the dtype that it is computed in."""
    return f"{problem.name}, {jnp.dtype(problem.dtype).name}"


def _lag(variants: Sequence[Variant], method: Method) -> int:
    return next((v.lag for v in variants if v.name == method.name), 0)


def compile_method(problem: Problem, method: Method) -> jax.stages.Compiled:
    """The gradient of `problem` in a method's way, for an H100."""
    return deviceless.compile_gradient(problem.loss(method), problem.avals())


def count(schedule: epmc_jax.Schedule, lag: int = 0) -> dict[str, Any]:
    """Calls per direction, and how many of them are hidden; `judged`: without those
    of the first and the last layer. `lagging_bytes`: see `overlap_bars`."""
    found: dict[str, Any] = {}
    for direction in ("encode", "decode"):
        calls = [c for c in schedule.calls if c.direction == direction]
        found[f"{direction}_calls"] = len(calls)
        found[f"{direction}_hidden"] = sum(c.is_hidden for c in calls)
    judged = overlap_bars.judged(schedule)
    found["judged_calls"] = len(judged)
    found["judged_hidden"] = sum(c.is_hidden for c in judged)
    found["lagging_bytes"] = overlap_bars.lagging_bytes(schedule, lag)
    return found


def simulated(schedule: epmc_jax.Schedule) -> dict[str, Any]:
    """Seconds on the model of an H100."""
    found = schedule.simulate(machines.H100)
    return {
        "machine_model": dataclasses.asdict(found.machine),
        "step_s": found.step_s,
        "codec_s": found.codec_s,
        "exposed_s": found.exposed_s,
    }


def _steps(options: argparse.Namespace, console: Console) -> Sequence[Bar]:
    settings = demo_training.Settings()
    with console.status("stepping"):
        relative = overlap_step.relative_steps(settings, options.rounds)
    title = f"ResNet-18, one training step on this CPU, batch {settings.batch}"
    cells = [(name, f"{ratio:.3f}") for name, ratio in relative.items()]
    show(console, title, STEP_HEADER, cells)
    rows: list[dict[str, Any]] = [
        {"problem": title, "way": name, "relative_step_time": ratio}
        for name, ratio in relative.items()
    ]
    alone = overlap_step.concurrency(options.rounds)
    in_turn = alone["encode"] + alone["multiply"]
    console.print(
        f"an encode {alone['encode']:.1f} ms, a matrix product "
        f"{alone['multiply']:.1f} ms, both in one program {alone['both']:.1f} ms: "
        f"{alone['both'] / in_turn:.2f} of the sum"
    )
    rows.append({"problem": "one program, two calls", "way": "this CPU"} | alone)
    console.print(f"recorded in {record.append('overlap', rows)}")
    return overlap_bars.of_steps(relative, options.policy)


def _cells(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            row["way"],
            _fraction(row, "encode"),
            _fraction(row, "decode"),
            f"{row['temp_bytes'] / 1e6:.0f}",
            f"{1e3 * row['step_s']:.1f}",
            f"{1e3 * row['codec_s']:.2f}",
            f"{1e3 * row['exposed_s']:.2f}, {row['exposed_s'] / row['step_s']:.1%}",
        )
        for row in rows
    ]


def _fraction(row: dict[str, Any], direction: str) -> str:
    calls, hidden = row[f"{direction}_calls"], row[f"{direction}_hidden"]
    return f"{hidden} of {calls}" if calls else "none"
