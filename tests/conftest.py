"""Settings shared by all tests: the CPU, and no time limit on generated examples."""

import os

# Before jax is imported. A test that needs another platform starts its own process.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import hypothesis

# The first example of a shape compiles for a second; that is not the test's subject.
hypothesis.settings.register_profile("epmc", deadline=None, max_examples=25)
hypothesis.settings.load_profile("epmc")
