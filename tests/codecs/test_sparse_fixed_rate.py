"""SparseFixedRate: zeros exact, all exact where it fits, errors within the bound."""

import dataclasses

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import Encoded, GroupQuant, SparseFixedRate
from tests.cases import FLOATS, SPARSE_FIXED_RATES, normal
from tests.codecs.test_contract import check_contract, same_bits

pytestmark = pytest.mark.usefixtures("optimized")

POOL = 16384


def sparse(shape, density, dtype="float32", seed=0):
    kept = np.random.default_rng(seed + 1).random(shape) < density
    return jnp.where(kept, normal(shape, "float32", seed), 0).astype(dtype)


def decoded(codec, x):
    return np.asarray(codec.encode(x).decode().astype(jnp.float32), np.float64)


def relative_error(codec, x):
    values = np.asarray(x.astype(jnp.float32), np.float64)
    return np.linalg.norm(decoded(codec, x) - values) / np.linalg.norm(values)


@pytest.mark.parametrize("dtype", FLOATS)
def test_pools_that_fit_are_exact_and_zeros_always(dtype):
    for shape in ((2, POOL + 777), (3, 1000), (5, 1)):
        x = sparse(shape, 0.04, dtype)
        assert same_bits(check_contract(SparseFixedRate(), x), x)
    for codec in SPARSE_FIXED_RATES:
        x = sparse((2, POOL + 777), 0.5, dtype)
        assert np.all(decoded(codec, x)[np.asarray(x == 0)] == 0)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_relu_mask_can_be_read_from_the_decoded_array(density, dtype):
    x = np.abs(np.array(sparse((3, 5000), density)))
    x[0, ::3] *= 1e-39 if dtype != "float16" else 1e-7
    x = jnp.asarray(x).astype(dtype)
    bits = np.asarray(x).view("uint32" if dtype == "float32" else "uint16")
    for codec in SPARSE_FIXED_RATES:
        assert np.array_equal(decoded(codec, x) > 0, bits != 0)


def test_error_of_half_dense_arrays_is_a_third_of_group_quant():
    x = jnp.maximum(normal((4, 2 * POOL)), 0)
    for size in (256, 512):
        dense = relative_error(GroupQuant(bit_width=4, group_size=size), x)
        assert relative_error(SparseFixedRate(rate=4.125), x) < dense / 3


def test_dense_arrays_are_about_as_precise_as_with_group_quant():
    x = normal((2, 2 * POOL))
    dense = relative_error(GroupQuant(bit_width=4, group_size=512), x)
    assert relative_error(SparseFixedRate(rate=4.125), x) < 1.2 * dense


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_a_higher_rate_has_a_smaller_error(density):
    x = sparse((2, POOL), density)
    rates = (1.5, 2, 3, 4, 6, 8, 12)
    errors = [relative_error(SparseFixedRate(rate=rate), x) for rate in rates]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 1


@pytest.mark.parametrize("rate", [1.5, 2.3, 4.125, 8])
def test_error_is_at_most_half_a_step(rate):
    x = sparse((3, POOL + 100), 0.6)
    codec = SparseFixedRate(rate=rate)
    encoded = codec.encode(x)
    bitmap, lo, step, _ = codec._part_nbytes(x.shape[1])
    start = -(-bitmap // 16) * 16 + -(-lo // 16) * 16
    steps = np.asarray(encoded.rows)[:, start : start + step].copy().view(np.float32)
    steps = np.repeat(np.abs(steps), codec.group_size, axis=1)[:, : x.shape[1]]
    error = np.abs(decoded(codec, x) - np.asarray(x))
    has_step = steps > 0
    limit = steps * (0.5 + 2.0**-8) + 1e-6
    assert has_step.any()
    assert np.all(error[has_step] <= limit[has_step])


def test_what_is_not_finite_stays_in_its_group():
    x = np.array(normal((1, 2048)))
    x[0, 5], x[0, ::7] = np.nan, 0
    found = decoded(SparseFixedRate(), jnp.asarray(x))
    assert np.isnan(found[0, 5])
    assert not np.isnan(found[0, 512:]).any()
    assert np.all(found[0, ::7] == 0)


def test_stochastic_rounding_is_unbiased():
    codec = SparseFixedRate(rate=2.5, rounding="stochastic")
    row = sparse((512,), 0.7)
    found = decoded(codec, jnp.broadcast_to(row, (4000, 512)))
    largest = np.abs(np.asarray(row)).max()
    assert np.abs(found.mean(axis=0) - np.asarray(row)).max() < 5 * largest / 4000**0.5


@hypothesis.given(
    shape=st.sampled_from([(1, 1), (2, 63), (3, 600), (1, POOL + 33)]),
    density=st.floats(0, 1),
    dtype=st.sampled_from(FLOATS),
    codec=st.sampled_from(SPARSE_FIXED_RATES),
    seed=st.integers(0, 9),
)
def test_any_density(shape, density, dtype, codec, seed):
    x = sparse(shape, density, dtype, seed)
    assert np.all(np.asarray(check_contract(codec, x))[np.asarray(x == 0)] == 0)


def test_full_and_empty_groups_alternate():
    x = np.array(normal((2, 2 * POOL))).reshape(2, -1, 512)
    x[:, ::2] = 0
    x = jnp.asarray(x.reshape(2, -1))
    assert relative_error(SparseFixedRate(), x) < 0.02


@hypothesis.given(data=hnp.arrays(np.uint8, (2, 1200)))
def test_any_bytes_decode(data):
    codec = SparseFixedRate(group_size=64)
    nbytes = codec.row_nbytes(1000, jnp.float32)
    rows = jnp.asarray(np.resize(data, (2, nbytes)))
    assert Encoded(rows, codec, (2, 1000), jnp.dtype("float32")).decode().size == 2000


def test_the_rate_is_what_was_asked_for():
    codec = SparseFixedRate(rate=4.125)
    assert codec.row_nbytes(4 * POOL, jnp.float32) * 8 == 4.125 * 4 * POOL


def test_under_vmap_the_bytes_are_the_same():
    x = sparse((3, 2, 700), 0.5)
    codec = SparseFixedRate()
    mapped = jax.vmap(lambda one: codec.encode(one).rows)(x)
    assert jnp.array_equal(mapped[1], codec.encode(x[1]).rows)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rate": 1.0}, "rate must be from 1.5 to 16 bits, got 1.0"),
        ({"rate": 2.0, "group_size": 64}, "rate must be above 2.0 with group_size 64"),
        ({"group_size": 96}, "group_size must be one of"),
        ({"rounding": "up"}, "rounding must be"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        SparseFixedRate(**parameters)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rate", [1.5, 4.125])
@pytest.mark.parametrize("density", [0.02, 0.5, 0.9])
def test_the_mask_is_exact(dtype, rate, density):
    x = sparse((2, POOL + 700), density).astype(dtype)
    x = x.at[0, 5].set(jnp.nan).at[1, POOL + 3].set(jnp.inf).at[0, 7].set(-0.0)
    codec = SparseFixedRate(rate=rate)
    encoded = codec.encode(x)
    mask = dataclasses.replace(
        encoded, codec=codec.mask_codec(x.dtype), dtype=jnp.dtype("bool")
    )
    assert np.array_equal(mask.decode(), x != 0)
    reference = mask.codec.decode_reference(mask.rows, x.shape, mask.dtype)
    assert np.array_equal(reference, x != 0)
