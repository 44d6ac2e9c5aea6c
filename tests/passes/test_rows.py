"""The gradient of taking one element of each row needs no scatter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import epmc_jax
from epmc_jax import policies

# More than a byte counts.
LENGTH = 300
ROWS = jax.random.normal(jax.random.key(0), (6, 5, LENGTH))
# Of the last axis some are out of bounds, on both sides.
PLACES = jax.random.randint(jax.random.key(1), (6, 5), -LENGTH - 9, LENGTH + 9)


def _last_axis(x, places):
    return jnp.take_along_axis(x, places[..., None], axis=-1)


def _middle_axis(x, places):
    places = jnp.broadcast_to(places[:, :1, None] % 7 - 1, (6, 1, LENGTH))
    return jnp.take_along_axis(x, places, axis=1)


def _of_bytes(x, places):
    """`jnp` would widen them."""
    numbers = lax.GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(2,),
        start_index_map=(2,),
        operand_batching_dims=(0, 1),
        start_indices_batching_dims=(0, 1),
    )
    places = (places % 256).astype(jnp.uint8)[..., None]
    return lax.gather(x, places, numbers, (1, 1, 1))


def _vmapped(x, places):
    return jax.vmap(jax.vmap(lambda row, place: row[place]))(x, places)


def _clipped(x, places):
    take = jax.vmap(jax.vmap(lambda row, place: jnp.take(row, place, mode="clip")))
    return take(x, places)


def _axis_of_one(x, places):
    return jnp.take_along_axis(x[..., :1], places[..., None], axis=-1)


def _two_of_each(x, places):
    return jnp.take_along_axis(x, jnp.stack([places, places], axis=-1), axis=-1)


def _whole_rows(x, places):
    return jnp.take_along_axis(x, places[:, :1, None] % 5, axis=1)


def _by_position(x, places):
    return x[jnp.arange(6)[:, None], jnp.arange(5), places]


TAKES_ONE = [_last_axis, _middle_axis, _of_bytes, _vmapped, _clipped, _axis_of_one]


def gradients(take, x):
    def loss(x, places):
        x = jnp.sin(x).astype(jnp.float32)
        return jax.nn.logsumexp(x, axis=-1).sum() - 2 * (take(x, places) ** 2).sum()

    compressed = epmc_jax.compress(loss, policy=policies.exact())
    return [jax.jit(jax.grad(fun)) for fun in (loss, compressed)]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("take", TAKES_ONE)
def test_one_element_is_placed_without_a_scatter(take, dtype):
    x = ROWS.astype(dtype)
    plain, compressed = gradients(take, x)
    assert "scatter" in plain.lower(x, PLACES).as_text()
    assert "scatter" not in compressed.lower(x, PLACES).as_text()
    np.testing.assert_array_equal(compressed(x, PLACES), plain(x, PLACES))


@pytest.mark.parametrize("take", [_two_of_each, _whole_rows, _by_position])
def test_anything_else_is_scattered(take):
    plain, compressed = gradients(take, ROWS)
    assert "scatter" in compressed.lower(ROWS, PLACES).as_text()
    np.testing.assert_array_equal(compressed(ROWS, PLACES), plain(ROWS, PLACES))


def test_rows_that_are_split_by_type():
    mesh = jax.make_mesh((1, 1), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
    with jax.set_mesh(mesh):
        x = jax.device_put(ROWS, NamedSharding(mesh, P("a", "b", None)))
        places = jax.device_put(PLACES, NamedSharding(mesh, P("a", "b")))
        plain, compressed = gradients(_last_axis, x)
        assert "scatter" not in compressed.lower(x, places).as_text()
        found = compressed(x, places)
        assert found.sharding == x.sharding
        np.testing.assert_array_equal(found, plain(x, places))
