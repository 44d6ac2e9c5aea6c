"""The formats do not change: stored bytes still decode, and are still what is made.

`EPMC_WRITE_GOLDEN=1` writes missing files; one that is there is never overwritten.
"""

import os
import pathlib

import jax.numpy as jnp
import numpy as np
import pytest

from epmc_jax.codecs import (
    BitMask,
    Csr,
    Encoded,
    GroupQuant,
    IntPack,
    Narrow,
    PoolIndex,
    Raw,
    SparseFixedRate,
)

FOLDER = pathlib.Path(__file__).parent / "golden"
POOL = PoolIndex(
    window=(1, 3, 3, 1), strides=(1, 2, 2, 1), padding=((0, 0), (1, 1), (1, 1), (0, 0))
)

pytestmark = pytest.mark.usefixtures("optimized")
CASES = {
    "raw": Raw(),
    "bit_mask": BitMask(),
    "csr": Csr(capacity=0.9999),
    "int_pack_5": IntPack(num_values=5),
    "narrow_bfloat16": Narrow(dtype="bfloat16"),
    "narrow_e4m3fn": Narrow(dtype="float8_e4m3fn", group_size=64),
    "narrow_e5m2": Narrow(dtype="float8_e5m2"),
    "pool_index_3x3": POOL,
    "group_quant_1_stochastic": GroupQuant(
        bit_width=1, group_size=64, rounding="stochastic", seed=7
    ),
    "group_quant_2": GroupQuant(bit_width=2, group_size=32),
    "group_quant_3": GroupQuant(bit_width=3, group_size=192),
    "group_quant_4_stochastic": GroupQuant(bit_width=4, rounding="stochastic", seed=7),
    "group_quant_8": GroupQuant(bit_width=8, group_size=64),
    "sparse_fixed_rate_4": SparseFixedRate(rate=4.125, group_size=128),
    "sparse_fixed_rate_6_stochastic": SparseFixedRate(
        rate=6, rounding="stochastic", seed=7
    ),
}


def example(codec):
    """Numbers from integer arithmetic alone: the same everywhere, for ever."""
    values = (np.arange(2 * 7 * 9 * 5, dtype=np.int64) * 7919) % 1009
    values = values.reshape(2, 7, 9, 5)
    if isinstance(codec, IntPack):
        return jnp.asarray(values % codec.num_values, jnp.int32)
    return jnp.asarray((values - 504) / 64, jnp.float32)


@pytest.mark.parametrize("name", CASES)
def test_golden_bytes(name):
    codec = CASES[name]
    x = example(codec)
    encoded = codec.encode(x)
    path = FOLDER / f"{name}.bin"
    if not path.exists() and os.environ.get("EPMC_WRITE_GOLDEN"):
        path.write_bytes(np.asarray(encoded.rows).tobytes())
    stored = np.frombuffer(path.read_bytes(), np.uint8).reshape(encoded.rows.shape)
    assert np.array_equal(encoded.rows, stored)
    decoded = Encoded(jnp.asarray(stored), codec, encoded.shape, encoded.dtype).decode()
    assert jnp.array_equal(decoded, encoded.decode())
