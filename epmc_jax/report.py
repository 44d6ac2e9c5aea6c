"""A plan as text, JSON and picture."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from epmc_jax.planning import Plan, PlanRow

_COLUMNS = ("", "site", "kind", "shape", "producer", "codec", "before", "after", "why")
# Where the plan has a machine, these stand in the place of producer and reason.
_TIMED = (*_COLUMNS[:4], *_COLUMNS[5:8], "beside", "hidden us", "exposed us")
_RIGHT_ALIGNED = frozenset({"before", "after", "hidden us", "exposed us"})
_LONGEST_SITE = 44
_SMALLEST_SHOWN_BYTES = 4096


def table(plan: Plan, max_rows: int = 40) -> str:
    """The plan as a text table: the largest residuals first, then the sums.

    Residuals that agree in all columns share a line, with their number in front.
    """
    large = [row for row in plan.rows if row.dense_bytes >= _SMALLEST_SHOWN_BYTES]
    timed = plan.machine is not None
    groups = Counter(
        _cells(r, timed) for r in sorted(large, key=lambda r: -r.dense_bytes)
    )
    shown = list(groups.items())[:max_rows]
    columns = _TIMED if timed else _COLUMNS
    cells = [columns, *((f"{n} x" if n > 1 else "", *row) for row, n in shown)]
    widths = [max(len(c) for c in column) for column in zip(*cells, strict=True)]
    lines = [_line(row, columns, widths) for row in cells]
    lines.insert(1, "  ".join("-" * w for w in widths))
    hidden = len(plan.rows) - sum(n for _, n in shown)
    if hidden:
        lines.append(f"... and {hidden} more (to_json() has all of them)")
    return "\n".join([*lines, *_summary(plan)])


def _cells(row: PlanRow, timed: bool) -> tuple[str, ...]:
    shape = f"{row.dtype}[{','.join(map(str, row.shape))}]"
    sizes = _size(row.dense_bytes), _size(row.encoded_bytes)
    site = _short(row.site)
    if not timed:
        return site, row.kind, shape, row.producer, row.codec, *sizes, row.why
    times = (f"{us or 0:.1f}" for us in (row.hidden_us, row.exposed_us))
    return site, row.kind, shape, row.codec, *sizes, _short(row.beside or ""), *times


def _short(site: str) -> str:
    is_short = len(site) <= _LONGEST_SITE
    return site if is_short else "…" + site[1 - _LONGEST_SITE :]


def _line(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        c.rjust(w) if name in _RIGHT_ALIGNED else c.ljust(w)
        for c, w, name in zip(cells, widths, columns, strict=True)
    ]
    return "  ".join(aligned).rstrip()


def _summary(plan: Plan) -> list[str]:
    lines = [
        "",
        f"{len(plan.rows)} residuals stored in {plan.regions} region(s): "
        f"{_size(plan.dense_bytes)} as arrays, {_size(plan.stored_bytes)} encoded "
        f"(ratio {plan.ratio:.1f})",
        f"JAX alone would keep {_size(plan.plain_bytes)}; these are sums of sizes, not "
        "live bytes: compare memory_analysis().temp_size_in_bytes",
    ]
    if plan.machine is not None:
        hidden = sum(row.hidden_us or 0 for row in plan.rows)
        exposed = sum(row.exposed_us or 0 for row in plan.rows)
        lines.append(
            f"encoding on {plan.machine.name}, estimated for a step: {hidden:.0f} us "
            f"hidden behind layers, {exposed:.0f} us exposed"
        )
    return lines + [f"note: {note}" for note in plan.notes]


def _size(nbytes: int) -> str:
    if nbytes < 1000:
        return f"{nbytes} B"
    if nbytes < 1e6:
        return f"{nbytes / 1e3:.1f} kB"
    return f"{nbytes / 1e6:.1f} MB" if nbytes < 1e9 else f"{nbytes / 1e9:.2f} GB"


def to_json(plan: Plan) -> str:
    """The plan as a JSON object: `rows`, and the sums in bytes."""
    content: dict[str, Any] = {
        "rows": [row.as_dict() for row in plan.rows],
        "regions": plan.regions,
        "plain_bytes": plan.plain_bytes,
        "dense_bytes": plan.dense_bytes,
        "stored_bytes": plan.stored_bytes,
        "notes": list(plan.notes),
        "machine": plan.machine.name if plan.machine else None,
    }
    return json.dumps(content)


def plot(plan: Plan, path: str | None = None) -> Any:
    """Draws the bytes of each residual before and after; returns the figure.

    `path`: a file to write it to. Raises `ImportError` without matplotlib
    (`pip install epmc_jax[plot]`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    positions = range(len(plan.rows))
    axes.bar(positions, [r.dense_bytes / 1e6 for r in plan.rows], label="array")
    axes.bar(positions, [r.encoded_bytes / 1e6 for r in plan.rows], label="encoded")
    axes.set(xlabel="residual, in the order of the forward pass", ylabel="MB")
    axes.legend()
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
