"""Data parallel over four devices: nothing is gathered, gradients stay."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.parametrize(("policy", "bound"), [("exact", 1e-5), ("precise", 0.02)])
def test_encoded_arrays_stay_on_their_device(policy, bound):
    command = [sys.executable, "-m", "tests.sharding_program", policy]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["gathers"] == found["plain_gathers"]
    assert found["error"] < bound
    assert found["temp"] < found["plain_temp"]
