"""`python -m bench codecs`: size, error and speed of every codec, beside others.

The arrays, 64 MiB each, are a trained network's activations (`bench.codecs_data`). Each
configuration of threads, instruction set and dtype is measured in a process of its own,
with as many cores as threads and huge pages that stay in the process; what is in a time
says `bench.codecs_measure`. Throughput counts raw bytes; as a ratio it is memcpy's time
over the call's, turn by turn, median and half the distance of the quartiles.
"""

import argparse
import itertools
import pathlib
import tempfile
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from bench import codecs_data, record, tables
from bench.codecs_measure import SUBJECTS
from bench.codecs_process import BEST, TUNABLES, Configuration
from bench.codecs_subject import FLOATS
from bench.codecs_tables import Table
from bench.codecs_tables import tables as tables_of

MEBIBYTES, SECONDS = 64, 0.6
QUICK_MEBIBYTES, QUICK_SECONDS = 4, 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1], help="also the number of cores"
    )
    parser.add_argument(
        "--isa", nargs="+", default=[BEST], help="best, or values of EPMC_ISA"
    )
    parser.add_argument("--dtype", nargs="+", default=["float32"], choices=FLOATS)
    parser.add_argument("--only", nargs="+", help="parts of the names of codecs")
    parser.add_argument("--quick", action="store_true", help="small arrays, no bars")
    parser.add_argument("--markdown", action="store_true", help="tables as Markdown")


def run(options: argparse.Namespace, console: Console) -> None:
    """Measures each configuration; shows its tables. Rows are recorded as they come."""
    names = select(options.only)
    mebibytes = QUICK_MEBIBYTES if options.quick else MEBIBYTES
    console.print(f"measured with GLIBC_TUNABLES={TUNABLES}", style="dim")
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "activations.npz"
        with console.status(f"training the network whose {mebibytes} MiB are encoded"):
            codecs_data.trained(mebibytes << 20).save(path)
        for threads, isa, dtype in itertools.product(
            options.threads, options.isa, options.dtype
        ):
            configuration = Configuration(
                threads=threads,
                isa=isa,
                dtype=dtype,
                names=names,
                data=str(path),
                nbytes=mebibytes << 20,
                seconds=QUICK_SECONDS if options.quick else SECONDS,
            )
            for table in _measured(configuration, console):
                show(table, console, as_markdown=options.markdown)
    console.print(f"recorded in {record.BUILD / 'bench' / 'codecs.jsonl'}")


def select(parts: list[str] | None) -> tuple[str, ...]:
    """The names of subjects that contain one of the parts, whatever the case.

    Raises: `ValueError` for a part that no name contains.
    """
    names = tuple(dict.fromkeys(subject.name for subject in SUBJECTS))
    if parts is None:
        return names
    for part in parts:
        if not any(part.lower() in name.lower() for name in names):
            raise ValueError(f"no codec {part}; there are: {', '.join(names)}.")
    return tuple(n for n in names if any(p.lower() in n.lower() for p in parts))


def show(table: Table, console: Console, *, as_markdown: bool) -> None:
    """Writes a table and its notes, in one of two forms."""
    if as_markdown:
        console.out(table.markdown(), highlight=False)
        return
    tables.show(console, table.title, table.header, table.cells)
    for note in table.notes:
        console.print(f"- {note}", style="dim")


def _measured(configuration: Configuration, console: Console) -> Iterator[Table]:
    """Measures one configuration; an interrupt leaves the rows that were there."""
    rows: list[dict[str, Any]] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    try:
        with Progress(*columns, console=console, transient=True) as progress:
            total = sum(map(configuration.wants, SUBJECTS))
            task = progress.add_task("starting", total=total)
            for message in configuration.measure():
                if "started" in message:
                    progress.update(task, description=message["started"])
                else:
                    rows.append(message)
                    progress.advance(task)
    except KeyboardInterrupt:
        console.print("interrupted; what was measured:")
        yield from tables_of(rows)
        raise
    yield from tables_of(rows)
