"""The CUDA library's handlers and kernels, run on the CPU through jit."""

import functools
import os
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import (
    BitMask,
    Csr,
    GroupQuant,
    IntPack,
    Narrow,
    SparseFixedRate,
    _pooling,
)
from tests.cases import POOLS
from tests.cuda.conftest import CODECS as KERNEL_FOLDERS

pytestmark = pytest.mark.native
FORWARD, REVERSE, RANDOM = range(3)
CODECS = (
    BitMask(),
    Csr(capacity=0.5),
    Csr(capacity=0.9),
    GroupQuant(bit_width=1, rounding="stochastic", seed=9),
    GroupQuant(bit_width=2, group_size=32),
    GroupQuant(bit_width=3, group_size=96),
    GroupQuant(bit_width=4, rounding="stochastic", seed=9),
    GroupQuant(bit_width=8, group_size=1024),
    Narrow(dtype="bfloat16"),
    Narrow(dtype="float8_e4m3fn"),
    Narrow(dtype="float8_e5m2", group_size=1024),
    SparseFixedRate(),
    SparseFixedRate(rate=2, group_size=128, rounding="stochastic", seed=9),
    SparseFixedRate(rate=16, group_size=64),
)
CASES = (
    ("float32", (3, 1000), FORWARD),
    ("bfloat16", (2, 7, 13), REVERSE),
    ("float16", (2, 520), RANDOM),
)


def _call(kernel, result, *operands, **attributes):
    attributes = {**kernel.attributes, **attributes}
    call = jax.ffi.ffi_call(f"{kernel.target}_emulated", result)
    return jax.jit(lambda *xs: call(*xs, **attributes))(*operands)


@functools.partial(jax.jit, static_argnames="codec")
def _encoded(codec, x):
    return codec.encode_reference(x)


@functools.partial(jax.jit, static_argnames=("codec", "shape", "dtype"))
def _decoded(codec, rows, shape, dtype):
    return codec.decode_reference(rows, shape, dtype)


def _input(shape, dtype):
    x = np.random.default_rng(0).normal(size=shape)
    return jnp.asarray(np.where(x > -0.5, x, 0), dtype)


def _bits(x):
    return np.asarray(x).view(np.uint8)


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize(("dtype", "shape", "order"), CASES)
def test_bytes_are_those_of_the_reference(emulator, codec, dtype, shape, order):
    emulator.epmc_emulator_set_order(order, 7)
    x = _input(shape, dtype)
    expected = _encoded(codec, x)
    result = jax.ShapeDtypeStruct(expected.shape, jnp.uint8)
    rows = _call(codec.encode_kernel(x.dtype), result, x)
    np.testing.assert_array_equal(rows, expected)

    out = jnp.dtype(codec.decoded_dtype(x.dtype))
    kernel = codec.decode_kernel(out)
    # One operand to wait for, as on CPU.
    decoded = _call(kernel, jax.ShapeDtypeStruct(shape, out), rows, jnp.ones(3))
    expected = _decoded(codec, rows, shape, out)
    np.testing.assert_array_equal(_bits(decoded), _bits(expected))


def test_booleans(emulator):
    emulator.epmc_emulator_set_order(FORWARD, 0)
    x = _input((3, 100), "float32") > 0
    expected = _encoded(BitMask(), x)
    result = jax.ShapeDtypeStruct(expected.shape, jnp.uint8)
    rows = _call(BitMask().encode_kernel(x.dtype), result, x)
    np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("rate", [2, 4.125])
@pytest.mark.parametrize(("dtype", "shape", "order"), CASES)
def test_masks(emulator, rate, dtype, shape, order):
    emulator.epmc_emulator_set_order(order, 7)
    x = jnp.maximum(_input(shape, dtype), 0)
    codec = SparseFixedRate(rate=rate)
    kernel = codec.mask_codec(x.dtype).decode_kernel(jnp.dtype("bool"))
    rows = _encoded(codec, x)
    mask = _call(kernel, jax.ShapeDtypeStruct(shape, jnp.bool_), rows, jnp.ones(3))
    np.testing.assert_array_equal(mask, x > 0)


@pytest.mark.parametrize("order", [FORWARD, REVERSE, RANDOM])
@pytest.mark.parametrize("num_values", [2, 5, 128, 1000])
def test_integers(emulator, num_values, order):
    emulator.epmc_emulator_set_order(order, 7)
    codec = IntPack(num_values=num_values)
    for dtype in ("int8", "uint16", "int32"):
        top = min(num_values, jnp.iinfo(dtype).max + 1)
        x = jnp.asarray(np.random.default_rng(0).integers(0, top, (3, 7, 150)), dtype)
        expected = _encoded(codec, x)
        result = jax.ShapeDtypeStruct(expected.shape, jnp.uint8)
        rows = _call(codec.encode_kernel(x.dtype), result, x)
        np.testing.assert_array_equal(rows, expected)
        result = jax.ShapeDtypeStruct(x.shape, x.dtype)
        decoded = _call(codec.decode_kernel(x.dtype), result, rows)
        np.testing.assert_array_equal(decoded, x)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("codec", "shape"), POOLS[:5])
def test_pooling(emulator, codec, shape, dtype):
    emulator.epmc_emulator_set_order(REVERSE, 0)
    x = _input(shape, dtype)
    y, rows = _pooling._max_pool_reference(x, codec=codec)
    results = (
        jax.ShapeDtypeStruct(y.shape, y.dtype),
        jax.ShapeDtypeStruct(rows.shape, rows.dtype),
    )
    pooled = _call(codec.pool_kernel("epmc_max_pool"), results, x)
    np.testing.assert_array_equal(_bits(pooled[0]), _bits(y))
    np.testing.assert_array_equal(pooled[1], rows)
    ct = _input(y.shape, dtype)
    expected = _pooling._gradient_on_cpu(rows, ct, codec=codec, shape=shape)
    result = jax.ShapeDtypeStruct(shape, x.dtype)
    ct_x = _call(codec.pool_kernel("epmc_pool_gradient"), result, rows, ct)
    np.testing.assert_array_equal(_bits(ct_x), _bits(expected))


def test_pin_returns_its_first_operand(emulator):
    x = _input((5, 3), "bfloat16")
    call = jax.ffi.ffi_call(
        "epmc_pin_emulated",
        jax.ShapeDtypeStruct(x.shape, x.dtype),
        input_output_aliases={0: 0},
    )
    np.testing.assert_array_equal(jax.jit(call)(x, jnp.ones(2)), x)


def test_wrong_sizes_are_named(emulator):
    x = _input((3, 1000), "float32")
    kernel = GroupQuant(bit_width=4).encode_kernel(x.dtype)
    with pytest.raises(Exception, match="bytes per row is 16, expected"):
        _call(kernel, jax.ShapeDtypeStruct((3, 16), jnp.uint8), x)
    with pytest.raises(Exception, match="bit_width is 5, expected 1, 2, 3, 4 or"):
        _call(kernel, jax.ShapeDtypeStruct((3, 16), jnp.uint8), x, bit_width=5)


@pytest.mark.parametrize("codec", KERNEL_FOLDERS)
def test_kernels_under_sanitizers_in_all_orders(emulator_build, codec):
    """Shapes, types, parameters and orders, in C++."""
    _run(emulator_build / f"{codec}_emulated_test", "all")


@pytest.mark.parametrize("codec", KERNEL_FOLDERS)
def test_lanes_do_not_race(emulator_build, codec):
    """`make test-cuda` sets EPMC_TEST_CASES to all: minutes instead of seconds."""
    cases = os.environ.get("EPMC_TEST_CASES", "few")
    _run(emulator_build / f"{codec}_emulated_test_races", cases)


def _run(test, cases):
    env = {**os.environ, "EPMC_TEST_CASES": cases}
    done = subprocess.run([test], env=env, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
