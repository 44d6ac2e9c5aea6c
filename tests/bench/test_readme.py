"""The README's code runs, and prints what the README shows."""

import contextlib
import io
import pathlib
import re

README = pathlib.Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _compile(text, match):
    """The block as code whose line numbers are those of the README."""
    lines_before = text[: match.start(2)].count("\n")
    return compile("\n" * lines_before + match[2], README.name, "exec")


def test_code_runs_and_prints_what_is_shown():
    text = README.read_text()
    namespace = {"__name__": "readme"}
    printed, shown = [], []
    for match in BLOCK.finditer(text):
        if match[1] == "text":
            shown.append(match[2])
            continue
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(_compile(text, match), namespace)
        if out.getvalue():
            printed.append(out.getvalue())
    assert printed == shown
