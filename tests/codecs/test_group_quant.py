"""GroupQuant: errors within the bound, no bias, parameters checked."""

import dataclasses
import itertools

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import GroupQuant
from tests.cases import CONTENTS, FLOATS, GROUP_QUANTS, normal
from tests.codecs.test_contract import check_contract

pytestmark = pytest.mark.usefixtures("optimized")


def steps(codec, x):
    """The step of each element's group, from the definition."""
    rows = np.asarray(x, np.float64).reshape(x.shape[0] if x.ndim > 1 else 1, -1)
    found = np.zeros(rows.shape)
    for start in range(0, rows.shape[1], codec.group_size):
        group = rows[:, start : start + codec.group_size]
        span = group.max(axis=1, keepdims=True) - group.min(axis=1, keepdims=True)
        found[:, start : start + codec.group_size] = span / (2**codec.bit_width - 1)
    return found.reshape(x.shape)


def check_error(codec, x):
    decoded = np.asarray(codec.encode(x).decode(), np.float64)
    limit = (0.5 if codec.rounding == "nearest" else 1.0) + 2**-15
    values = np.asarray(x, np.float64)
    # The float32 sum, then the array's dtype: half a unit in the last place of each.
    digits = {"float32": 24, "bfloat16": 8, "float16": 11}[x.dtype.name]
    magnitude = np.abs(values) + steps(codec, x)
    rounding = magnitude * (2.0**-digits + 2.0**-23) + 2.0**-24 * (digits == 11)
    flushed = 2.0**-100
    error = np.abs(decoded - values)
    assert np.all(error <= steps(codec, x) * limit * (1 + 2**-14) + rounding + flushed)


FINITE = CONTENTS[np.isfinite(CONTENTS).all(axis=1)]
FINITE = FINITE[np.abs(FINITE).max(axis=1) < 2.0**125]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", GROUP_QUANTS, ids=str)
def test_error_is_within_the_bound(codec, dtype):
    largest = 60_000 if dtype == "float16" else 2.0**125
    rows = FINITE[np.abs(FINITE).max(axis=1) < largest]
    check_error(codec, jnp.asarray(rows).astype(dtype))


@hypothesis.given(
    x=hnp.arrays(
        np.float32, (2, 300), elements=st.floats(-(2.0**125), 2.0**125, width=32)
    ),
    codec=st.sampled_from(GROUP_QUANTS),
)
def test_any_finite_array(x, codec):
    check_contract(codec, jnp.asarray(x))
    check_error(codec, jnp.asarray(x))


@hypothesis.given(
    bits=hnp.arrays(np.uint16, (2, 300)),
    dtype=st.sampled_from(["bfloat16", "float16"]),
    codec=st.sampled_from(GROUP_QUANTS[::4]),
)
def test_any_bits_of_half_width(bits, dtype, codec):
    check_contract(codec, jnp.asarray(bits.view(jnp.dtype(dtype))))


def test_groups_that_are_not_finite_decode_to_nan():
    x = np.ones((4, 600), np.float32)
    x[0, 3], x[1, 300], x[2, 599] = np.nan, np.inf, -np.inf
    for codec in GROUP_QUANTS:
        decoded = np.asarray(codec.encode(x).decode())
        size = codec.group_size
        for row, place in ((0, 3), (1, 300), (2, 599)):
            nan = np.zeros(600, bool)
            nan[place // size * size : (place // size + 1) * size] = True
            assert np.array_equal(np.isnan(decoded[row]), nan)
        assert not np.isnan(decoded[3]).any()


@pytest.mark.parametrize("bit_width", [1, 2, 3, 4, 8])
def test_stochastic_rounding_is_unbiased(bit_width):
    codec = GroupQuant(bit_width=bit_width, rounding="stochastic", group_size=32)
    x = normal((3, 64))
    draws = 2000
    # Every group has its own dither: rows repeated are draws repeated.
    repeated = jnp.repeat(x[:, None], draws, axis=1).reshape(3 * draws, 64)
    decoded = np.asarray(codec.encode(repeated).decode(), np.float64)
    mean = decoded.reshape(3, draws, 64).mean(axis=1)
    # Largest deviation of one draw: half a step. Five deviations of the mean.
    limit = 5 * 0.5 * steps(codec, x) / draws**0.5
    assert np.all(np.abs(mean - np.asarray(x)) <= limit)


def codes_of(codec, row, elements):
    """The codes in a row of bytes, element by element, as docs/formats.md has them."""
    blocks, w = -(-elements // 32), codec.bit_width
    fields_end = (4 * blocks * (w - w % 2) + 15) // 16 * 16
    found = []
    for i in range(elements):
        code, bits = 0, w - w % 2
        if bits:
            at = i % 32
            byte = int(row[i // 32 * 4 * bits + at % (4 * bits)])
            code = byte >> (at // (4 * bits) * bits) & (2**bits - 1)
        if w % 2:
            word = row[fields_end + i // 32 * 4 :][:4].view("<u4")[0]
            code |= (int(word) >> i % 32 & 1) << bits
        found.append(code)
    return np.array(found)


@pytest.mark.parametrize("elements", [31, 64, 1000])
@pytest.mark.parametrize("bit_width", [1, 2, 3, 4, 8])
def test_codes_are_where_the_format_says(bit_width, elements):
    codec = GroupQuant(bit_width=bit_width, group_size=64)
    encoded = codec.encode(normal((2, elements)))
    row = np.asarray(encoded.rows)[1]
    codes, groups = codes_of(codec, row, elements), -(-elements // 64)
    scales = (4 * groups + 15) // 16 * 16
    lo = row[-2 * scales :].view(np.float32)[:groups].repeat(64)[:elements]
    step = row[-scales:].view(np.float32)[:groups].repeat(64)[:elements]
    assert (codes.min(), codes.max()) == (0, 2**bit_width - 1)
    np.testing.assert_array_equal(encoded.decode()[1], lo + np.float32(codes) * step)


def test_one_bit_is_the_nearer_of_two_values():
    x = normal((2, 256))
    decoded = np.asarray(GroupQuant(bit_width=1).encode(x).decode())
    lo, hi = np.min(x, axis=1, keepdims=True), np.max(x, axis=1, keepdims=True)
    expected = np.where(np.asarray(x) > (lo + hi) / 2, hi, lo)
    np.testing.assert_allclose(decoded, expected, rtol=2**-14)


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_bit_more_makes_the_error_smaller(dtype):
    x = normal((4, 1000), dtype)
    errors = []
    for bit_width in (1, 2, 3, 4, 8):
        decoded = GroupQuant(bit_width=bit_width).encode(x).decode()
        error = np.asarray(decoded, np.float64) - np.asarray(x, np.float64)
        errors.append(np.sqrt(np.mean(error**2)))
    # A bit more divides the step by 2 or more: 1, 3, 7, 15 and 255 steps are the range.
    assert all(more < 0.55 * less for less, more in itertools.pairwise(errors))


def test_seeds_and_groups_have_their_own_dither():
    x = jnp.broadcast_to(normal((256,)), (2, 256))
    codec = GroupQuant(bit_width=2, rounding="stochastic")
    rows = codec.encode(x).rows
    assert not jnp.array_equal(rows[0], rows[1])
    other = dataclasses.replace(codec, seed=1).encode(x).rows
    assert not jnp.array_equal(rows, other)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"bit_width": 5}, "bit_width must be 1, 2, 3, 4 or 8, got 5"),
        ({"group_size": 48}, "group_size must be a multiple of 32"),
        ({"group_size": 2048}, "from 32 to 1024, got 2048"),
        ({"rounding": "up"}, "rounding must be"),
        ({"seed": -1}, "seed must be from 0"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        GroupQuant(**parameters)
