"""Builds the CUDA kernels for this machine's CPU, once, beside `make test-cpp`."""

import ctypes
import fcntl
import pathlib
import shutil
import subprocess
import sys

import jax
import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
BUILD = ROOT / "build" / f"cpp-{pathlib.Path(sys.prefix).name}"
# The codecs that have a CUDA kernel: folders of xla_ffi.
CODECS = (
    "bit_mask",
    "csr",
    "group_quant",
    "int_pack",
    "narrow",
    "pool_index",
    "sparse_fixed_rate",
)
# Those with `_races` behind are built with ThreadSanitizer.
TESTS = ("planted_bugs", *(f"{codec}_emulated_test" for codec in CODECS))
BUILT = ("_epmc_cuda_emulated", *TESTS, *(f"{test}_races" for test in TESTS))
TARGETS = (
    "epmc_pin",
    "epmc_bit_mask_encode",
    "epmc_bit_mask_decode",
    "epmc_csr_encode",
    "epmc_csr_decode",
    "epmc_group_quant_encode",
    "epmc_group_quant_decode",
    "epmc_int_pack_encode",
    "epmc_int_pack_decode",
    "epmc_max_pool",
    "epmc_narrow_encode",
    "epmc_narrow_decode",
    "epmc_pool_gradient",
    "epmc_sparse_fixed_rate_encode",
    "epmc_sparse_fixed_rate_decode",
    "epmc_sparse_fixed_rate_mask",
)


def _tool(name):
    beside_python = pathlib.Path(sys.executable).parent / name
    return str(beside_python) if beside_python.exists() else shutil.which(name)


@pytest.fixture(scope="session")
def nvcc():
    """For tests of what nvcc makes of the kernels."""
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc in PATH, and what it makes of the kernels is tested")


@pytest.fixture(scope="session")
def emulator_build():
    """The folder of the emulated library and the C++ tests of the kernels."""
    cmake, ninja = _tool("cmake"), _tool("ninja")
    if cmake is None or ninja is None:
        pytest.skip("no cmake or no ninja: pip install cmake ninja")
    BUILD.mkdir(parents=True, exist_ok=True)
    configure = [cmake, "-S", ROOT, "-B", BUILD, "-G", "Ninja", "-DEPMC_EMULATOR=ON"]
    configure += ["-DEPMC_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release"]
    configure += [
        f"-DCMAKE_MAKE_PROGRAM={ninja}",
        f"-DPython_EXECUTABLE={sys.executable}",
    ]
    build = [cmake, "--build", BUILD, "--parallel", "2", "--target", *BUILT]
    # Another worker of pytest-xdist may want to build at the same time.
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (configure, build):
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return BUILD / "xla_ffi"


@pytest.fixture(scope="session")
def emulator(emulator_build):
    """The emulated library; its targets are registered with `_emulated` behind."""
    library = ctypes.CDLL(str(emulator_build / "_epmc_cuda_emulated.so"))
    library.epmc_emulator_set_order.argtypes = (ctypes.c_int, ctypes.c_uint64)
    for target in TARGETS:
        handler = jax.ffi.pycapsule(getattr(library, target))
        jax.ffi.register_ffi_target(f"{target}_emulated", handler, platform="cpu")
    return library
