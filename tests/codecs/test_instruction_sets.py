"""Every instruction set makes the golden bytes, not only this processor's best."""

import os
import pathlib
import subprocess
import sys

import pytest

GOLDEN = pathlib.Path(__file__).parent / "test_golden.py"


@pytest.mark.parametrize("isa", ["scalar", "avx2"])
def test_golden_bytes(isa):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", GOLDEN]
    env = {**os.environ, "EPMC_ISA": isa}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
