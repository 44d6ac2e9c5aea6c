"""What nvcc makes of the kernels: the bytes they write, and the memory they touch."""

import numpy as np
import pytest

from bench import cuda, cuda_kernels
from epmc_jax import machines

pytestmark = [pytest.mark.native, pytest.mark.usefixtures("nvcc")]
CASES = [
    pytest.param(kernels.folder, case, dtype, id=f"{case.name} {dtype}")
    for kernels in cuda_kernels.ALL
    for case in kernels.cases
    for dtype in case.dtypes
]


def _bytes(x):
    return np.asarray(x).view(np.uint8)


@pytest.mark.parametrize(("folder", "case", "dtype"), CASES)
def test_each_sector_is_touched_once(folder, case, dtype):
    launch = case.prepare(dtype)
    traffic = cuda.count(folder, launch)
    assert traffic.nbytes <= launch.allowed_excess * traffic.ideal_nbytes
    assert launch.results
    # What the model of a machine takes for it, where it takes anything, is no less.
    for way in {"encode", "decode", "mask"}.intersection(case.name.split()):
        assumed = machines.kernel_instructions(f"epmc_{folder}_{way}", 1)
        assert not assumed or traffic.instructions < assumed + 0.5
    for written, expected in launch.results:
        np.testing.assert_array_equal(_bytes(written), _bytes(expected))
