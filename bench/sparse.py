"""`python -m bench sparse`: stored residuals of the ReLU networks, against CSR.

At initialisation, of one image of normal noise. CSR keeps a float32 and an int32 per
nonzero element of what `balanced` stores as floats; masks and pool indices, which
`balanced` stores too, cost it nothing here.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bench import record, summaries
from bench.networks import NETWORKS, RELU
from bench.progress import progress
from bench.sparse_bytes import residual_bytes
from bench.tables import megabytes, show

HEADER = ("network", "CSR", "CSR or dense", "stored", "CSR / stored", "less / stored")
KEYS = ("network",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--networks", nargs="+", choices=RELU, default=RELU)


def run(options: argparse.Namespace, console: Console) -> None:
    """Runs each network's forward pass once; shows a table and records it."""
    rows: list[dict[str, Any]] = []
    with progress(console) as bar:
        task = bar.add_task("", total=len(options.networks))
        for name in options.networks:
            bar.update(task, description=name)
            problem = NETWORKS[name].make(batch=1)
            row = {"network": name, "problem": problem.name}
            rows.append(row | residual_bytes(problem))
            record.append("sparse", rows[-1:])
            bar.advance(task)
    show(console, "Residuals under balanced, against CSR", HEADER, cells(rows))
    summaries.show_bars(console, [summaries.sparse_bar(rows)])
    console.print(f"recorded in {record.path_of('sparse')}")


def cells(rows: Sequence[record.Row]) -> list[tuple[str, ...]]:
    """The table's rows."""
    return [
        (
            row["network"],
            megabytes(row["csr_bytes"]),
            megabytes(row["sparse_bytes"]),
            megabytes(row["stored_bytes"]),
            f"{row['csr_bytes'] / row['stored_bytes']:.1f}",
            f"{row['sparse_bytes'] / row['stored_bytes']:.1f}",
        )
        for row in rows
    ]
