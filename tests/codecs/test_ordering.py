"""`pin`: nothing but an order that XLA cannot undo."""

import jax
import jax.numpy as jnp
import pytest

from epmc_jax._ordering import pin

DTYPES = ("float32", "bfloat16", "float16", "int32", "uint8", "bool", "complex64")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 3)], ids=str)
def test_values_are_unchanged(dtype, shape):
    x = jnp.ones(shape, dtype)
    dep = jnp.zeros(7)
    for pinned in (pin(x, dep), jax.jit(pin)(x, dep)):
        assert pinned.dtype == x.dtype
        assert jnp.array_equal(pinned, x)


def test_a_pinned_argument_is_not_overwritten():
    x = jnp.arange(8.0)
    doubled = jax.jit(lambda x: pin(x, x) * 2)(x)
    assert jnp.array_equal(doubled, 2 * x)
    assert jnp.array_equal(x, jnp.arange(8.0))


def test_no_copy_of_an_intermediate():
    x = jnp.ones((1 << 16,))

    def temp_nbytes(function):
        compiled = jax.jit(function).lower(x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    plain = temp_nbytes(lambda x: jnp.sin(jnp.cumsum(x)))
    assert (
        temp_nbytes(lambda x: jnp.sin(pin(jnp.cumsum(x), x))) <= plain + x.nbytes + 64
    )


def test_derivatives_pass_to_the_pinned_array_alone():
    x, dep = jnp.ones(3), jnp.full(3, 5.0)
    gradients = jax.grad(lambda x, dep: (pin(x, dep) ** 2).sum(), argnums=(0, 1))(
        x, dep
    )
    assert jnp.array_equal(gradients[0], 2 * x)
    assert jnp.array_equal(gradients[1], jnp.zeros(3))
    assert jax.hessian(lambda x: (pin(x, dep) ** 2).sum())(x).shape == (3, 3)
    (transposed,) = jax.linear_transpose(lambda x: pin(3 * x, dep), x)(x)
    assert jnp.array_equal(transposed, 3 * x)


def test_vmap_passes_through():
    x = jnp.arange(6.0).reshape(2, 3)
    assert jnp.array_equal(jax.vmap(pin)(x, x), x)
    assert jnp.array_equal(jax.vmap(pin, in_axes=(0, None))(x, x), x)
    pinned = jax.vmap(pin, in_axes=(None, 0), out_axes=None)(x, jnp.zeros((4, 2)))
    assert jnp.array_equal(pinned, x)


def test_order_is_in_the_compiled_program():
    def function(x):
        return pin(jnp.sin(x), jnp.cos(x).sum())

    text = jax.jit(function).lower(jnp.ones(8)).compile().as_text()
    assert "epmc_pin" in text
