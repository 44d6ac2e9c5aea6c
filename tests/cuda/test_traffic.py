"""What nvcc makes of the kernels: memory traffic, bytes, registers. No GPU runs."""

import re
import shutil
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest

from bench import cuda, ptx, ptx_code

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc in PATH")

DTYPES = tuple(cuda.DTYPES)
FOLDERS = ("bit_mask", "group_quant")
# A multiprocessor's 65536 registers are 1365 threads of 48, or 512 of 128; each has 32,
# or 128, bytes on their way from memory: 43 KiB, or 64, are enough to hide its latency.
# The larger are the kernels for groups of 1024.
USUAL_REGISTERS, MOST_REGISTERS = 48, 128


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", cuda.CODECS)
def test_encoders_touch_each_sector_once(name, dtype):
    codec = cuda.CODECS[name]
    traffic = cuda.encode(codec, dtype)
    assert traffic.nbytes <= 1.05 * traffic.ideal_nbytes
    expected = codec.encode_reference(jnp.asarray(cuda.example(dtype)))
    np.testing.assert_array_equal(traffic.result, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", cuda.CODECS)
def test_decoders_touch_each_sector_once(name, dtype):
    codec = cuda.CODECS[name]
    traffic = cuda.decode(codec, dtype)
    assert traffic.nbytes <= 1.05 * traffic.ideal_nbytes
    x = jnp.asarray(cuda.example(dtype))
    expected = codec.encode(x).decode()
    result = traffic.result.view(np.uint8)
    np.testing.assert_array_equal(result, np.asarray(expected).view(np.uint8))


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


def _resources(folder, architecture, tmp_path):
    """Each kernel's registers, and all that ptxas says of stacks and spills."""
    source = tmp_path / "kernels.ptx"
    source.write_text(cuda.ptx_text(folder))
    command = ["nvcc", "-cubin", "-Xptxas", "-v", f"-arch={architecture}"]
    command += ["-o", tmp_path / "kernels.cubin", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    registers = re.findall(
        r"Compiling entry function '(\w+)'.*?Used (\d+) registers", done.stderr, re.S
    )
    return {name: int(count) for name, count in registers}, done.stderr


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100", "sm_120"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_no_spills_no_stack_few_registers(folder, architecture, tmp_path):
    registers, report = _resources(folder, architecture, tmp_path)
    assert registers
    used = "stack frame|bytes spill stores|bytes spill loads"
    assert set(re.findall(rf"(\d+) bytes (?:{used})", report)) <= {"0"}
    largest = "3F32ELi[248]ELi8|(4Bf16|3F16)ELi[248]ELi4"
    for name, count in registers.items():
        is_usual = re.search(largest, name) is None
        assert count <= (USUAL_REGISTERS if is_usual else MOST_REGISTERS), name
