"""A test of the tests: each planted bug is found, by the route named here."""

import subprocess

import pytest

ORDERS = ("0", "1", "2")
REPORTED = {
    "divergent_barrier": "__syncthreads reached from different places",
    "deadlock": "not every live thread of the mask or block arrives",
    "not_in_its_mask": "a lane is not in its own mask",
    "different_intrinsics": "lanes of one mask execute different warp intrinsics",
}
# Memory that nothing wrote, and lanes that do not take part, give a pattern.
POISONED = {"uninitialised": "first cbcbcbcb", "shuffle_from_absent_lane": "dbdbdbdb"}


@pytest.fixture
def run(emulator_build):
    def run(name, order):
        command = [emulator_build / "planted_bugs", name, order]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def test_a_correct_kernel_passes_in_every_order(run):
    results = {run("correct", order).stdout for order in ORDERS}
    assert len(results) == 1
    assert "error" not in results.pop()


def test_a_missing_barrier_gives_other_results_in_another_order(run):
    expected = run("correct", "0").stdout
    assert {run("missing_barrier", order).stdout for order in ORDERS} - {expected}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", REPORTED)
def test_reported(run, name, order):
    assert REPORTED[name] in run(name, order).stdout


@pytest.mark.parametrize("name", POISONED)
def test_poisoned(run, name):
    assert POISONED[name] in run(name, "0").stdout


@pytest.mark.parametrize("name", ["global_out_of_bounds", "shared_out_of_bounds"])
def test_address_sanitizer_ends_it(run, name):
    done = run(name, "0")
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
