"""`compress` for Flax: linen and nnx modules. Imported only where Flax is in use."""
