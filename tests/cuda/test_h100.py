"""Order and memory on an H100 that is not there; needs jax's CUDA plug-in."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

from bench import environment

ROOT = pathlib.Path(__file__).parent.parent.parent
HAS_PLUGIN = any(
    map(importlib.util.find_spec, ("jax_cuda13_plugin", "jax_cuda12_plugin"))
)
HAS_LIBRARY = (ROOT / "epmc_jax" / "_epmc_cuda.so").exists()
DEPTH, BATCH, WIDTH = 6, 2048, 512
ARRAY_BYTES = 4 * BATCH * WIDTH
# In a process of its own: what makes jax compile for CUDA stands before it starts.
PROGRAM = f"""
import json
import epmc_jax
from bench import overlap, problems
from bench.measure import temp_bytes
problem = problems.gelu_mlp(batch={BATCH}, width={WIDTH}, depth={DEPTH})
rows = []
for variant in overlap.VARIANTS:
    compiled = overlap.compile_variant(problem, "balanced", variant)
    found = epmc_jax.schedule(compiled)
    rows.append(overlap.count(found) | {{
        "temp_bytes": temp_bytes(compiled),
        "live_bytes": max(found.live_bytes),
    }})
print(json.dumps(rows))
"""


@pytest.fixture(scope="module")
def rows():
    if not (HAS_PLUGIN and HAS_LIBRARY):
        pytest.skip('needs pip install "jax[cuda13]" and the CUDA library')
    variables = os.environ | environment.DEVICELESS | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PROGRAM]
    out = subprocess.run(
        command, env=variables, capture_output=True, text=True, cwd=ROOT
    )
    assert out.returncode == 0, out.stderr[-2000:]
    return json.loads(out.stdout.splitlines()[-1])


def test_all_but_the_last_encode_are_hidden(rows):
    assert [row["encode_calls"] for row in rows] == [DEPTH] * 3
    assert rows[0]["encode_hidden"] == 0
    assert rows[1]["encode_hidden"] >= DEPTH - 1


def test_memory_grows_by_no_more_than_the_lag(rows):
    synchronous = rows[0]["temp_bytes"]
    for lag, row in enumerate(rows):
        assert row["temp_bytes"] <= synchronous + (lag + 0.1) * ARRAY_BYTES


def test_the_estimate_is_near(rows):
    for row in rows:
        assert row["live_bytes"] == pytest.approx(row["temp_bytes"], rel=0.2)
