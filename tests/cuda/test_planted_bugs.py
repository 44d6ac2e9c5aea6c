"""A test of the tests: each planted bug is found, by the route named here."""

import re
import subprocess

import numpy as np
import pytest

from bench import ptx, ptx_code

pytestmark = pytest.mark.native
ORDERS = ("0", "1", "2")
CORRECT = ("correct", "correct_in_warp")

# --- Emulation: the bug is an error with thread and line ------------------------------
REPORTED = {
    "divergent_barrier": "__syncthreads reached from different places",
    "deadlock": "not every live thread of the mask or block arrives",
    "not_in_its_mask": "a lane is not in its own mask",
    "different_intrinsics": "lanes of one mask execute different warp intrinsics",
}
# Memory that nothing wrote, and lanes that do not take part, give a pattern.
POISONED = {"uninitialised": "first cbcbcbcb", "shuffle_from_absent_lane": "dbdbdbdb"}
# --- Emulation under AddressSanitizer and UBSan ---------------------------------------
SANITIZED = {
    "global_out_of_bounds": "heap-buffer-overflow",
    "shared_out_of_bounds": "heap-buffer-overflow",
    "misaligned": "misaligned address",
}
# --- Emulation under ThreadSanitizer: a data race, with the kernel and a line of it ---
RACES = {
    "missing_barrier": "MissingBarrier",
    "missing_syncwarp": "MissingSyncwarp",
    "missing_second_syncwarp": "MissingSecondSyncwarp",
    "race_between_blocks": "RaceBetweenBlocks",
}


@pytest.fixture
def run(emulator_build):
    def run(name, order, program="planted_bugs"):
        command = [emulator_build / program, name, order]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_kernel_passes_in_every_order(run, name):
    done = [run(name, order) for order in ORDERS]
    done += [run(name, order, "planted_bugs_races") for order in ORDERS]
    assert {one.returncode for one in done} == {0}
    results = {one.stdout for one in done}
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


@pytest.mark.parametrize("name", SANITIZED)
def test_address_and_ub_sanitizer_end_it(run, name):
    done = run(name, "0")
    assert done.returncode != 0
    assert SANITIZED[name] in done.stderr


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", RACES)
def test_thread_sanitizer_reports_the_race(run, name, order):
    done = run(name, order, "planted_bugs_races")
    assert done.returncode != 0
    place = rf"data race \S*planted_bugs\.cc:\d+ in {RACES[name]}"
    assert re.search(place, done.stderr), done.stderr


# --- PTX: the simulator raises, or counts ---------------------------------------------
PTX = """
.shared .align 4 .b8 values[128];
.entry planted(.param .u64 planted_param_0)
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [planted_param_0];
  mov.u32 %r1, %tid.x;
  mov.u32 %r4, %ctaid.x;
  BODY
  ret;
}
"""
# Thread t of block b stores 4 bytes at STRIDE * t + BLOCK * b + OFFSET.
STORE = """
  mul.wide.u32 %rd2, %r1, STRIDE;
  mad.wide.u32 %rd2, %r4, BLOCK, %rd2;
  add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3+OFFSET], %r1;
"""


def _simulate(body, *, blocks=1, nbytes=256):
    (kernel,) = ptx_code.parse(PTX.replace("BODY", body))
    return ptx.Launch(kernel, blocks, 32, [np.zeros(nbytes, np.uint8)]).counts


def _store(stride=4, block=128, offset=0, **launch):
    numbers = {"STRIDE": stride, "BLOCK": block, "OFFSET": offset}
    body = STORE
    for name, number in numbers.items():
        body = body.replace(name, str(number))
    return _simulate(body, **launch)


def test_a_correct_launch_touches_each_sector_once():
    assert _store(blocks=2).store_sectors == 8


def test_scattered_stores_are_counted():
    assert _store(stride=32, nbytes=1024).store_sectors == 32


@pytest.mark.parametrize(
    ("bug", "message"),
    [
        ({"offset": 132}, "out of bounds"),
        ({"offset": -4}, "out of bounds"),
        ({"offset": 2}, "misaligned"),
        ({"blocks": 2, "block": 124}, "two blocks write"),
    ],
)
def test_wrong_stores_are_errors(bug, message):
    with pytest.raises(ptx.PtxError, match=message):
        _store(**bug)


VOTE = "vote.sync.ballot.b32 %r2, 1, MASK;"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (VOTE.replace("MASK", "65535"), "mask 0x0000ffff"),
        ("setp.lt.u32 %p1, %r1, 16;\n@%p1 " + VOTE.replace("MASK", "-1"), "not all"),
        (
            "setp.lt.u32 %p1, %r1, 16;\n@%p1 bar.sync 0;\n@!%p1 bar.sync 0;",
            "not reached by all",
        ),
        ("mov.u32 %r2, values;\nst.shared.u32 [%r2+128], %r1;", "out of bounds"),
    ],
)
def test_wrong_warp_and_block_operations_are_errors(body, message):
    with pytest.raises(ptx.PtxError, match=message):
        _simulate(body)


def test_memory_that_nothing_wrote_is_a_pattern():
    out = np.zeros(4, np.uint8)
    body = "mov.u32 %r3, values;\nld.shared.u32 %r2, [%r3];\nst.global.u32 [%rd1], %r2;"
    (kernel,) = ptx_code.parse(PTX.replace("BODY", body))
    ptx.Launch(kernel, 1, 1, [out])
    assert out.tobytes() == b"\xcb" * 4
