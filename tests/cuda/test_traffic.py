"""What nvcc makes of the kernels: the bytes they write, and the memory they touch."""

import shutil

import numpy as np
import pytest

from bench import cuda, cuda_kernels, ptx, ptx_code

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc in PATH")
CASES = [
    pytest.param(kernels.folder, case, dtype, id=f"{case.name} {dtype}")
    for kernels in cuda_kernels.ALL
    for case in kernels.cases
    for dtype in case.dtypes
]


def _bytes(x):
    return np.asarray(x).view(np.uint8)


@needs_nvcc
@pytest.mark.parametrize(("folder", "case", "dtype"), CASES)
def test_each_sector_is_touched_once(folder, case, dtype):
    launch = case.prepare(dtype)
    traffic = cuda.count(folder, launch)
    assert traffic.nbytes <= launch.allowed_excess * traffic.ideal_nbytes
    assert launch.results
    for written, expected in launch.results:
        np.testing.assert_array_equal(_bytes(written), _bytes(expected))


SCATTERED = """
.entry scattered(.param .u64 scattered_param_0)
{
  .reg .b32 %r<2>;
  .reg .b64 %rd<4>;
  ld.param.u64 %rd1, [scattered_param_0];
  mov.u32 %r1, %tid.x;
  mul.wide.u32 %rd2, %r1, STRIDE;
  add.s64 %rd3, %rd1, %rd2;
  st.global.u32 [%rd3+OFFSET], %r1;
  ret;
}
"""


def _scatter(stride, offset, nbytes):
    text = SCATTERED.replace("STRIDE", str(stride)).replace("OFFSET", str(offset))
    (kernel,) = ptx_code.parse(text)
    return ptx.Launch(kernel, 1, 32, [np.zeros(nbytes, np.uint8)]).counts


def test_the_simulator_counts_and_checks():
    assert _scatter(4, 0, 128).store_sectors == 4
    assert _scatter(32, 0, 1024).store_sectors == 32
    with pytest.raises(ptx.PtxError, match="out of bounds"):
        _scatter(4, 4, 128)
    with pytest.raises(ptx.PtxError, match="misaligned"):
        _scatter(4, 2, 256)
