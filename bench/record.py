"""Results on disk: one JSON line per row, each with all that it depends on."""

import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from bench import environment

BUILD = pathlib.Path("build")


def append(command: str, rows: Sequence[Mapping[str, Any]]) -> pathlib.Path:
    """Appends `rows` to `build/bench/<command>.jsonl` and returns its path."""
    path = BUILD / "bench" / f"{command}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    context = {"command": command, "time": now} | environment.describe()
    with path.open("a") as file:
        file.writelines(json.dumps({**row, **context}) + "\n" for row in rows)
    return path
