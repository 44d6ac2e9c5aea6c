"""Results on disk: one JSON line per row, each with all that it depends on."""

import datetime
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import environment

BUILD = pathlib.Path("build")
Row = Mapping[str, Any]


def path_of(command: str) -> pathlib.Path:
    """Where the rows of a command are."""
    return BUILD / "bench" / f"{command}.jsonl"


def append(command: str, rows: Sequence[Row]) -> pathlib.Path:
    """Appends `rows` to `build/bench/<command>.jsonl` and returns its path."""
    path = path_of(command)
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    context = {"command": command, "time": now} | environment.describe()
    with path.open("a") as file:
        file.writelines(json.dumps({**row, **context}) + "\n" for row in rows)
    return path


def read(path: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a file, oldest first; none if it is not there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def newest(rows: Iterable[Row], keys: Sequence[str]) -> list[Row]:
    """The last row of each combination of `keys`, in the order of the first ones."""
    return list({tuple(row.get(key) for key in keys): row for row in rows}.values())


def already(command: str, **wanted: Any) -> dict[str, Any] | None:
    """The last row with the values `wanted` that is of this commit and these versions.

    What a run that was interrupted has measured, so that the next one need not.
    """
    here = environment.describe()
    wanted |= {name: here[name] for name in ("versions", "flags", "commit")}
    for row in reversed(read(path_of(command))):
        if all(row.get(name) == value for name, value in wanted.items()):
            return row
    return None
