"""Settings shared by all tests: the CPU, no optimised machine code, no time limits."""

import os

# Before jax is imported. A test that needs another platform starts its own process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# LLVM's optimisation is two thirds of the time of the tests. It comes after XLA has
# placed and ordered the arrays: memory is the same without it.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import hypothesis
import jax
import pytest

from epmc_jax import _kernels

# The first example of a shape compiles for a second; that is not the test's subject.
hypothesis.settings.register_profile("epmc", deadline=None, max_examples=25)
hypothesis.settings.load_profile("epmc")


@pytest.fixture(scope="module")
def optimized():
    """Machine code as users have it: additions may be contracted, say."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(params=[True, False], ids=["library", "no library"])
def has_library(request, monkeypatch):
    """Programs for NVIDIA GPUs are lowered as with the CUDA library, and as without."""
    targets = _kernels._CUDA_TARGETS if request.param else ()
    monkeypatch.setattr(_kernels, "has_cuda_kernel", lambda target: target in targets)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()
