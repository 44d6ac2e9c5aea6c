"""The tables of `python -m bench codecs`, for the screen and for the documentation."""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from bench import codecs_data
from bench.codecs_measure import SUBJECTS
from bench.codecs_ours import DENSE_4
from bench.codecs_process import BEST
from bench.codecs_subject import Bar

HEADER = (
    "codec",
    "bits",
    "error",
    "encode GB/s",
    "/ memcpy",
    "bar",
    "decode GB/s",
    "/ memcpy",
    "bar",
)
SIZE_HEADER = (
    "codec",
    "bits",
    "CSR / this",
    "bar",
    "error",
    "dense 4 bits' / this",
    "bar",
)
POOL_HEADER = ("call", "time", "XLA's", "this / XLA's", "bar")
BAR_NBYTES = 48 << 20
"""Bars hold beyond the caches: for smaller arrays there is no verdict."""
FACTORS = {BEST: 1.0, "avx2": 0.7}
"""What part of a bar an instruction set must reach; others have none."""

CSR_NOTE = "CSR: float32 values, int32 indices, int32 row starts"

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, names of columns, rows of cells, and remarks below."""

    title: str
    header: Sequence[str]
    cells: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The table as Markdown has it; the first column is text."""
        rule = ["---"] + ["---:"] * (len(self.header) - 1)
        lines = (self.header, rule, *self.cells)
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"**{self.title}**\n\n{table}\n" + (f"\n{notes}" if notes else "")


def tables(rows: Sequence[Row]) -> Iterator[Table]:
    """A table for each kind of data among the rows of one configuration."""
    pools = [row for row in rows if "encode_per_rival" in row]
    for data, text in codecs_data.KINDS.items():
        found = [row for row in rows if row["data"] == data and row not in pools]
        if found:
            cells = [_cells(row) for row in found]
            yield Table(f"{text}: {title(found)}", HEADER, cells, [*_notes(found)])
    for data, density in codecs_data.DENSITIES.items():
        cells = [*_size_cells([row for row in rows if row["data"] == data])]
        if cells:
            text = f"ReLU, density {density}, {rows[0]['dtype']}: size and error"
            yield Table(text, SIZE_HEADER, cells, [CSR_NOTE])
    for row in pools:
        cells = [_pool_cells(row, call) for call in ("encode", "decode")]
        yield Table(f"{row['codec']}, {title([row])}", POOL_HEADER, cells)


def title(rows: Sequence[Row]) -> str:
    """What the rows have in common."""
    first = rows[0]
    threads = f"{first['threads']} thread{'s' if first['threads'] > 1 else ''}"
    size = f"{first['raw_nbytes'] / 2**20:.1f} MiB"
    text = f"{first['dtype']}, {size}, {threads}, instruction set: {first['isa']}"
    timed = [row for row in rows if "memcpy_ms" in row]
    if not timed:
        return text
    speed = statistics.median(_gigabytes(row, "memcpy") for row in timed)
    busy = statistics.median(row["busy_cores"] for row in timed)
    return f"{text}; memcpy {speed:.1f} GB/s; {busy:.2f} cores busy"


def bar_of(row: Row) -> Bar:
    """What the row's subject has to reach; nothing where bars do not apply."""
    applies = row["dtype"] == "float32" and row["raw_nbytes"] >= BAR_NBYTES
    if not applies or row["isa"] not in FACTORS:
        return Bar()
    key = row["codec"], row["data"]
    bar = next((s.bar for s in SUBJECTS if (s.name, s.data) == key), Bar())
    factor = FACTORS[row["isa"]]
    return dataclasses.replace(
        bar,
        encode=_times(bar.encode, factor),
        decode=_times(bar.decode, factor),
        encode_per_rival=_times(bar.encode_per_rival, 1 / factor),
        decode_per_rival=_times(bar.decode_per_rival, 1 / factor),
    )


def _times(limit: float | None, factor: float) -> float | None:
    return None if limit is None else limit * factor


def _cells(row: Row) -> tuple[str, ...]:
    if "missing" in row:
        hint = f"{row['codec']}: pip install {row['missing']}"
        return hint, *[""] * (len(HEADER) - 1)
    error = f"{row['relative_error']:.1e}" if row["relative_error"] else "exact"
    bar = bar_of(row)
    return (
        row["codec"],
        f"{row['rate']:.3f}",
        error,
        f"{_gigabytes(row, 'encode'):.2f}",
        _ratio(row["encode_per_memcpy"]),
        _at_least(bar.encode, row["encode_per_memcpy"][1]),
        f"{_gigabytes(row, 'decode'):.2f}",
        _ratio(row["decode_per_memcpy"]),
        _at_least(bar.decode, row["decode_per_memcpy"][1]),
    )


def _size_cells(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Of rows with one kind of data, those that keep values (a mask keeps none)."""
    dense = next((row for row in rows if row["codec"] == DENSE_4), None)
    for row in rows:
        if "missing" in row or row["decoded_nbytes"] != row["raw_nbytes"]:
            continue
        if "encode_per_rival" in row:
            continue
        bar, error = bar_of(row), row["relative_error"]
        smaller = row["csr_nbytes"] / row["encoded_nbytes"]
        below = dense["relative_error"] / error if dense and error else None
        yield (
            row["codec"],
            f"{row['rate']:.3f}",
            f"{smaller:.2f}",
            _at_least(bar.csr_per_size, smaller),
            f"{error:.1e}" if error else "exact",
            "" if below is None else f"{below:.2f}",
            "" if below is None else _at_least(bar.dense_per_error, below),
        )


def _pool_cells(row: Row, call: str) -> tuple[str, ...]:
    name = {"encode": "max-pool and index", "decode": "gradient from index"}[call]
    limit = getattr(bar_of(row), f"{call}_per_rival")
    found = row[f"{call}_per_rival"]
    met = "" if limit is None else f"{limit:.3g} {_word(found[1] <= limit)}"
    taken, rival = row[f"{call}_ms"], row[f"rival_{call}_ms"]
    return name, f"{taken:.2f} ms", f"{rival:.2f} ms", _ratio(found), met


def _notes(rows: Sequence[Row]) -> Iterator[str]:
    for row in rows:
        if row.get("note"):
            yield f"{row['codec']}: {row['note']}."
        if "missing" not in row and row["decoded_nbytes"] != row["raw_nbytes"]:
            part = row["decoded_nbytes"] / row["raw_nbytes"]
            median = row["decode_per_memcpy"][1]
            yield (
                f"{row['codec']} decodes to {part:.2g} of the raw bytes. Decode and "
                f"its bar count raw bytes; per decoded byte it is {part * median:.2f} "
                "of memcpy."
            )


def _gigabytes(row: Row, call: str) -> float:
    return row["raw_nbytes"] / row[f"{call}_ms"] / 1e6


def _ratio(quartiles: Sequence[float]) -> str:
    """The median, and half of what lies between the quartiles."""
    low, median, high = quartiles
    return f"{median:.2f} ± {(high - low) / 2:.2f}"


def _at_least(limit: float | None, found: float) -> str:
    return "" if limit is None else f"{limit:.3g} {_word(found >= limit)}"


def _word(is_met: bool) -> str:
    return "met" if is_met else "missed"
