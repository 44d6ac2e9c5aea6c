"""Derivatives that an encoded residual cannot give raise, and the remedy works."""

import jax
import jax.numpy as jnp
import pytest

import epmc_jax

SMALL_TOO = epmc_jax.Policy(*epmc_jax.policies.precise().rules, min_bytes=0)
X = jax.random.normal(jax.random.key(0), (64, 64))


def loss(x):
    return jnp.sum(jnp.tanh(x @ X) ** 3)


def second(fun):
    return jax.grad(lambda x: jnp.sum(jax.grad(fun)(x) ** 2))(X)


def in_scan(fun):
    return lambda x: jax.lax.scan(lambda c, _: (c + fun(x), None), 0.0, length=2)[0]


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit, jax.checkpoint, in_scan])
def test_second_order_raises_and_names_the_remedy(wrap):
    with pytest.raises(epmc_jax.SecondOrderError, match=r"epmc_jax\.disable\(\)"):
        second(wrap(epmc_jax.compress(loss)))


def test_second_order_through_exact_residuals_is_right():
    compressed = epmc_jax.compress(loss, policy=epmc_jax.policies.exact())
    assert jnp.allclose(second(loss), second(compressed), rtol=1e-4, atol=1e-3)


FORWARD = {
    "jvp": lambda f: jax.jvp(f, (X,), (X,)),
    "jvp_of_jit": lambda f: jax.jvp(jax.jit(f), (X,), (X,)),
    "jvp_in_jit": lambda f: jax.jit(lambda x: jax.jvp(f, (x,), (x,)))(X),
    "jvp_of_scan": lambda f: jax.jvp(in_scan(f), (X,), (X,)),
    "linearize": lambda f: jax.linearize(f, X)[1](X),
    "jacfwd": lambda f: jax.jacfwd(f)(X[:2]),
    "hessian": lambda f: jax.hessian(f)(X[:2]),
}


@pytest.mark.parametrize("forward", FORWARD.values(), ids=FORWARD)
def test_forward_mode_raises_and_names_the_remedy(forward):
    with pytest.raises(epmc_jax.SecondOrderError, match=r"epmc_jax\.disable\(\)"):
        forward(epmc_jax.compress(loss, policy=SMALL_TOO))


def test_disabled_functions_run_as_written():
    compressed = epmc_jax.compress(loss)
    with epmc_jax.disable():
        assert jnp.array_equal(second(loss), second(compressed))
        assert jnp.array_equal(
            jax.jvp(loss, (X,), (X,))[1], jax.jvp(compressed, (X,), (X,))[1]
        )
    with pytest.raises(epmc_jax.SecondOrderError, match=r"epmc_jax\.disable\(\)"):
        second(compressed)


@pytest.mark.parametrize("forward", FORWARD.values(), ids=FORWARD)
def test_disabled_functions_have_forward_derivatives(forward):
    with epmc_jax.disable():
        found = forward(epmc_jax.compress(loss))
    pairs = zip(jax.tree.leaves(forward(loss)), jax.tree.leaves(found), strict=True)
    assert all(jnp.allclose(a, b, rtol=1e-4, atol=1e-2) for a, b in pairs)


def test_disable_reaches_what_jit_has_traced_before():
    compressed = jax.jit(epmc_jax.compress(loss))
    jax.grad(compressed)(X)
    with epmc_jax.disable():
        assert jnp.allclose(
            jax.jvp(compressed, (X,), (X,))[1], jax.jvp(loss, (X,), (X,))[1]
        )
        assert jnp.allclose(second(compressed), second(loss), rtol=1e-4, atol=1e-2)
    with pytest.raises(epmc_jax.SecondOrderError, match=r"epmc_jax\.disable\(\)"):
        second(compressed)
