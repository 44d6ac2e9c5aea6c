"""What holds for every codec: kernel and reference agree, sizes are as promised."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax import _kernels
from epmc_jax.codecs import Encoded
from tests.cases import (
    CONTENTS,
    FEW_FLOAT_CODECS,
    FLOAT_CODECS,
    FLOATS,
    INT_CODECS,
    SHAPES,
    normal,
)

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32")


@functools.partial(jax.jit, static_argnums=0)
def both_ways(codec, x):
    """Encoded and decoded by kernel and by reference: four arrays, compiled once."""
    encoded = codec.encode(x)
    if 0 in encoded.rows.shape:
        decoded = encoded.decode()
        return encoded, encoded.rows, decoded, decoded
    reference = codec.encode_reference(x)
    decoded = codec.decode_reference(encoded.rows, encoded.shape, encoded.dtype)
    return encoded, reference, encoded.decode(after=(x,)), decoded


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check_contract(codec, x):
    """Checks all that every codec promises, and returns the decoded array."""
    encoded, rows, decoded, decoded_reference = both_ways(codec, x)
    assert encoded.rows.dtype == jnp.uint8
    assert same_bits(encoded.rows, rows)
    assert encoded.nbytes == codec.encoded_nbytes(x.shape, x.dtype)
    assert encoded.rows.shape[1] % 16 == 0
    assert decoded.shape == x.shape
    assert decoded.dtype == codec.decoded_dtype(x.dtype)
    assert same_bits(decoded, decoded_reference)
    if codec.exact and decoded.dtype == x.dtype:
        assert same_bits(decoded, x)
    return decoded


def test_the_native_library_is_loaded():
    assert _kernels.has_cpu_kernels()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", FLOAT_CODECS, ids=str)
def test_contents(codec, dtype):
    check_contract(codec, jnp.asarray(CONTENTS).astype(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("codec", FEW_FLOAT_CODECS, ids=str)
def test_shapes(codec, shape):
    for dtype in FLOATS:
        check_contract(codec, normal(shape, dtype))


@pytest.mark.parametrize("codec", INT_CODECS, ids=lambda c: str(c.num_values))
def test_integers(codec):
    rng = np.random.default_rng(1)
    for dtype, shape in zip(INTEGERS, SHAPES, strict=False):
        values = rng.integers(0, codec.num_values, shape)
        check_contract(codec, jnp.asarray(values).astype(dtype))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_masks_of_booleans(shape):
    mask = jnp.asarray(np.random.default_rng(2).random(shape) < 0.5)
    for codec in FLOAT_CODECS:
        if codec.accepts(mask.dtype):
            check_contract(codec, mask)


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool", "complex64", "float8_e5m2"])
def test_raw_keeps_any_bytes(dtype):
    (raw,) = (c for c in FLOAT_CODECS if type(c).__name__ == "Raw")
    values = np.random.default_rng(3).integers(0, 2, (3, 5, 7))
    check_contract(raw, jnp.asarray(values).astype(dtype))


@pytest.mark.parametrize("codec", FLOAT_CODECS, ids=str)
def test_an_encoded_array_is_a_pytree_with_one_leaf(codec):
    encoded = codec.encode(normal((3, 70)))
    leaves, tree = jax.tree.flatten(encoded)
    assert len(leaves) == 1
    assert jax.tree.unflatten(tree, leaves) == Encoded(
        encoded.rows, codec, encoded.shape, encoded.dtype
    )


@pytest.mark.parametrize("codec", FLOAT_CODECS, ids=str)
def test_large_arrays_are_split_over_threads(codec):
    x = np.random.default_rng(4).normal(size=(37, 60_001)).astype(np.float32)
    check_contract(codec, jnp.asarray(x))


def test_a_dtype_that_is_not_accepted_is_named():
    for codec in FLOAT_CODECS:
        if not codec.accepts(jnp.dtype("int32")):
            with pytest.raises(TypeError, match="does not encode int32"):
                codec.encode(jnp.arange(3, dtype=jnp.int32))
