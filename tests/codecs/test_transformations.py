"""Codecs under jit, vmap, scan and differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax import SecondOrderError
from epmc_jax.codecs import BitMask, Csr, GroupQuant, IntPack, Narrow, Raw
from tests.cases import normal

CODECS = (
    Raw(),
    BitMask(),
    Csr(capacity=1),
    GroupQuant(bit_width=4),
    GroupQuant(bit_width=8),
    Narrow(dtype="float8_e4m3fn"),
)
SHAPES = ((5, 6, 100), (5, 70), (5,))


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_vmap_is_a_loop(codec, shape):
    x = normal(shape)
    rows = jax.vmap(lambda one: codec.encode(one).rows)(x)
    assert jnp.array_equal(rows, jnp.stack([codec.encode(one).rows for one in x]))
    decoded = jax.jit(jax.vmap(lambda one: codec.encode(one).decode(after=(one,))))(x)
    assert jnp.array_equal(
        decoded, jnp.stack([codec.encode(one).decode() for one in x])
    )


def test_vmap_takes_any_axis():
    x, codec = normal((5, 6, 7)), GroupQuant()
    rows = jax.vmap(lambda one: codec.encode(one).rows, in_axes=1, out_axes=2)(x)
    one_by_one = [codec.encode(x[:, i]).rows for i in range(6)]
    assert jnp.array_equal(rows, jnp.stack(one_by_one, axis=2))


def test_nested_vmap():
    x, codec = normal((2, 3, 4, 40)), GroupQuant(bit_width=2)
    rows = jax.vmap(jax.vmap(lambda one: codec.encode(one).rows))(x)
    assert jnp.array_equal(rows[1, 2], codec.encode(x[1, 2]).rows)


def test_decode_may_wait_for_a_batched_array():
    x, codec = normal((4, 40)), GroupQuant()
    encoded = codec.encode(x)
    decoded = jax.vmap(lambda ct: encoded.decode(after=(ct,)))(normal((3, 2)))
    assert jnp.array_equal(decoded, jnp.stack([encoded.decode()] * 3))


def test_stochastic_rounding_under_vmap_numbers_the_groups_of_the_batch():
    codec = GroupQuant(bit_width=2, rounding="stochastic")
    x = jnp.broadcast_to(normal((40,)), (3, 1, 40))
    rows = jax.vmap(lambda one: codec.encode(one).rows)(x)
    assert jnp.array_equal(rows[:, 0], codec.encode(x[:, 0]).rows)
    assert not jnp.array_equal(rows[0], rows[1])


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_scan_carries_encoded_arrays(codec):
    x = normal((5, 6, 100))

    def step(total, one):
        encoded = codec.encode(one)
        return total + encoded.decode(after=(total,)), encoded

    total, stacked = jax.jit(lambda x: jax.lax.scan(step, jnp.zeros((6, 100)), x))(x)
    expected = sum(codec.encode(one).decode().astype(jnp.float32) for one in x)
    np.testing.assert_allclose(total, expected, rtol=1e-6, atol=1e-6)
    assert jnp.array_equal(stacked.rows[3], codec.encode(x[3]).rows)


def test_derivatives_through_bytes_raise():
    x = normal((4, 40))

    def through_bytes(x):
        return GroupQuant().encode(x).decode(after=(x,)).sum()

    for derivative in (
        lambda: jax.grad(through_bytes)(x),
        lambda: jax.jvp(through_bytes, (x,), (x,)),
        lambda: jax.jit(jax.hessian(through_bytes))(x),
        lambda: jax.grad(lambda x: jax.vmap(through_bytes)(x).sum())(x[None]),
        lambda: jax.grad(lambda x: _scanned(through_bytes, x))(x),
    ):
        with pytest.raises(SecondOrderError, match=r"epmc_jax\.disable"):
            derivative()


def _scanned(function, x):
    total, _ = jax.lax.scan(lambda c, _: (c + function(x), None), 0.0, length=2)
    return total


def test_decisions_are_constant():
    x = normal((4, 40))
    gradient = jax.grad(lambda x: (x * BitMask().encode(x).decode()).sum())(x)
    assert jnp.array_equal(gradient, x > 0)


def test_integers_have_no_derivative():
    places = jnp.arange(40, dtype=jnp.int32)
    codec = IntPack(num_values=40)

    def lookup(x):
        return x[codec.encode(places).decode()].sum()

    assert jnp.array_equal(jax.grad(lookup)(jnp.ones(40)), jnp.ones(40))


def test_derivatives_of_other_things_pass_by():
    x, codec = normal((4, 40)), GroupQuant()
    encoded = codec.encode(x)
    gradient = jax.grad(lambda y: (y * encoded.decode(after=(y,))).sum())(x)
    assert jnp.array_equal(gradient, encoded.decode())


def test_other_platforms_lower_to_the_reference():
    x = jax.ShapeDtypeStruct((4, 40), jnp.float32)
    function = jax.jit(lambda x: GroupQuant().encode(x).decode(after=(x,)))
    text = function.trace(x).lower(lowering_platforms=("tpu",)).as_text()
    assert "optimization_barrier" in text
    assert "epmc_group_quant" not in text
    text = function.trace(x).lower(lowering_platforms=("cpu",)).as_text()
    assert "epmc_group_quant_encode" in text
    assert "epmc_group_quant_decode" in text
