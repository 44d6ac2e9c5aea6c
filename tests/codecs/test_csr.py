"""Csr: exact while there is room, NaN when there is not, safe on any bytes."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epmc_jax
from epmc_jax.codecs import Csr, Encoded
from tests.cases import FLOATS
from tests.codecs.test_contract import check_contract, same_bits


def sparse(shape, density, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    x = np.where(rng.random(shape) < density, rng.normal(size=shape), 0)
    return jnp.asarray(x, jnp.float32).astype(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("elements", [200, 256, 257, 1000, 70_000])
def test_exact_while_there_is_room(elements, dtype):
    x = sparse((3, elements), 0.2, dtype)
    assert same_bits(check_contract(Csr(capacity=0.4), x), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_row_without_room_decodes_to_nan(dtype):
    x = np.array(sparse((3, 300), 0.1, dtype))
    x[1, 50:150] = 1
    decoded = np.asarray(check_contract(Csr(capacity=0.2), jnp.asarray(x)))
    assert np.isnan(decoded[1]).all()
    assert np.array_equal(decoded[[0, 2]], x[[0, 2]])


def test_room_for_the_last_element():
    x = jnp.zeros((2, 10)).at[0, :3].set(1).at[1, 6:].set(1)
    decoded = np.asarray(check_contract(Csr(capacity=0.3), x))
    assert np.array_equal(decoded[0], x[0])
    assert np.isnan(decoded[1]).all()


def test_the_parts_of_a_row():
    x = jnp.zeros((1, 300)).at[0, 7].set(1.5).at[0, 299].set(-2)
    row = np.asarray(Csr(capacity=0.01).encode(x).rows)[0]
    assert row.size == 48
    assert row[:16].view(np.uint32).tolist() == [2, 0, 0, 0]
    assert row[16:32].view(np.uint16).tolist() == [7, 299, 0, 0, 0, 0, 0, 0]
    assert row[32:].view(np.float32).tolist() == [1.5, -2, 0, 0]


def test_special_values_are_nonzero_and_negative_zero_is_zero():
    x = np.zeros(64, np.float32)
    x[:5] = np.nan, np.inf, 1e-45, -0.0, -1e-45
    decoded = np.asarray(Csr(capacity=0.0625).encode(jnp.asarray(x)).decode())
    assert np.array_equal(decoded.view(np.uint32)[:3], x.view(np.uint32)[:3])
    assert not np.signbit(decoded[3])
    assert decoded[4] == x[4]


@hypothesis.given(
    rows=hnp.arrays(np.uint8, (3, 16 + 64 + 256)),
    count=st.integers(0, 70),
    dtype=st.sampled_from(FLOATS),
)
def test_any_bytes_decode(rows, count, dtype):
    """The same by kernel and reference where no index is there twice."""
    codec, n = Csr(capacity=0.5), 120
    rows = rows[:, : codec.row_nbytes(n, jnp.dtype(dtype))].copy()
    rows[0, :4] = np.frombuffer(np.uint32(count).tobytes(), np.uint8)
    rows[0, 16:76] = np.random.default_rng(count).permutation(256)[:60]
    encoded = Encoded(jnp.asarray(rows), codec, (3, n), jnp.dtype(dtype))
    decoded = np.asarray(jax.jit(encoded.decode)())
    reference = codec.decode_reference(encoded.rows, encoded.shape, encoded.dtype)
    assert same_bits(decoded[0], reference[0])


def test_size_beside_the_usual_csr():
    x = sparse((64, 50_000), 0.25)
    nonzeros = int((x != 0).sum())
    ours = Csr(capacity=0.26).encode(x).nbytes
    assert Csr.wide_nbytes(64, nonzeros) == 8 * nonzeros + 260
    assert ours < 0.8 * Csr.wide_nbytes(64, nonzeros)


@pytest.mark.parametrize("capacity", [0, -0.5, 1.5, float("nan")])
def test_parameters_are_checked(capacity):
    with pytest.raises(ValueError, match="capacity must be above 0"):
        Csr(capacity=capacity)


def test_a_residual_of_a_gradient():
    policy = epmc_jax.Policy(epmc_jax.Rule(codec=Csr(capacity=0.3)), min_bytes=0)

    def function(x):
        return jnp.sin(x * x).sum()

    compressed = epmc_jax.compress(function, policy=policy, encode_argnums=(0,))
    x = sparse((64, 512), 0.2)
    exact = jax.grad(function)(x)
    assert jnp.allclose(jax.grad(compressed)(x), exact, rtol=1e-5, atol=1e-6)
    # A row without room for its elements must show.
    gradient = jax.grad(compressed)(x.at[9].set(1))
    assert np.isnan(gradient[9]).all()
    assert not np.isnan(gradient[:9]).any()
