"""Shorter rows, for arrays that XLA may split along axes behind the first."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax._codec import short_rows
from epmc_jax._coding import decode_rows
from epmc_jax.codecs import BitMask, IntPack, SparseFixedRate, relu_gradient
from tests.cases import FEW_FLOAT_CODECS, HALVES, normal

WAYS = 4
CODECS = [dataclasses.replace(codec, ways=WAYS) for codec in FEW_FLOAT_CODECS]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((6, 512), (6, 4, 128)),  # the last axis is divided
        ((6, 5, 512), (6, 5, 4, 128)),  # those before it count rows
        ((6, 8, 64), (6, 4, 128)),  # too short: the one before it is
        ((6, 5, 100), (6, 100 * 5)),  # 25 elements are too short, 5 not to be divided
        ((6, 5, 101), (6, 5, 101)),
        ((6, 2, 130), (6, 2, 2, 65)),
        ((6, 4, 32), None),
        ((512,), None),
        ((), None),
        ((6, 0, 512), (6, 0, 4, 128)),
        ((6, 512, 0), None),
    ],
)
def test_rows_are_as_short_as_they_may_be(shape, expected):
    assert short_rows(shape, WAYS) == expected


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize(
    "shape", [(3, 5, 512), (3, 8, 70), (2, 512), (3, 0, 512)], ids=str
)
@pytest.mark.parametrize("jit", [jax.jit, lambda fun: fun], ids=["jit", "eager"])
def test_the_bytes_are_those_of_the_short_rows(codec, shape, jit):
    x = normal(shape)
    rows = jit(lambda x: codec.encode(x).rows)(x)
    *leading, elements = short_rows(shape, WAYS)
    assert rows.shape == codec.encoded_shape(shape, x.dtype)
    assert rows.shape[:-1] == tuple(leading)
    joined = codec.encode(x.reshape(int(np.prod(leading)), elements))
    assert jnp.array_equal(rows.reshape(-1), joined.rows.reshape(-1))
    decoded = jit(lambda x: codec.encode(x).decode(after=(x,)))(x)
    assert decoded.shape == shape
    np.testing.assert_array_equal(decoded, joined.decode().reshape(shape))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_vmap_is_a_loop_without_dither(codec):
    if getattr(codec, "rounding", "nearest") == "stochastic":
        pytest.skip("numbers the groups of the batch")
    x = normal((4, 3, 5, 512))
    rows = jax.vmap(lambda one: codec.encode(one).rows)(x)
    assert jnp.array_equal(rows, jnp.stack([codec.encode(one).rows for one in x]))
    decoded = jax.vmap(lambda one: codec.encode(one).decode(after=(one,)))(x)
    expected = jnp.stack([codec.encode(one).decode() for one in x])
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_jnp_code_decodes_the_same(codec):
    encoded = codec.encode(normal((3, 5, 512)))
    dtype = encoded.dtype
    decode = jax.jit(lambda rows: decode_rows(codec, rows, (3, 5, 4, 128), dtype))
    decoded = decode(encoded.rows).reshape(encoded.shape)
    np.testing.assert_array_equal(decoded, encoded.decode())


def test_jnp_code_encodes_the_same(monkeypatch):
    x, codec = normal((3, 5, 512)), CODECS[-1]
    expected = codec.encode(x).rows
    monkeypatch.setattr(type(codec), "encode_kernel", lambda self, dtype: None)
    assert jnp.array_equal(jax.jit(lambda x: codec.encode(x).rows)(x), expected)


def test_axes_in_another_order_are_refused():
    mask = normal((2, 3, 64)) > 0
    rows = BitMask().encode(mask.reshape(6, 64)).rows
    result = jax.ShapeDtypeStruct((2, 3, 64), jnp.float32)
    call = jax.ffi.ffi_call("epmc_relu_gradient", result)
    ct = jnp.ones((2, 3, 64))
    assert jnp.array_equal(call(rows.reshape(2, 3, -1), ct), mask)
    with pytest.raises(Exception, match="size of an axis of rows is 3, expected 2"):
        call(rows.reshape(3, 2, -1), ct)


def test_masks_of_short_rows():
    x, ct = jax.nn.relu(normal((3, 5, 512))), normal((3, 5, 512), seed=1)
    expected = jnp.where(x > 0, ct, 0)
    rows = BitMask(ways=WAYS).encode(x).rows
    assert rows.ndim == 4
    assert jnp.array_equal(relu_gradient(rows, ct), expected)
    both = jax.vmap(relu_gradient, in_axes=(None, 0))(rows, jnp.stack([ct, 2 * ct]))
    assert jnp.array_equal(both, jnp.stack([expected, 2 * expected]))

    encoded = SparseFixedRate(ways=WAYS).encode(x)
    mask_codec = encoded.codec.mask_codec(x.dtype)
    mask = type(encoded)(encoded.rows, mask_codec, x.shape, jnp.dtype(bool)).decode()
    assert jnp.array_equal(mask, x > 0)


def test_ways_of_integers():
    x = jnp.arange(3 * 512, dtype=jnp.int32).reshape(3, 512) % 300
    encoded = IntPack(num_values=300, ways=WAYS).encode(x)
    assert encoded.rows.shape[:-1] == (3, 4)
    assert jnp.array_equal(encoded.decode(), x)


def test_ways_that_cannot_be():
    with pytest.raises(ValueError, match="ways must be at least 1, got 0"):
        BitMask(ways=0)
    with pytest.raises(ValueError, match="ways must be 1 for PoolIndex, got 2"):
        dataclasses.replace(HALVES, ways=2)
