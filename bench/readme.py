"""The summary at the top of README.md: a table of the records of all commands."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench import memory, methods, pages, summaries
from bench.record import Row

PATH = pathlib.Path("README.md")
START = "<!-- Made by `python -m bench results`: -->\n"
END = "<!-- to here. -->\n"
METHODS = (*methods.POLICIES, methods.CHECKPOINT)
HEADER = ("geometric mean over the networks", *(m.name for m in METHODS))
PICTURE = "![memory](docs/pictures/memory.svg)\n"
CPU = "XLA:CPU"
# Of fewer networks, a mean says little.
LEAST_NETWORKS = 4


def write(found: Mapping[str, Sequence[Row]]) -> None:
    """Puts `summary` in its place. `ValueError` if the place is not marked."""
    before, start, rest = PATH.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(
            f"{PATH} has no lines {START.strip()!r} and {END.strip()!r} around the "
            "summary: put them where it belongs."
        )
    PATH.write_text(before + START + summary(found) + END + after)


def summary(found: Mapping[str, Sequence[Row]]) -> str:
    """A table with a row per measure, and the picture."""
    rows = [*_memory(found.get("memory", ())), *_step(found.get("step", ()))]
    return f"\n{pages.table(HEADER, rows)}\n{PICTURE}\n"


def _memory(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for group, _ in pages.by_place(rows):
        ratios = [summaries.memory_ratios(group, method.name) for method in METHODS]
        networks = len(ratios[0])
        if networks >= LEAST_NETWORKS:
            yield (
                f"memory, plain / this: {networks} networks, {_place(group[0])}",
                *(_mean(of_method.values()) for of_method in ratios),
            )


def _place(row: Row) -> str:
    """What the device is called where no machine has been named."""
    is_cpu = row["device"] == memory.DEVICES[False]
    return f"{CPU if is_cpu else row['device']}, {row['dtype']}"


def _step(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    times = {
        method.name: [
            row["relative_step_times"][1]
            for row in rows
            if row["method"] == method.name and row.get("relative_step_times")
        ]
        for method in METHODS
    }
    networks = min(map(len, times.values()))
    if networks >= LEAST_NETWORKS:
        yield (
            f"time of a step, this / plain: {networks} networks, {CPU}",
            *(_mean(of_method) for of_method in times.values()),
        )


def _mean(values: Iterable[float]) -> str:
    values = [*values]
    return summaries.ratio_text(summaries.geometric_mean(values) if values else None)
