"""What a figure depends on besides the code: fixed here, and written beside it."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "epmc_jax")
DEVICELESS = {
    # Autotuning runs candidates on the device; so does the choice of Triton's tiles.
    "XLA_FLAGS": "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false "
    "--xla_gpu_experimental_stream_annotation=true",
    # "cpu" would hide the plug-in; with the check it loads only beside a driver.
    "JAX_PLATFORMS": "",
    "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
}
FLAGS = (TUNABLES, "XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "OMP_NUM_THREADS")


def fix(*, deviceless: bool) -> None:
    """Starts the process anew with the variables that must stand before jax starts.

    Huge pages for malloc, unless tunables are set: without them the speed of JAX on the
    CPU varies up to threefold between runs with how the pages happen to fall. glibc
    reads the variable at start-up only. `deviceless`: also what compiling for a GPU
    that is not there needs.
    """
    wanted = {}
    if TUNABLES not in os.environ and sys.platform == "linux":
        wanted[TUNABLES] = HUGE_PAGES
    if deviceless:
        wanted |= DEVICELESS
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)


def describe() -> dict[str, Any]:
    """Machine, versions, flags and commit, for the record of a measurement."""
    return {
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "flags": {name: os.environ[name] for name in FLAGS if name in os.environ},
        "commit": _commit(),
    }


def one_line() -> str:
    """The same in one line, for the screen."""
    found = describe()
    versions = found["versions"]
    flags = " ".join(f"{name}={value}" for name, value in found["flags"].items())
    return (
        f"{found['machine']['processor']}, {found['machine']['cores']} cores; "
        f"Python {versions['python']}, jax {versions['jax']}; {flags}"
    )


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def _commit() -> str:
    """The commit, with `+` if the tree differs from it; empty outside of git.

    Asked once, at the start: what is changed during a long run is not what runs.
    """
    root = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        try:
            out = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return ""
        return out.stdout.strip()

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + "+" if git("status", "--porcelain", "-uno") else commit
