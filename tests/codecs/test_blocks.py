"""Arrays that are made and encoded block by block: the bytes are those of the whole."""

import functools

import jax
import jax.numpy as jnp
import pytest

from epmc_jax import SecondOrderError, _kernels
from epmc_jax._block_coding import encode_made
from epmc_jax.codecs import GroupQuant, Narrow, SparseFixedRate

CODECS = [
    GroupQuant(bit_width=8, group_size=64),
    Narrow(dtype="float8_e4m3fn"),
    SparseFixedRate(rate=4.125),
]
BALANCED = GroupQuant(bit_width=4, rounding="stochastic", seed=12345)


def exponentials(logits, largest):
    return jnp.exp(logits - largest[:, :, None])


def operands(*shape, dtype=jnp.float32):
    logits = jax.random.normal(jax.random.key(0), shape, dtype)
    return logits, logits.max(axis=-1)


def in_blocks(codec):
    return functools.partial(encode_made, exponentials, codec=codec)


def as_whole(codec):
    return lambda *operands: codec.encode(exponentials(*operands)).rows


@pytest.mark.parametrize("codec", CODECS, ids=repr)
@pytest.mark.parametrize("shape", [(7, 3, 33), (34, 2, 300), (1, 2, 40)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bytes_are_those_of_the_whole(codec, shape, dtype):
    args = operands(*shape, dtype=dtype)
    whole = jax.jit(as_whole(codec))(*args)
    assert (jax.jit(in_blocks(codec))(*args) == whole).all()
    assert (in_blocks(codec)(*args) == whole).all()


def test_bytes_are_the_same_without_a_library(monkeypatch):
    args = operands(34, 2, 300)
    native = jax.jit(in_blocks(BALANCED))(*args)
    monkeypatch.setattr(_kernels, "has_cpu_kernels", lambda: False)
    assert (jax.jit(in_blocks(BALANCED))(*args) == native).all()


def test_mapped_operands():
    logits, largest = operands(5, 4, 3, 40)
    for axes in ((0, 0), (0, None), (None, 0)):
        args = [
            x[0] if axis is None else x
            for x, axis in zip((logits, largest), axes, strict=True)
        ]
        one, other = (
            jax.jit(jax.vmap(f(BALANCED), in_axes=axes))(*args)
            for f in (in_blocks, as_whole)
        )
        assert (one == other).all()


def test_the_whole_is_never_there():
    args = operands(16, 64, 256)
    compiled = jax.jit(in_blocks(BALANCED)).lower(*args).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < args[0].nbytes / 8


@pytest.mark.parametrize("has_library", [True, False])
def test_calls_on_a_gpu(has_library, monkeypatch):
    monkeypatch.setattr(_kernels, "has_cuda_kernel", lambda target: has_library)
    jax.clear_caches()
    traced = jax.jit(in_blocks(BALANCED)).trace(*operands(34, 2, 300))
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    jax.clear_caches()
    # Two divides 34, 3 to 16 do not.
    assert text.count("custom_call @epmc_group_quant_encode") == (
        2 if has_library else 0
    )


def test_second_derivatives_are_refused():
    def total(logits, largest):
        return in_blocks(BALANCED)(logits, largest).astype(jnp.float32).sum()

    with pytest.raises(SecondOrderError, match=r"epmc_jax\.disable"):
        jax.grad(total)(*operands(4, 2, 40))
