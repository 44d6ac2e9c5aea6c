"""The page of results, in Markdown, from the rows of all commands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench import methods, noise, sparse, summaries
from bench.record import Row
from bench.summaries import Bar

HEAD = """# Results

This page and its pictures are made by `python -m bench results` from the JSON lines in
[results](results), one per measurement, and from nothing else: do not edit it. Each
section names the command that measures anew; `bench results --add` takes that over.
"""
MEMORY = """\
XLA's temp bytes of one gradient: what it allocates beside arguments and results. The
first column is plain's, the others tell how many times less each method takes; above 1
is better. "matmuls" are matrix products and convolutions. `jax.checkpoint` without more
words is that of each block, its usual place; "norms and gelus" recomputes no more than
these. On CPUs XLA drops the barriers by which `jax.checkpoint` keeps apart what is
recomputed, so most of its forms save nothing there. "in jnp" is the same plan with
floats encoded by code that XLA compiles, as on a platform without kernels.
"""
BATCHES = """\
The largest batch (to 1 in 64) whose gradient fits: arguments, results and temp bytes
together, as XLA plans them. For GPUs XLA itself recomputes where a program does not
fit, so it is compiled for a device of each size.
"""
SPARSE = """\
What `balanced` stores of one image at initialisation, masks and pool indices included,
against its floats in CSR (a float32 and an int32 for each nonzero element); and against
each array in CSR or dense, whichever is less.
"""
STEP = """\
Gradient and Adam's update, relative to plain in the same round: medians, and quartiles
in brackets; below 1 is faster. One picture has time and memory of every method.

![time and memory](pictures/step.svg)
"""
TRAIN = """\
Equal seeds, initial parameters and batches; the result is on the test split. The
difference to plain is taken seed by seed, p is that of a paired t-test, and the spread
is the largest minus the smallest of plain's own results.

![curves](pictures/train.svg)
"""
NOISE = """\
The mean square of what a policy changes in a gradient, over the variance of plain's
gradient between minibatches: of the whole gradient, and of the parameter where it is
largest. Below 1 the choice of the batch matters more. "bits" are `balanced` with
another number of them. Parameters whose gradient is 0 but for rounding, as that of a
bias before a batch normalisation, are left out: what minibatches change there is
rounding.

![noise by layer](pictures/noise.svg)
"""


def page(found: Mapping[str, Sequence[Row]]) -> str:
    """The whole page; a section without rows says so."""
    parts = [HEAD, *_bars(found)]
    sections: tuple[tuple[str, str, str, Callable[..., list[str]]], ...] = (
        ("Memory", MEMORY, "memory", _memory),
        ("Against CSR", SPARSE, "sparse", _sparse),
        ("Time of a step", STEP, "step", _step),
        ("Training", TRAIN, "train", _train),
        ("Error and minibatch noise", NOISE, "noise", _noise),
    )
    for title, text, command, body in sections:
        parts.append(f"## {title} (`python -m bench {command}`)\n")
        rows = found.get(command, ())
        parts += [text, *body(rows), *_context(rows)] if rows else ["Not measured.\n"]
    return "\n".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: the first column is text, the others are figures."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _bars(found: Mapping[str, Sequence[Row]]) -> list[str]:
    bars: list[Bar] = []
    for rows, where in by_place(found.get("memory", ())):
        bars += [bar.of(where) for bar in summaries.memory_bars(rows)]
    if against_csr := found.get("sparse"):
        bars.append(summaries.sparse_bar(against_csr))
    if steps := found.get("step"):
        bars.append(summaries.step_bar(steps))
    for rows in _grouped(found.get("train", ()), "task"):
        bars += summaries.training_bars(rows)
    cells = ((bar.name, bar.shown, bar.wanted, bar.verdict) for bar in bars)
    note = (
        f"EPMC's authors report {summaries.EPMC_PAPER} times less memory "
        "(doi:10.1007/s00521-021-06433-5).\n"
    )
    return [table(("bar", "figure", "wanted", ""), cells), note]


def by_place(rows: Sequence[Row]) -> list[tuple[list[Row], str]]:
    """The rows of each device and dtype, and what to call them."""
    groups = _grouped(rows, "device", "dtype")
    return [(group, f"{group[0]['device']}, {group[0]['dtype']}") for group in groups]


def _memory(rows: Sequence[Row]) -> list[str]:
    parts = []
    for group, where in by_place(rows):
        names = [*dict.fromkeys(row["method"] for row in group)][1:]
        ratios = {name: summaries.memory_ratios(group, name) for name in names}
        plain = [row for row in group if row["method"] == methods.PLAIN.name]
        cells = [
            [
                row["problem"],
                f"{row['temp_bytes'] / 1e6:.0f} MB",
                *(
                    summaries.ratio_text(ratios[name].get(row["network"]))
                    for name in names
                ),
            ]
            for row in plain
        ]
        means = [
            summaries.ratio_text(summaries.geometric_mean(r.values()))
            for r in ratios.values()
        ]
        cells.append(["geometric mean", "", *means])
        parts += [f"{where}:\n", table(("network", "plain", *names), cells)]
        parts += _largest(group)
    return [*parts, "![memory](pictures/memory.svg)\n"]


def _largest(rows: Sequence[Row]) -> list[str]:
    measured = [row for row in rows if "largest_batch" in row]
    if not measured:
        return []
    memories = [*measured[0]["largest_batch"]]
    cells = [
        (
            row["network"],
            row["method"],
            *(str(row["largest_batch"][m]) for m in memories),
        )
        for row in measured
    ]
    return [BATCHES, table(("network", "method", *memories), cells)]


def _sparse(rows: Sequence[Row]) -> list[str]:
    return [table(sparse.HEADER, sparse.cells(rows))]


def _step(rows: Sequence[Row]) -> list[str]:
    names = [*dict.fromkeys(row["method"] for row in rows)][1:]
    cells = []
    for group in _grouped(rows, "network"):
        times = {row["method"]: row["relative_step_times"] for row in group}
        plain = f"{group[0]['median_ms']:.0f} ms"
        found = (_quartiles(times.get(name)) for name in names)
        cells.append((group[0]["problem"], plain, *found))
    return [table(("network", "plain", *names), cells)]


def _train(rows: Sequence[Row]) -> list[str]:
    parts = []
    for group in _grouped(rows, "task"):
        first = group[0]
        seeds = len({row["seed"] for row in group})
        steps = first["epochs"] * first["steps_per_epoch"]
        parts.append(f"{first['task']}, {seeds} seeds, {steps} steps:\n")
        header = (f"method, test {first['metric']}", *summaries.TRAINING_HEADER)
        parts.append(table(header, summaries.training_cells(group)))
    return parts


def _noise(rows: Sequence[Row]) -> list[str]:
    parts = []
    for group in _grouped(rows, "task"):
        parts += [f"{group[0]['task']}:\n", table(noise.HEADER, noise.cells(group))]
    return parts


def _context(rows: Sequence[Row]) -> list[str]:
    """What the rows depend on besides the code, a line for each difference."""
    lines = []
    for group in _grouped(rows, "machine", "versions", "flags"):
        first = group[0]
        machine, versions = first["machine"], first["versions"]
        flags = (f"{name}={value}" for name, value in first["flags"].items())
        commits = dict.fromkeys(row["commit"] for row in group)
        days = sorted({row["time"][:10] for row in group})
        lines.append(
            f"{machine['processor']}, {machine['cores']} cores; "
            f"Python {versions['python']}, jax {versions['jax']}, flax "
            f"{versions.get('flax', '-')}; `{' '.join(flags)}`; "
            f"commit {', '.join(commits)}; {', '.join(days)}.\n"
        )
    return lines


def _grouped(rows: Iterable[Row], *keys: str) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(str([row[key] for key in keys]), []).append(row)
    return [*groups.values()]


def _quartiles(values: Any) -> str:
    if values is None:
        return "-"
    first, median, third = values
    return f"{median:.2f} ({first:.2f}-{third:.2f})"
