"""Reference networks, as published, for the benchmarks: flax.nnx and flax.linen."""
