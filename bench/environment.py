"""What a figure depends on besides the code: fixed here, and written beside it."""

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
FLAGS = (TUNABLES, "XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "OMP_NUM_THREADS")


def fix_tunables() -> None:
    """Starts the process anew with huge pages for malloc, unless tunables are set.

    Without them the speed of JAX on the CPU varies up to threefold between runs with
    how the pages happen to fall. glibc reads the variable at start-up only.
    """
    if TUNABLES not in os.environ and sys.platform == "linux":
        environment = os.environ | {TUNABLES: HUGE_PAGES}
        os.execve(sys.executable, sys.orig_argv, environment)


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


def _commit() -> str:
    """The commit, with `+` if the tree differs from it; empty outside of git."""
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
