"""What `python -m bench overlap` must reach, and whether it does."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from bench.summaries import Bar, at_least, at_most, show_bars
from epmc_jax import CodecCall, Schedule

LEAST_HIDDEN = 0.9
MOST_TEMP = 1.1
MOST_EXPOSED = 0.03
LEAST_AGAINST_UNOPTIMISED = 2.1
LEAST_STEP_AGAINST_UNOPTIMISED = 3
MOST_STEP = 1.02


def judged(schedule: Schedule) -> list[CodecCall]:
    """The calls of `schedule` without those of the first and the last layer.

    Nothing comes before the first layer; nothing that takes long comes between the end
    of the forward pass, mostly the loss, and what waits for the last encode.
    """
    outer = [c for c in schedule.calls if c.computation == schedule.computation]
    excepted = set()
    for direction in ("encode", "decode"):
        layers = [c.layer for c in outer if c.direction == direction]
        if layers:
            ends = {0, max(layers)} if direction == "encode" else {min(layers)}
            excepted |= {(direction, layer) for layer in ends}
    return [
        c
        for c in schedule.calls
        if c not in outer or (c.direction, c.layer) not in excepted
    ]


def lagging_bytes(schedule: Schedule, lag: int) -> int:
    """The decoded bytes of the `lag` layers that encode most."""
    layers: dict[tuple[str, int], int] = {}
    for call in schedule.calls:
        if call.direction == "encode":
            key = call.computation, call.layer
            layers[key] = layers.get(key, 0) + call.dense_bytes
    return sum(sorted(layers.values())[::-1][:lag])


def of_problem(rows: Sequence[dict[str, Any]]) -> list[Bar]:
    """`rows`: as `bench.overlap` records them, of one problem."""
    name = rows[0]["problem"]
    by_way = {row["way"]: row for row in rows}
    first, default = by_way["lag 0"], by_way["lag 1"]
    calls = default["judged_calls"]
    hidden = default["judged_hidden"] / max(1, calls)
    bars = [
        at_least(f"{name}: {calls} calls, hidden", hidden, LEAST_HIDDEN),
        at_most(
            f"{name}: XLA temp against lag 0",
            default["temp_bytes"] / first["temp_bytes"],
            MOST_TEMP,
            is_invariant=True,
        ),
    ]
    bars += (_of_lag(name, first, by_way[f"lag {lag}"], lag) for lag in (1, 2))
    exposed = default["exposed_s"] / default["step_s"]
    bars.append(at_most(f"{name}: exposed of simulated step", exposed, MOST_EXPOSED))
    if "unoptimised" in by_way:
        bars += _against(name, by_way["unoptimised"], default)
    return bars


def _of_lag(name: str, first: dict[str, Any], row: dict[str, Any], lag: int) -> Bar:
    grown = (row["temp_bytes"] - first["temp_bytes"]) / 1e6
    layers = f"{lag} layer{'s' * (lag > 1)}"
    return at_most(
        f"{name}: XLA temp of {layers} more than lag 0, MB",
        grown,
        row["lagging_bytes"] / 1e6,
        is_invariant=True,
    )


def _against(name: str, other: dict[str, Any], ours: dict[str, Any]) -> Iterable[Bar]:
    for key, what in (("exposed_s", "exposed"), ("codec_s", "all")):
        ratio = other[key] / max(ours[key], 1e-9)
        name_of_all = f"{name}: {what} codec time, unoptimised / ours, simulated"
        yield at_least(name_of_all, ratio, LEAST_AGAINST_UNOPTIMISED)


def of_steps(relative: dict[str, float], name: str) -> list[Bar]:
    """`relative`: measured step times against plain; `name`: of the method judged."""
    unoptimised = [way for way in relative if way.startswith("unoptimised")]
    return [
        *(
            at_least(
                f"CPU, measured: step {way} / {name}",
                relative[way] / relative[name],
                LEAST_STEP_AGAINST_UNOPTIMISED,
            )
            for way in unoptimised
        ),
        at_most(f"CPU, measured: step {name} / plain", relative[name], MOST_STEP),
    ]


def report(console: Console, bars: Sequence[Bar]) -> None:
    """Shows the bars. Raises: `SystemExit` if an invariant is missed."""
    show_bars(console, bars)
    if any(bar.is_invariant and not bar.is_met for bar in bars):
        raise SystemExit(1)
