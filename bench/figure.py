"""The demo's picture: loss curves over each other, memory bars beside them."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

# Distinct for colour-blind readers too (Okabe and Ito).
COLOURS = ("#000000", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#e69f00")


def draw(
    path: pathlib.Path,
    title: str,
    curves: Mapping[str, Sequence[float]],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Writes a PNG. `rows`: `method`, `saved_bytes` and `temp_bytes` of each curve."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for (name, losses), colour in zip(curves.items(), COLOURS, strict=False):
        left.plot(_smooth(losses), label=name, color=colour, linewidth=1.2)
    left.set(xlabel="step", ylabel="training loss, mean of 10 steps", yscale="log")
    left.legend(frameon=False)
    names = [row["method"] for row in rows]
    places = np.arange(len(rows))
    bars = (
        ("saved for backward", "saved_bytes", -0.2),
        ("XLA temp", "temp_bytes", 0.2),
    )
    for (label, key, offset), colour in zip(bars, COLOURS[1:3], strict=True):
        found = right.barh(
            places + offset,
            [row[key] / 1e6 for row in rows],
            0.4,
            label=label,
            color=colour,
        )
        right.bar_label(found, fmt="%.1f", padding=2, fontsize=8)
    right.set_yticks(places, names)
    right.invert_yaxis()
    right.set(xlabel="MB (10$^6$ bytes)")
    right.margins(x=0.12)
    right.legend(frameon=False)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _smooth(values: Sequence[float], window: int = 10) -> np.ndarray:
    """Mean of the last `window` values, of fewer at the beginning."""
    sums = np.cumsum(np.insert(np.asarray(values, float), 0, 0.0))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)
