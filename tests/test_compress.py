"""What `compress` accepts; tests/test_errors.py has the rest."""

import jax
import jax.numpy as jnp

import epmc_jax

X = jnp.linspace(-1, 1, 2**16).reshape(256, 256)


def test_as_a_decorator_with_and_without_arguments():
    @epmc_jax.compress
    def plain(x):
        """Docs."""
        return jnp.sin(x).sum()

    @epmc_jax.compress(policy=epmc_jax.policies.exact(), encode_argnums=(0,))
    def with_arguments(x):
        return jnp.sin(x).sum()

    assert plain.__name__ == "plain"
    assert plain.__doc__ == "Docs."
    assert jnp.allclose(jax.grad(plain)(X), jax.grad(with_arguments)(X), atol=1e-6)


def test_leaves_that_are_no_arrays_are_static():
    @epmc_jax.compress
    def fun(x, *, scale, mode):
        return {"y": jnp.sin(x) * scale if mode == "sin" else x, "mode": mode}

    out = fun(X, scale=2.0, mode="sin")
    assert out["mode"] == "sin"
    assert jnp.allclose(out["y"], 2 * jnp.sin(X))


def test_saved_inputs_are_encoded_where_asked():
    def fun(w, x):
        return (jnp.sin(x) @ w).sum()

    kept = epmc_jax.plan(epmc_jax.compress(fun), X, X)
    assert kept.stored_bytes == 0
    encoded = epmc_jax.plan(epmc_jax.compress(fun, encode_argnums=(1,)), X, X)
    assert 0 < encoded.stored_bytes < X.nbytes / 3
