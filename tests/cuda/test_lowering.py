"""What is called in a program for NVIDIA GPUs, with the CUDA library and without it."""

import jax
import jax.numpy as jnp
import pytest

from epmc_jax._codec import Encoded
from epmc_jax.codecs import (
    BitMask,
    Csr,
    GroupQuant,
    IntPack,
    Narrow,
    SparseFixedRate,
    max_pool,
    pool_gradient,
)
from tests.cases import HALVES

X = jax.ShapeDtypeStruct((4, 512), jnp.float32)


def _lowered(fun, *args):
    return jax.jit(fun).trace(*args).lower(lowering_platforms=("cuda",)).as_text()


def test_encoding_is_a_call(has_library):
    text = _lowered(lambda x: BitMask().encode(x).rows, X)
    assert ("epmc_bit_mask_encode" in text) == has_library


def test_group_quant_encodes_by_a_call(has_library):
    text = _lowered(lambda x: GroupQuant(bit_width=4).encode(x).rows, X)
    assert ("epmc_group_quant_encode" in text) == has_library


def test_narrow_encodes_by_a_call(has_library):
    text = _lowered(lambda x: Narrow(dtype="float8_e5m2").encode(x).rows, X)
    assert ("epmc_narrow_encode" in text) == has_library


def test_decoding_is_a_call_where_nothing_can_be_fused(has_library):
    encoded = jax.eval_shape(GroupQuant(bit_width=4).encode, X)
    text = _lowered(lambda e: e.decode(), encoded)
    assert ("epmc_group_quant_decode" in text) == has_library


def test_decoding_in_a_backward_pass_is_fused(has_library):
    encoded = jax.eval_shape(GroupQuant(bit_width=4).encode, X)
    text = _lowered(lambda e, ct: e.decode(after=(ct,)) * ct, encoded, X)
    assert "epmc_group_quant_decode" not in text
    assert "optimization_barrier" in text


@pytest.mark.parametrize(
    ("codec", "target"),
    [
        (SparseFixedRate(), "epmc_sparse_fixed_rate_decode"),
        (SparseFixedRate().mask_codec("float32"), "epmc_sparse_fixed_rate_mask"),
        (Csr(capacity=0.5), "epmc_csr_decode"),
    ],
    ids=["values", "mask", "csr"],
)
def test_what_does_not_fuse_is_a_call_there_too(has_library, codec, target):
    nbytes = codec.row_nbytes(512, X.dtype)
    encoded = Encoded(
        jax.ShapeDtypeStruct((4, nbytes), jnp.uint8),
        codec,
        X.shape,
        codec.decoded_dtype(X.dtype),
    )
    text = _lowered(lambda e, ct: e.decode(after=(ct,)) * ct, encoded, X)
    assert (target in text) == has_library
    assert "optimization_barrier" in text


def test_encoding_sparse_values_is_a_call(has_library):
    text = _lowered(lambda x: SparseFixedRate().encode(x).rows, X)
    assert ("epmc_sparse_fixed_rate_encode" in text) == has_library


def test_packing_integers_is_a_call(has_library):
    x = jax.ShapeDtypeStruct((4, 512), jnp.int32)
    text = _lowered(lambda x: IntPack(num_values=5).encode(x).rows, x)
    assert ("epmc_int_pack_encode" in text) == has_library


def test_max_pool_and_its_gradient_are_calls(has_library):
    x = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    assert (
        "epmc_max_pool" in _lowered(lambda x: max_pool(HALVES, x), x)
    ) == has_library
    y, rows = jax.eval_shape(lambda x: max_pool(HALVES, x), x)
    text = _lowered(lambda r, ct: pool_gradient(HALVES, r, ct, x.shape), rows, y)
    assert ("epmc_pool_gradient" in text) == has_library


def test_csr_is_a_call(has_library):
    text = _lowered(lambda x: Csr(capacity=0.5).encode(x).rows, X)
    assert ("epmc_csr_encode" in text) == has_library
