"""Benchmarks and the demo of epmc_jax: `python -m bench --help`."""
