"""What ptxas makes of the kernels, for all GPUs: no spills, wide loads, registers."""

import os
import re

import pytest

from bench import cuda_kernels, sass

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("nvcc")]


def _budget_of(kernels, name):
    found = (one for one in kernels.budgets if re.search(one.pattern, name))
    return next(found, None)


@pytest.mark.parametrize("kernels", cuda_kernels.ALL, ids=lambda one: one.folder)
def test_machine_code(kernels, monkeypatch):
    """For the oldest and the newest GPUs; `make test-cuda` takes all."""
    if os.environ.get("EPMC_TEST_CASES") != "all":
        ends = sass.ARCHITECTURES[0], sass.ARCHITECTURES[-1]
        monkeypatch.setattr(sass, "ARCHITECTURES", ends)
    machines = sass.machines(kernels.folder)
    seen = {machine.architecture for machine in machines}
    assert seen == {f"sm_{number}" for number in sass.ARCHITECTURES}
    for machine in machines:
        name = f"{machine.architecture} {machine.kernel}"
        budget = _budget_of(kernels, machine.kernel)
        assert budget is not None, f"no budget for {name}"
        assert machine.instructions, name
        assert machine.count(r"LDL|STL") == 0, f"{name} spills"
        assert machine.stack_nbytes == machine.local_nbytes == 0, name
        assert machine.registers <= budget.registers, name
        has_wide_loads = machine.count(r"LDG\.E\.(\w+\.)*128") > 0
        assert has_wide_loads or not budget.has_wide_loads, name


SPILLING = r"""
__global__ void __launch_bounds__(1024) Spills(float* x) {
  float values[200];
  for (int i = 0; i < 200; ++i) values[i] = x[i * threadIdx.x];
  for (int i = 0; i < 200; ++i) x[i] = values[(i * blockIdx.x) % 200];
}
"""


def test_a_spill_is_seen(tmp_path, monkeypatch):
    """A test of the test: an array that is indexed at run time lies in local memory."""
    source = tmp_path / "spills.cu"
    source.write_text(SPILLING)
    monkeypatch.setattr(sass, "source_of", lambda folder: source)
    monkeypatch.setattr(sass, "ARCHITECTURES", (90,))
    (machine,) = sass.machines.__wrapped__("spills")
    assert machine.count(r"LDL|STL") > 0
    assert machine.stack_nbytes > 0
