"""The codecs of this package as `python -m bench codecs` measures them.

A new codec is a row here: its name, the data it is for, how to make it, its bar.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bench.codecs_data import DENSE, FIFTH, HALF, LABELS, NUM_LABELS
from bench.codecs_subject import Bar, Calls, Subject
from epmc_jax.codecs import (
    AbstractCodec,
    BitMask,
    Csr,
    GroupQuant,
    IntPack,
    Narrow,
    PoolIndex,
    Raw,
    SparseFixedRate,
    max_pool,
    pool_gradient,
)

DENSE_4 = "GroupQuant 4, groups of 512"
"""4.125 bits and padding, whatever the density: what sparse codecs are measured by."""
POOL_WINDOW = (1, 2, 2, 1)
POOL = PoolIndex(window=POOL_WINDOW, strides=POOL_WINDOW, padding=((0, 0),) * 4)
STOCHASTIC = functools.partial(GroupQuant, rounding="stochastic", seed=1)


def codec_calls(
    codec: AbstractCodec, x: np.ndarray, threads: int, *, note: str = ""
) -> Calls:
    """A codec's two methods under `jax.jit`, as a user calls them."""
    del threads  # XLA has as many as the process has cores.
    operand = jnp.asarray(x)
    encode = jax.jit(codec.encode)
    decode = jax.jit(lambda encoded: encoded.decode())
    return Calls(
        encode=lambda: encode(operand),
        decode=decode,
        nbytes=lambda encoded: encoded.nbytes,
        expected=x > 0 if isinstance(codec, BitMask) else x,
        note=note,
    )


def _codec(name: str, data: str, codec: AbstractCodec, **options: Any) -> Subject:
    return Subject(name, data, functools.partial(codec_calls, codec), **options)


def _csr(x: np.ndarray, threads: int) -> Calls:
    """Csr with room for the fullest row: with less, that row would decode to NaN."""
    nonzeros = np.count_nonzero(x.reshape(len(x), -1), axis=1).max()
    capacity = math.ceil(128 * nonzeros / (x.size / len(x))) / 128
    note = f"capacity {capacity:.3f}, for the fullest row"
    return codec_calls(Csr(capacity=capacity), x, threads, note=note)


def _pool(x: np.ndarray, threads: int) -> Calls:
    """Encode is the fused max-pool, decode its gradient; XLA's own are the rivals."""
    del threads
    operand = jnp.asarray(x)
    pooled = jax.jit(_xla_pool)(operand)
    ct = jax.random.normal(jax.random.key(0), pooled.shape).astype(operand.dtype)
    encode = jax.jit(functools.partial(max_pool, POOL))
    decode = jax.jit(lambda rows, ct: pool_gradient(POOL, rows, ct, x.shape))
    gradient = jax.jit(lambda x, ct: jax.vjp(_xla_pool, x)[1](ct)[0])
    xla_pool = jax.jit(_xla_pool)
    return Calls(
        encode=lambda: encode(operand),
        decode=lambda encoded: decode(encoded[1], ct),
        nbytes=lambda encoded: encoded[1].nbytes,
        expected=np.asarray(gradient(operand, ct)),
        rivals={
            "encode": lambda: xla_pool(operand),
            "decode": lambda: gradient(operand, ct),
        },
    )


def _xla_pool(x: Any) -> Any:
    floor = np.array(-np.inf, x.dtype)
    return lax.reduce_window(x, floor, lax.max, POOL_WINDOW, POOL_WINDOW, "VALID")


SUBJECTS = (
    _codec("Raw", DENSE, Raw()),
    _codec(
        "GroupQuant 8", DENSE, GroupQuant(bit_width=8), bar=Bar(encode=1.3, decode=1.5)
    ),
    _codec(
        "GroupQuant 8 stochastic",
        DENSE,
        STOCHASTIC(bit_width=8),
        bar=Bar(encode=1.1, decode=1.5),
    ),
    _codec(
        "GroupQuant 4", DENSE, GroupQuant(bit_width=4), bar=Bar(encode=1.3, decode=1.6)
    ),
    _codec(
        "GroupQuant 4 stochastic",
        DENSE,
        STOCHASTIC(bit_width=4),
        bar=Bar(encode=1.1, decode=1.6),
    ),
    _codec(
        "GroupQuant 3", DENSE, GroupQuant(bit_width=3), bar=Bar(encode=1.2, decode=1.6)
    ),
    _codec(
        "GroupQuant 2", DENSE, GroupQuant(bit_width=2), bar=Bar(encode=1.2, decode=1.7)
    ),
    _codec("GroupQuant 2 stochastic", DENSE, STOCHASTIC(bit_width=2)),
    _codec(
        "GroupQuant 1", DENSE, GroupQuant(bit_width=1), bar=Bar(encode=1.2, decode=1.6)
    ),
    _codec("GroupQuant 1 stochastic", DENSE, STOCHASTIC(bit_width=1)),
    _codec("Narrow bfloat16", DENSE, Narrow(dtype="bfloat16"), dtypes=("float32",)),
    _codec("Narrow float8_e4m3fn", DENSE, Narrow(dtype="float8_e4m3fn")),
    _codec("Narrow float8_e5m2", DENSE, Narrow(dtype="float8_e5m2")),
    _codec("BitMask", HALF, BitMask(), bar=Bar(encode=1.8, decode=1.8)),
    _codec(DENSE_4, HALF, GroupQuant(bit_width=4, group_size=512)),
    _codec(DENSE_4, FIFTH, GroupQuant(bit_width=4, group_size=512)),
    _codec(
        "SparseFixedRate 4.125",
        HALF,
        SparseFixedRate(rate=4.125),
        bar=Bar(encode=1.2, decode=1.3, csr_per_size=5, dense_per_error=3),
    ),
    _codec("SparseFixedRate 4.125", FIFTH, SparseFixedRate(rate=4.125)),
    Subject("Csr", HALF, _csr),
    Subject("Csr", FIFTH, _csr),
    _codec(
        "IntPack, 10 values",
        LABELS,
        IntPack(num_values=NUM_LABELS),
        dtypes=("float32",),
    ),
    Subject(
        "PoolIndex 2x2", HALF, _pool, bar=Bar(encode_per_rival=1.1, decode_per_rival=1)
    ),
)
