"""Every instruction set makes the golden bytes, not only this processor's best."""

import os
import pathlib
import subprocess
import sys

import pytest

GOLDEN = pathlib.Path(__file__).parent / "test_golden.py"


def _run(isa, *arguments):
    """`python *arguments` with EPMC_ISA; a processor without `isa` takes its best."""
    env = {**os.environ, "EPMC_ISA": isa}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("isa", ["scalar", "avx2", "avx512"])
def test_golden_bytes(isa):
    done = _run(isa, "-m", "pytest", "-q", "-p", "no:cacheprovider", GOLDEN)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_unknown_name_is_reported():
    program = "import jax.numpy as jnp; from epmc_jax.codecs import BitMask\n"
    program += "for _ in range(2): print(BitMask().encode(jnp.ones(3)).rows)"
    done = _run("avx-512", "-c", program)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('EPMC_ISA is "avx-512", expected scalar, avx2') == 1
    assert "EPMC_ISA" not in _run("avx2", "-c", program).stderr
