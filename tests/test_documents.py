"""The code of README and guides runs, and prints what they show."""

import pathlib
import subprocess
import sys

import pytest

from tests.documents import run_blocks

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs/guides").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_code_runs_and_prints_what_is_shown(page):
    if "XLA_FLAGS" not in page.read_text():
        for printed, shown in run_blocks(page):
            assert printed == shown
        return
    # The number of devices is fixed when jax starts: a process of its own.
    command = [sys.executable, "-m", "tests.documents", str(page)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_every_guide_is_in_the_index():
    index = (ROOT / "docs/guides/README.md").read_text()
    pages = {page.name for page in (ROOT / "docs/guides").glob("*.md")} - {"README.md"}
    assert {name for name in pages if f"({name})" in index} == pages
