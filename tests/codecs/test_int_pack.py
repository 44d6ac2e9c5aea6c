"""IntPack of any integers: kernel and reference agree on what does not fit, too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import IntPack
from tests.codecs.test_contract import INTEGERS, both_ways, same_bits

WIDTHS = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32)


def any_integers(dtype, shape):
    """Integers of all sizes and signs, as many as `shape` says."""
    rng = np.random.default_rng(3)
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return jnp.asarray(np.frombuffer(rng.bytes(nbytes), dtype).reshape(shape))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_what_does_not_fit_is_cut_off(dtype, width):
    codec = IntPack(num_values=2**width)
    x = any_integers(dtype, (3, 333))
    encoded, rows, decoded, decoded_reference = both_ways(codec, x)
    assert same_bits(encoded.rows, rows)
    assert same_bits(decoded, decoded_reference)
    bits = 8 * jnp.dtype(dtype).itemsize
    kept = np.asarray(x).astype(np.int64) & (2 ** min(width, bits) - 1)
    assert same_bits(decoded, kept.astype(dtype))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", INTEGERS)
def test_any_bytes_decode_alike(dtype, width):
    codec = IntPack(num_values=2**width)
    x = any_integers(dtype, (3, 333))
    rows = any_integers("uint8", (3, codec.row_nbytes(333, dtype)))
    encoded = codec.encode(x)
    swapped = jax.tree.unflatten(jax.tree.structure(encoded), [rows])
    assert same_bits(
        swapped.decode(after=(x,)), codec.decode_reference(rows, x.shape, x.dtype)
    )
