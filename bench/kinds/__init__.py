"""Small networks of many kinds, in flax.linen and flax.nnx: what the pass must hold."""
