"""The pictures of the page of results: SVG, drawn from the rows of all commands."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

from bench import methods, noise, summaries
from bench.figure import COLOURS
from bench.record import Row

matplotlib.use("Agg")
from matplotlib import pyplot

# The same rows give the same file, and letters stay letters: small files.
matplotlib.rcParams["svg.hashsalt"] = "epmc_jax"
matplotlib.rcParams["svg.fonttype"] = "none"
MARKERS = "osDvP^X<>*h"


def draw(
    directory: pathlib.Path, found: Mapping[str, Sequence[Row]]
) -> list[pathlib.Path]:
    """Writes a picture per command that has rows; returns their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    drawers = {"memory": _memory, "step": _step, "train": _train, "noise": _noise}
    written = []
    for name, drawer in drawers.items():
        if rows := found.get(name):
            figure = drawer(rows)
            figure.set_layout_engine("constrained")
            written.append(directory / f"{name}.svg")
            figure.savefig(written[-1], metadata={"Date": None})
            pyplot.close(figure)
    return written


def _memory(rows: Sequence[Row]) -> Any:
    """Times less than plain, a group of bars per network, a panel per device."""
    places = [*dict.fromkeys((row["device"], row["dtype"]) for row in rows)]
    figure, panels = pyplot.subplots(
        len(places), 1, figsize=(9, 2.8 * len(places)), squeeze=False
    )
    names = [method.name for method in methods.POLICIES]
    for (device, dtype), axes in zip(places, panels[:, 0], strict=True):
        group = [r for r in rows if (r["device"], r["dtype"]) == (device, dtype)]
        networks = [*dict.fromkeys(row["network"] for row in group)]
        for offset, name, colour in zip(
            (-0.27, 0, 0.27), names, COLOURS[1:], strict=False
        ):
            ratios = summaries.memory_ratios(group, name)
            heights = [ratios.get(network, 0) for network in networks]
            axes.bar(
                np.arange(len(networks)) + offset,
                heights,
                0.27,
                label=name,
                color=colour,
            )
        axes.axhline(summaries.EPMC_PAPER, color="#888888", linewidth=1, linestyle="--")
        axes.set_xticks(range(len(networks)), networks, fontsize=8)
        axes.set(ylabel="times less than plain", title=f"XLA temp, {device}, {dtype}")
    panels[0, 0].legend(frameon=False, ncols=3)
    return figure


def _step(rows: Sequence[Row]) -> Any:
    """A point per method and network; filled: no other is faster with less memory."""
    networks = [*dict.fromkeys(row["network"] for row in rows)]
    names = [*dict.fromkeys(row["method"] for row in rows)]
    figure, panels = pyplot.subplots(2, 4, figsize=(12, 6.4), sharex=True, sharey=True)
    for network, axes in zip(networks, panels.flat, strict=False):
        group = [row for row in rows if row["network"] == network]
        points = [
            (row["relative_step_times"][1], row["relative_temp"]) for row in group
        ]
        front = pareto_front(points)
        axes.plot(
            *zip(*sorted(points[i] for i in front), strict=True),
            color="#bbbbbb",
            linewidth=1,
        )
        for index, (row, (time, temp)) in enumerate(zip(group, points, strict=True)):
            place = names.index(row["method"])
            colour = COLOURS[place % len(COLOURS)]
            axes.plot(
                time,
                temp,
                MARKERS[place % len(MARKERS)],
                color=colour,
                fillstyle="full" if index in front else "none",
                label=row["method"],
            )
        axes.set_title(network, fontsize=10)
    for axes in panels[-1]:
        axes.set_xlabel("time of a step / plain")
    for axes in panels[:, 0]:
        axes.set_ylabel("XLA temp / plain")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False
    )
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> set[int]:
    """Which points no other point is below in one coordinate and not above in the
    other."""
    return {
        i
        for i, (x, y) in enumerate(points)
        if not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
    }


def _train(rows: Sequence[Row]) -> Any:
    """Test results by epoch, all seeds of all methods over each other."""
    tasks = [*dict.fromkeys(row["task"] for row in rows)]
    figure, panels = pyplot.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks), 3.2), squeeze=False
    )
    names = [*dict.fromkeys(row["method"] for row in rows)]
    for task, axes in zip(tasks, panels[0], strict=True):
        for row in rows:
            if row["task"] == task:
                axes.plot(
                    range(1, 1 + len(row["metrics"])),
                    row["metrics"],
                    color=COLOURS[names.index(row["method"]) % len(COLOURS)],
                    linewidth=0.9,
                    label=row["method"] if row["seed"] == 0 else None,
                )
                metric = row["metric"]
        axes.set_title(task, fontsize=9)
        axes.set(xlabel="epoch", ylabel=f"test {metric}")
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _noise(rows: Sequence[Row]) -> Any:
    """The ratio by parameter, in the order of the network's paths, after training."""
    tasks = [*dict.fromkeys(row["task"] for row in rows)]
    figure, panels = pyplot.subplots(
        1, len(tasks), figsize=(3.6 * len(tasks), 3.2), squeeze=False
    )
    for task, axes in zip(tasks, panels[0], strict=True):
        group = [row for row in rows if row["task"] == task]
        last = max(row["epoch"] for row in group)
        shown = [row for row in group if row["epoch"] == last]
        for index, row in enumerate(noise.without_rounding(shown)):
            axes.plot(
                list(row["layers"].values()),
                color=COLOURS[index % len(COLOURS)],
                linestyle="-" if index < len(COLOURS) else "--",
                linewidth=0.9,
                label=row["method"],
            )
        axes.axhline(1, color="#888888", linewidth=1, linestyle=":")
        axes.set(yscale="log", xlabel="parameter", ylabel="error / minibatch noise")
        axes.set_ylim(bottom=1e-6)
        axes.set_title(f"{task}, epoch {last}", fontsize=9)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=7, fontsize=8, frameon=False
    )
    return figure
