"""What the rows of the measurements come to, and the bars that they must meet."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

from rich.console import Console

from bench import methods
from bench.record import Row
from bench.tables import show

EPMC_PAPER = 2.3
"""Times less memory, as its authors report (doi:10.1007/s00521-021-06433-5)."""
LEAST_RATIOS = {methods.PRECISE.name: 2.8, methods.BALANCED.name: 3.5}


@dataclasses.dataclass(frozen=True)
class Bar:
    """What is asked of a figure, and the figure; None: there is none yet."""

    name: str
    figure: float | None
    wanted: str
    is_met: bool | None

    @property
    def shown(self) -> str:
        """The figure with three digits."""
        return "-" if self.figure is None else f"{self.figure:.3g}"

    @property
    def verdict(self) -> str:
        """met, missed, or not measured."""
        if self.is_met is None:
            return "not measured"
        return "met" if self.is_met else "missed"


def at_least(name: str, figure: float | None, least: float) -> Bar:
    """A figure that must not be below `least`."""
    met = None if figure is None else figure >= least
    return Bar(name, figure, f"at least {least:g}", met)


def at_most(name: str, figure: float | None, most: float) -> Bar:
    """A figure that must not be above `most`."""
    met = None if figure is None else figure <= most
    return Bar(name, figure, f"at most {most:g}", met)


def geometric_mean(values: Iterable[float]) -> float:
    """Of one value or more."""
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs))


def memory_ratios(rows: Sequence[Row], method: str) -> dict[str, float]:
    """Temp bytes of plain over those of `method`, by network."""
    temps = {(row["network"], row["method"]): row.get("temp_bytes") for row in rows}
    networks = dict.fromkeys(row["network"] for row in rows)
    return {
        name: temps[name, "plain"] / temp
        for name in networks
        if (temp := temps.get((name, method))) and temps.get((name, "plain"))
    }


def memory_bars(rows: Sequence[Row]) -> list[Bar]:
    """The geometric means over the networks, for the two lossy policies."""
    bars = []
    for method, least in LEAST_RATIOS.items():
        ratios = memory_ratios(rows, method)
        mean = geometric_mean(ratios.values()) if ratios else None
        name = f"plain / {method}, geometric mean of {len(ratios)} networks"
        bars.append(at_least(name, mean, least))
    return bars


def sparse_bar(rows: Sequence[Row]) -> Bar:
    """The ReLU network that gains least against CSR."""
    ratios = [row["csr_bytes"] / row["stored_bytes"] for row in rows]
    return at_least("CSR / balanced, least of the ReLU networks", min(ratios), 5)


def show_memory(console: Console, rows: Sequence[Row]) -> None:
    """The ratio of each network and policy, and the bars."""
    names = [method.name for method in methods.POLICIES]
    ratios = {name: memory_ratios(rows, name) for name in names}
    networks = dict.fromkeys(row["network"] for row in rows)
    cells = [
        (network, *(f"{ratios[name].get(network, math.nan):.2f}" for name in names))
        for network in networks
    ]
    header = ("plain / this", *names)
    show(console, "XLA temp, times less than plain", header, cells)
    show_bars(console, memory_bars(rows))
    console.print(f"EPMC's authors report {EPMC_PAPER} times less memory.")


def show_bars(console: Console, bars: Sequence[Bar]) -> None:
    """Each bar with its figure, met or missed."""
    cells = [(bar.name, bar.shown, bar.wanted, bar.verdict) for bar in bars]
    show(console, "Bars", ("bar", "figure", "wanted", ""), cells)
