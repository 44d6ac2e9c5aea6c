"""A schedule as text and picture."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epmc_jax.scheduling import Schedule

_COLUMNS = ("call", "start", "done", "beside")
_SHOWN = 2


def table(schedule: Schedule) -> str:
    """A line per call of a codec, and per direction how many of them are hidden."""
    cells = [_COLUMNS]
    for call in schedule.calls:
        more = len(call.beside) - _SHOWN
        beside = ", ".join(call.beside[:_SHOWN]) + (f" and {more} more" * (more > 0))
        nothing = "nothing" if call.is_asynchronous else "nothing: synchronous"
        place = call.target.removeprefix("epmc_")
        cells.append((place, str(call.start), str(call.done), beside or nothing))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join([*lines, "", *_summary(schedule)])


def _summary(schedule: Schedule) -> list[str]:
    number = Counter(call.direction for call in schedule.calls)
    hidden = Counter(call.direction for call in schedule.calls if call.is_hidden)
    peak = max(schedule.live_bytes, default=0)
    return [
        *(f"{hidden[d]} of {number[d]} {d} calls hidden" for d in number),
        f"{peak / 1e6:.1f} MB alive at the peak (an estimate; XLA's own figure is "
        "memory_analysis().temp_size_in_bytes)",
    ]


def plot(schedule: Schedule, path: str | None = None) -> Any:
    """Draws the lanes of layers and codecs above the live bytes; returns the figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    lanes, memory = figure.subplots(2, sharex=True, height_ratios=(1, 2))
    layers = [(at, 1) for at, s in enumerate(schedule.steps) if s.lane == "layer"]
    lanes.broken_barh(layers, (1, 0.8), color="tab:blue")
    entry = [c for c in schedule.calls if c.computation == schedule.computation]
    for direction, color in (("encode", "tab:orange"), ("decode", "tab:green")):
        bars = [
            (c.start, c.done - c.start + 1) for c in entry if c.direction == direction
        ]
        lanes.broken_barh(bars, (0, 0.8), color=color, alpha=0.6, label=direction)
    lanes.set_yticks([0.4, 1.4], ["codecs", "layers"])
    lanes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    memory.fill_between(
        range(len(schedule.live_bytes)),
        [b / 1e6 for b in schedule.live_bytes],
        step="post",
    )
    memory.set(xlabel="step, in the order of launch", ylabel="live MB")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
