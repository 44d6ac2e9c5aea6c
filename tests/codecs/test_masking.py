"""`relu_gradient`: what `jnp.where` gives, from the bits of the mask."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import BitMask, relu_gradient
from tests.cases import FLOATS, SHAPES, normal

DTYPES = (*FLOATS, "int32", "int8")  # int8 has no native kernel


def rows_of(mask):
    return BitMask().encode(mask).rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_where(shape, dtype):
    mask, ct = normal(shape) > 0, (8 * normal(shape, seed=1)).astype(dtype)
    expected = jnp.where(mask, ct, 0)
    assert jnp.array_equal(relu_gradient(rows_of(mask), ct), expected)
    assert jnp.array_equal(jax.jit(relu_gradient)(rows_of(mask), ct), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.0])
def test_what_is_masked_is_zero_whatever_it_was(value):
    mask = normal((3, 70)) > 0
    out = relu_gradient(rows_of(mask), jnp.full((3, 70), value))
    expected = np.where(mask, value, np.float32(0))
    assert np.array_equal(np.signbit(out), np.signbit(expected))
    assert jnp.array_equal(out, expected, equal_nan=True)


def test_the_cotangent_itself_is_kept():
    ct, mask = normal((4, 64)), normal((4, 64), seed=1) > 0
    out, double = jax.jit(lambda r, ct: (relu_gradient(r, ct), 2 * ct))(
        rows_of(mask), ct
    )
    assert jnp.array_equal(double, 2 * normal((4, 64)))
    assert jnp.array_equal(out, jnp.where(mask, ct, 0))


def test_no_array_beside_the_result():
    ct = jnp.ones((64, 4096))
    rows = rows_of(ct > 0)

    def temp_bytes(function):
        compiled = jax.jit(function).lower(rows, ct).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temp_bytes(lambda r, ct: relu_gradient(r, jnp.sin(ct))) < 1024


@pytest.mark.parametrize("shape", [(6, 70), (33,), ()], ids=str)
def test_vmap_is_a_loop(shape):
    masks, cts = normal((5, *shape)) > 0, normal((5, *shape), seed=1)
    rows = jnp.stack([rows_of(mask) for mask in masks])
    expected = jnp.where(masks, cts, 0)
    assert jnp.array_equal(jax.vmap(relu_gradient)(rows, cts), expected)
    one_mask = jax.vmap(relu_gradient, in_axes=(None, 0))(rows[0], cts)
    assert jnp.array_equal(one_mask, jnp.where(masks[0], cts, 0))


def test_it_is_linear_in_the_cotangent():
    ct, mask = normal((4, 64)), normal((4, 64), seed=1) > 0
    rows = rows_of(mask)
    _, tangent = jax.jvp(lambda ct: relu_gradient(rows, ct), (ct,), (2 * ct,))
    assert jnp.array_equal(tangent, jnp.where(mask, 2 * ct, 0))


def test_sizes_that_disagree_are_named():
    call = jax.ffi.ffi_call(
        "epmc_relu_gradient", jax.ShapeDtypeStruct((3, 64), jnp.float32)
    )
    rows, ct = rows_of(jnp.ones((3, 64), bool)), jnp.ones((3, 64))
    assert jnp.array_equal(call(rows, ct), ct)
    with pytest.raises(Exception, match="epmc_relu_gradient: bytes per row is 32"):
        call(jnp.concatenate([rows, rows], axis=1), ct)
    with pytest.raises(Exception, match="elements of ct_x is 192, expected 256"):
        call(rows, jnp.ones((4, 64)))
