"""Max-pool with its index, and the gradient from the index, against XLA's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from epmc_jax import SecondOrderError
from epmc_jax.codecs import PoolIndex, _pooling, max_pool, pool_gradient
from tests.cases import FLOATS, HALVES, OVERLAPPING, POOLS

IDS = [f"{codec.window}-{shape}" for codec, shape in POOLS]


def operand(shape, dtype, kind="normal"):
    x = np.random.default_rng(0).normal(size=shape)
    if kind == "relu":
        x = np.maximum(x, 0)
    if kind == "tied":
        x = np.round(x)
    return jnp.asarray(x).astype(dtype)


def xla_pool(codec):
    def pool(x):
        window = (codec.window, codec.strides, codec.padding)
        return lax.reduce_window(x, np.array(-np.inf, x.dtype), lax.max, *window)

    return pool


@functools.partial(jax.jit, static_argnums=0)
def by_index(codec, x, ct):
    y, rows = max_pool(codec, x)
    return y, rows, pool_gradient(codec, rows, ct, x.shape)


@functools.partial(jax.jit, static_argnums=0)
def by_xla(codec, x, ct):
    y, pullback = jax.vjp(xla_pool(codec), x)
    return y, codec.encode_reference(x), pullback(ct)[0]


@functools.partial(jax.jit, static_argnums=0)
def by_reference(codec, x, ct):
    y, rows = _pooling._max_pool_reference(x, codec=codec)
    return y, rows, _pooling._gradient_reference(rows, ct, codec=codec, shape=x.shape)


def check_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert jnp.array_equal(a, b)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("codec", "shape"), POOLS, ids=IDS)
def test_pool_and_gradient_are_xlas(codec, shape, dtype):
    ct = operand(codec.decoded_shape(shape), dtype)
    for kind in ("normal", "relu", "tied"):
        x = operand(shape, dtype, kind)
        ours = by_index(codec, x, ct)
        check_equal(ours, by_xla(codec, x, ct))
        assert ours[1].size == codec.encoded_nbytes(shape, dtype)


def test_an_index_of_more_than_a_byte():
    codec = PoolIndex(window=(257,), strides=(2,), padding=((0, 0),))
    x, ct = operand((300,), "float32"), operand((22,), "float32")
    check_equal(by_index(codec, x, ct), by_xla(codec, x, ct))
    assert codec.encode(x).decode().dtype == jnp.int32


@pytest.mark.parametrize(("codec", "shape"), POOLS, ids=IDS)
def test_references(codec, shape):
    x, ct = operand(shape, "float32"), operand(codec.decoded_shape(shape), "float32")
    check_equal(by_index(codec, x, ct), by_reference(codec, x, ct))


@pytest.mark.parametrize("codec", [HALVES, OVERLAPPING], ids=["halves", "overlapping"])
def test_nan_reaches_the_result(codec):
    x = operand((2, 8, 8, 64), "float32").at[0, 3, 3].set(jnp.nan)
    y, _ = max_pool(codec, x)
    # XLA:CPU itself drops a NaN in some of its own pooling loops: not compared here.
    assert jnp.all(jnp.isnan(y[0, 1, 1]))


@pytest.mark.parametrize(("codec", "shape"), POOLS, ids=IDS)
def test_decoded_indices(codec, shape):
    x = operand(shape, "float32")
    encoded = codec.encode(x)
    index = encoded.decode()
    assert index.shape == codec.decoded_shape(shape) == encoded.shape
    assert index.dtype == jnp.uint8
    assert jnp.array_equal(index, jax.jit(codec.select)(x))


@pytest.mark.parametrize("codec", [HALVES, OVERLAPPING], ids=["halves", "overlapping"])
def test_vmap_is_a_loop(codec):
    x = operand((3, 2, 8, 8, 5), "float32")
    y, rows = jax.vmap(lambda one: max_pool(codec, one))(x)
    for i, one in enumerate(x):
        y_one, rows_one = max_pool(codec, one)
        assert jnp.array_equal(y[i], y_one)
        assert jnp.array_equal(rows[i], rows_one)
    gradient = jax.vmap(lambda r, ct: pool_gradient(codec, r, ct, x.shape[1:]))(rows, y)
    one_by_one = [
        pool_gradient(codec, r, ct, x.shape[1:]) for r, ct in zip(rows, y, strict=True)
    ]
    assert jnp.array_equal(gradient, jnp.stack(one_by_one))


def test_vmap_over_an_operand_without_batch():
    codec = PoolIndex(window=(2, 2), strides=(2, 2), padding=((0, 0), (0, 0)))
    x = operand((3, 8, 6), "float32")
    rows = jax.vmap(lambda one: max_pool(codec, one)[1])(x)
    assert jnp.array_equal(rows, jnp.stack([max_pool(codec, one)[1] for one in x]))


def test_second_order():
    x = operand((2, 8, 8, 4), "float32")
    with pytest.raises(SecondOrderError, match=r"epmc_jax\.disable\(\)"):
        jax.grad(lambda x: max_pool(HALVES, x)[0].sum())(x)
    y, rows = max_pool(HALVES, x)
    # The gradient is linear in the cotangent, and has that derivative.
    _, tangent = jax.jvp(
        lambda ct: pool_gradient(HALVES, rows, ct, x.shape), (y,), (2 * y,)
    )
    assert jnp.array_equal(tangent, 2 * pool_gradient(HALVES, rows, y, x.shape))


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="one entry per axis"):
        PoolIndex(window=(2, 2), strides=(2,), padding=((0, 0), (0, 0)))
    with pytest.raises(ValueError, match="pools 4 axes"):
        HALVES.encode(operand((8, 8), "float32"))
