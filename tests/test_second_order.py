"""Derivatives that an encoded residual cannot give raise, and the remedy works."""

import jax
import jax.numpy as jnp
import pytest

import epmc_jax

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


@pytest.mark.parametrize(
    "forward",
    [lambda f: jax.jvp(f, (X,), (X,)), lambda f: jax.hessian(f)(X)],
)
def test_forward_mode_raises_and_names_the_remedy(forward):
    with pytest.raises(TypeError) as raised:
        forward(epmc_jax.compress(loss))
    text = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", [])])
    assert "epmc_jax.disable()" in text


def test_disabled_functions_run_as_written():
    compressed = epmc_jax.compress(loss)
    with epmc_jax.disable():
        assert jnp.array_equal(second(loss), second(compressed))
        assert jnp.array_equal(
            jax.jvp(loss, (X,), (X,))[1], jax.jvp(compressed, (X,), (X,))[1]
        )
    with pytest.raises(epmc_jax.SecondOrderError):
        second(compressed)
