"""Runs the code blocks of a page of documentation: `python -m tests.documents PAGE`."""

from __future__ import annotations

import contextlib
import io
import pathlib
import re
import sys

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_blocks(page: pathlib.Path) -> list[tuple[str, str]]:
    """What each block prints, and what the page shows for it, in pairs.

    The blocks share one namespace; a `text` block shows the output of the code before.
    """
    text = page.read_text()
    namespace = {"__name__": page.stem}
    pairs: list[tuple[str, str]] = []
    printed = ""
    for match in BLOCK.finditer(text):
        if match[1] == "text":
            pairs.append((printed, match[2]))
            printed = ""
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(_compile(page, text, match), namespace)
        printed += out.getvalue()
    return pairs if not printed else [*pairs, (printed, "")]


def _compile(page: pathlib.Path, text: str, match: re.Match[str]) -> object:
    """The block as code whose line numbers are those of the page."""
    lines_before = text[: match.start(2)].count("\n")
    return compile("\n" * lines_before + match[2], str(page), "exec")


if __name__ == "__main__":
    for found, shown in run_blocks(pathlib.Path(sys.argv[1])):
        if found != shown:
            sys.exit(f"printed:\n{found}\nshown:\n{shown}")
