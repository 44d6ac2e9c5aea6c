"""What the rows of the measurements come to, and the bars that they must meet."""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Sequence

from rich.console import Console
from scipy import stats

from bench import methods
from bench.record import Row
from bench.tables import show

EPMC_PAPER = 2.3
"""Times less memory, as its authors report (doi:10.1007/s00521-021-06433-5)."""
MOST_POINTS = 0.2
"""Of accuracy in percent; of a loss, one part in a hundred."""
TRAINING_HEADER = ("mean", "plain's spread", "method - plain", "p")
LEAST_RATIOS = {methods.PRECISE.name: 2.8, methods.BALANCED.name: 3.5}


@dataclasses.dataclass(frozen=True)
class Bar:
    """What is asked of a figure, and the figure; None: there is none yet.

    `is_invariant`: a command that finds it missed fails.
    """

    name: str
    figure: float | None
    wanted: str
    is_met: bool | None
    is_invariant: bool = False

    def of(self, where: str) -> "Bar":
        """The same, named with where it was measured."""
        return dataclasses.replace(self, name=f"{self.name}, {where}")

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


def at_most(
    name: str, figure: float | None, most: float, *, is_invariant: bool = False
) -> Bar:
    """A figure that must not be above `most`."""
    met = None if figure is None else figure <= most
    return Bar(name, figure, f"at most {most:g}", met, is_invariant)


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


def step_bar(rows: Sequence[Row]) -> Bar:
    """In how many networks a `jax.checkpoint` needs no more than `balanced` of both
    memory and time: there it would be the better choice."""
    networks = {row["network"] for row in rows}
    ours = {row["network"]: row for row in rows if row["method"] == "balanced"}
    theirs = [row for row in rows if row["method"].startswith("jax.checkpoint")]
    beaten = {
        row["network"]
        for row in theirs
        if (own := ours.get(row["network"])) is not None
        and row["temp_bytes"] <= own["temp_bytes"]
        and row["relative_step_times"][1] <= own["relative_step_times"][1]
    }
    name = (
        f"of {len(networks)} networks, where jax.checkpoint needs neither more memory"
    )
    return at_most(f"{name} nor more time than balanced", len(beaten), 0)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A method's runs of one task. `spread`: plain's largest minus smallest result.

    `difference`: mean of the method's result minus plain's of the same seed. `p_value`:
    of the paired t-test that it is zero, None with fewer than two seeds.
    """

    method: str
    mean: float
    spread: float
    difference: float
    p_value: float | None


def training(rows: Sequence[Row]) -> list[Trained]:
    """Each method against plain, seed by seed, for the rows of one task."""
    finals: dict[str, dict[int, float]] = {}
    for row in rows:
        finals.setdefault(row["method"], {})[row["seed"]] = row["final"]
    plain = finals[methods.PLAIN.name]
    spread = max(plain.values()) - min(plain.values())
    found = []
    for name, results in finals.items():
        seeds = [seed for seed in results if seed in plain]
        pairs = [(results[seed], plain[seed]) for seed in seeds]
        differences = [this - other for this, other in pairs]
        mean = statistics.fmean(this for this, _ in pairs)
        p_value = None
        if len(pairs) > 1 and len(set(differences)) > 1:
            p_value = float(stats.ttest_1samp(differences, 0).pvalue)
        difference = statistics.fmean(differences)
        found.append(Trained(name, mean, spread, difference, p_value))
    return found


def training_cells(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A row of text per method, for the rows of one task."""
    return [
        (
            found.method,
            f"{found.mean:.3f}",
            f"{found.spread:.3f}",
            f"{found.difference:+.3f}",
            "-" if found.p_value is None else f"{found.p_value:.2f}",
        )
        for found in training(rows)
    ]


def training_bars(rows: Sequence[Row]) -> list[Bar]:
    """How much worse the lossy policies are than plain, for the rows of one task."""
    task, metric = rows[0]["task"], rows[0]["metric"]
    found = {result.method: result for result in training(rows)}
    if (balanced := found.get(methods.BALANCED.name)) is None:
        return []
    plain = found[methods.PLAIN.name]
    if metric == "loss":
        worse, most, unit = balanced.difference, 0.01 * plain.mean, "nats"
    else:
        worse, most, unit = -balanced.difference, MOST_POINTS, "points"
    return [
        at_most(f"{task}: balanced worse than plain, {unit}", worse, most),
        at_most(f"{task}: the same, plain's spread over seeds", worse, plain.spread),
    ]


def show_memory(console: Console, rows: Sequence[Row]) -> None:
    """The ratio of each network and policy, and the bars."""
    names = [method.name for method in methods.POLICIES]
    ratios = {name: memory_ratios(rows, name) for name in names}
    networks = dict.fromkeys(row["network"] for row in rows)
    cells = [
        (network, *(ratio_text(ratios[name].get(network)) for name in names))
        for network in networks
    ]
    header = ("plain / this", *names)
    show(console, "XLA temp, times less than plain", header, cells)
    show_bars(console, memory_bars(rows))
    console.print(f"EPMC's authors report {EPMC_PAPER} times less memory.")


def ratio_text(value: float | None) -> str:
    """With two digits behind the point; None: there is no figure."""
    return "-" if value is None else f"{value:.2f}"


def show_bars(console: Console, bars: Sequence[Bar]) -> None:
    """Each bar with its figure, met or missed."""
    cells = [(bar.name, bar.shown, bar.wanted, bar.verdict) for bar in bars]
    show(console, "Bars", ("bar", "figure", "wanted", ""), cells)
