"""Errors that callers may catch."""


class SecondOrderError(TypeError):
    """A derivative was taken through encoded bytes, which know of none.

    Gradients of a compressed function are gradients once; for `jax.jvp`, `jax.hessian`
    or a gradient of a gradient trace it inside `with epmc_jax.disable():`.
    """
