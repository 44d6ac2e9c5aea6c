"""Narrow: rounding as ml_dtypes has it, errors within the bound, finite stays so."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epmc_jax
from epmc_jax.codecs import Encoded, Narrow
from tests.cases import CONTENTS, FLOATS, NARROWS, normal
from tests.codecs.test_contract import check_contract, same_bits

FLOAT8S = ("float8_e4m3fn", "float8_e5m2")
LARGEST = {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}
# Half a unit in the last place, and half a subnormal unit over the largest magnitude.
RELATIVE = {"bfloat16": 2.0**-8, "float8_e4m3fn": 2.0**-4, "float8_e5m2": 2.0**-3}
NEAR_ZERO = {"bfloat16": 0.0, "float8_e4m3fn": 2.0**-17, "float8_e5m2": 2.0**-31}


def decoded(codec, x):
    return np.asarray(codec.encode(jnp.asarray(x)).decode())


def largest(codec, x):
    """The largest magnitude of each element's group."""
    rows = np.abs(np.asarray(x, np.float64)).reshape(x.shape[0], -1)
    found = np.zeros(rows.shape)
    for start in range(0, rows.shape[1], codec.group_size):
        group = slice(start, start + codec.group_size)
        found[:, group] = rows[:, group].max(axis=1, keepdims=True)
    return found.reshape(x.shape)


def check_error(codec, x):
    values = np.asarray(x, np.float64)
    error = np.abs(np.asarray(decoded(codec, x), np.float64) - values)
    near_zero = np.maximum(NEAR_ZERO[codec.dtype] * largest(codec, x), 2.0**-126)
    limit = np.maximum(RELATIVE[codec.dtype] * np.abs(values), near_zero)
    digits = 2.0**-25 if x.dtype == jnp.float16 else 0.0  # half a subnormal unit
    assert np.all(error <= limit + digits)


FINITE = CONTENTS[np.isfinite(CONTENTS).all(axis=1)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", NARROWS, ids=str)
def test_error_is_within_the_bound(codec, dtype):
    most = 65504 if dtype == "float16" else 2.0**127
    rows = FINITE[np.abs(FINITE).max(axis=1) <= most]
    check_error(codec, jnp.asarray(rows).astype(dtype))


@hypothesis.given(
    x=hnp.arrays(
        np.float32, (2, 300), elements=st.floats(-(2.0**127), 2.0**127, width=32)
    ),
    codec=st.sampled_from(NARROWS),
)
def test_any_finite_array(x, codec):
    check_contract(codec, jnp.asarray(x))
    check_error(codec, jnp.asarray(x))


@hypothesis.given(
    bits=hnp.arrays(np.uint16, (2, 300)),
    dtype=st.sampled_from(["bfloat16", "float16"]),
    codec=st.sampled_from(NARROWS),
)
def test_any_bits_of_half_width(bits, dtype, codec):
    check_contract(codec, jnp.asarray(bits.view(jnp.dtype(dtype))))


@hypothesis.given(
    rows=hnp.arrays(np.uint8, (3, 640)),
    dtype=st.sampled_from(FLOATS),
    codec=st.sampled_from([c for c in NARROWS if c.group_size == 32]),
)
def test_any_bytes_decode(rows, dtype, codec):
    n = 312 if codec.dtype == "bfloat16" else 600
    rows = jnp.asarray(rows[:, : codec.row_nbytes(n, jnp.dtype(dtype))])
    x = jax.jit(Encoded(rows, codec, (3, n), jnp.dtype(dtype)).decode)()
    reference = jax.jit(lambda r: codec.decode_reference(r, (3, n), jnp.dtype(dtype)))
    assert same_bits(x, reference(rows))


def unscaled(name, count=4096):
    """Groups of 32 with a scale of 1: each starts with the largest value of `name`."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=count) * np.exp2(rng.integers(-20, 16, count))
    x = np.clip(x, -LARGEST[name], LARGEST[name]).astype(np.float32)
    x[:64] = np.arange(64) * 2.0**-11  # ties of subnormal values, where they are
    x[64:128] = 1 + np.arange(64) / 64  # and of normal ones
    x[::32] = LARGEST[name]
    return x


@pytest.mark.parametrize("name", FLOAT8S)
def test_rounding_is_that_of_ml_dtypes(name):
    x = unscaled(name)
    rows = np.asarray(Narrow(dtype=name, group_size=32).encode(x).rows)[0]
    values, exponents = rows[:4096], rows[4096:]
    assert np.array_equal(exponents, np.full(128, 127))
    assert np.array_equal(values, x.astype(jnp.dtype(name)).view(np.uint8))
    assert same_bits(
        decoded(Narrow(dtype=name, group_size=32), x),
        x.astype(jnp.dtype(name)).astype(np.float32),
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_bfloat16_is_a_conversion(dtype):
    x = jnp.asarray(CONTENTS).astype(dtype)
    converted = np.asarray(x.astype(jnp.bfloat16))
    rows = np.asarray(Narrow(dtype="bfloat16").encode(x).rows)
    kept = rows[:, : 2 * x.shape[1]].view(jnp.bfloat16)
    assert np.array_equal(kept, converted, equal_nan=True)


@pytest.mark.parametrize("name", FLOAT8S)
def test_a_scale_is_the_smallest_that_does_not_overflow(name):
    codec = Narrow(dtype=name, group_size=32)
    float8 = jnp.dtype(name)
    for x in np.linspace(1, 2, 257, dtype=np.float32):
        row = np.asarray(codec.encode(jnp.full(32, x)).rows)[0]
        scale = np.exp2(np.float32(int(row[32]) - 127))
        value = row[:1].view(float8).astype(np.float32)
        assert value == (x / scale).astype(float8)
        assert value <= LARGEST[name]
        with np.errstate(over="ignore"):
            doubled = (2 * x / scale).astype(float8).astype(np.float32)
        assert not doubled <= LARGEST[name]


def test_what_is_not_finite_stays_in_its_place():
    x = np.ones((2, 600), np.float32)
    x[0, 3], x[0, 300], x[1, 599] = np.nan, np.inf, -np.inf
    for codec in NARROWS:
        expected = x.copy()
        if codec.dtype == "float8_e4m3fn":
            expected[np.isinf(x)] = np.nan
        assert np.array_equal(decoded(codec, x), expected, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", FLOAT8S)
def test_the_largest_number_stays_finite(name, dtype):
    most = jnp.finfo(dtype).max
    x = jnp.array([most, -most, 1], dtype)
    # It rounds up, to what the array's dtype does not have.
    assert np.array_equal(decoded(Narrow(dtype=name), x)[:2], np.asarray(x)[:2])


def test_float16_rounded_up_to_bfloat16_stays_finite():
    x = jnp.array([65504, -65504, jnp.inf], jnp.float16)
    assert np.array_equal(decoded(Narrow(dtype="bfloat16"), x), x)


def test_zeros_keep_their_sign():
    x = np.array([0.0, -0.0, 1.0, -1e-30], np.float32)
    for codec in NARROWS:
        assert np.array_equal(np.signbit(decoded(codec, x)), np.signbit(x))
        zeros = np.zeros((2, 40), np.float32)
        assert not decoded(codec, zeros).any()


def test_an_outlier_harms_its_group_alone():
    x = np.array(normal((2, 1024)))
    x[:, 5] = 1e6
    error = np.abs(decoded(Narrow(dtype="float8_e4m3fn"), x) - x)
    assert np.all(error[:, 256:] <= np.maximum(np.abs(x[:, 256:]) / 16, 2.0**-14))
    assert error[:, :256].max() > 2.0**-4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dtype": "float8_e3m4"}, "dtype must be one of bfloat16, float8_e4m3fn"),
        ({"dtype": "bfloat16", "group_size": 48}, "must be a multiple of 32"),
        ({"dtype": "float8_e5m2", "group_size": 2048}, "from 32 to 1024, got 2048"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        Narrow(**parameters)


@pytest.mark.parametrize("name", ["bfloat16", *FLOAT8S])
def test_a_residual_of_a_gradient(name):
    policy = epmc_jax.Policy(epmc_jax.Rule(codec=Narrow(dtype=name)), min_bytes=0)

    def function(x):
        return jnp.sin(x).sum()

    compressed = epmc_jax.compress(function, policy=policy, encode_argnums=(0,))
    x = normal((64, 512))
    gradient, exact = jax.grad(compressed)(x), jax.grad(function)(x)
    error = jnp.linalg.norm(gradient - exact) / jnp.linalg.norm(exact)
    assert 0 < error < RELATIVE[name]
    # What is not finite reaches the gradient of its element, and of no other.
    gradient = jax.grad(compressed)(x.at[3, 7].set(jnp.inf).at[5, 2].set(jnp.nan))
    assert np.argwhere(np.isnan(gradient)).tolist() == [[3, 7], [5, 2]]
