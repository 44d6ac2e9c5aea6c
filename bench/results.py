"""`python -m bench results`: writes docs/results.md, its pictures and README's summary.

All are made of the JSON lines in docs/results alone. `--add` takes over what the
commands have recorded in build/bench since: of rows that measure the same, the newest.
"""

import argparse
import json
import pathlib

from rich.console import Console

from bench import (
    memory,
    noise,
    pages,
    pictures,
    readme,
    record,
    sparse,
    step_time,
    train,
)

DOCS = pathlib.Path("docs")
KEYS = {
    "memory": memory.KEYS,
    "sparse": sparse.KEYS,
    "step": step_time.KEYS,
    "train": train.KEYS,
    "noise": noise.KEYS,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument(
        "--add", nargs="*", choices=[*KEYS], help="of these commands; alone: of all"
    )


def run(options: argparse.Namespace, console: Console) -> None:
    """Takes rows over, then writes the page, its pictures and the summary."""
    if options.add is not None:
        for command in options.add or KEYS:
            take_over(command)
    found = {command: read(command) for command in KEYS}
    page = DOCS / "results.md"
    page.write_text(pages.page(found))
    drawn = pictures.draw(DOCS / "pictures", found)
    readme.write(found)
    written = (page, readme.PATH, *drawn)
    console.print(f"written: {', '.join(map(str, written))}")


def read(command: str) -> list[record.Row]:
    """The rows that the page is made of."""
    return [*record.read(_path(command))]


def take_over(command: str) -> None:
    """Adds this checkout's records of `command` to those of the page."""
    rows = [*read(command), *record.read(record.path_of(command))]
    if not rows:
        return
    kept = record.newest(rows, KEYS[command])
    _path(command).parent.mkdir(parents=True, exist_ok=True)
    _path(command).write_text("".join(json.dumps(row) + "\n" for row in kept))


def _path(command: str) -> pathlib.Path:
    return DOCS / "results" / f"{command}.jsonl"
