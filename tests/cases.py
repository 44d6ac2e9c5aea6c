"""One row per codec, and the inputs that all of them are tested with."""

import jax.numpy as jnp
import numpy as np

from epmc_jax.codecs import (
    BitMask,
    Csr,
    GroupQuant,
    IntPack,
    Narrow,
    PoolIndex,
    Raw,
    SparseFixedRate,
)

FLOATS = ("float32", "bfloat16", "float16")

GROUP_QUANTS = tuple(
    GroupQuant(bit_width=bit_width, group_size=size, rounding=rounding, seed=12345)
    for bit_width in (1, 2, 3, 4, 8)
    for size, rounding in ((32, "nearest"), (256, "stochastic"), (1024, "nearest"))
)

NARROWS = tuple(
    Narrow(dtype=dtype, group_size=size)
    for dtype in ("bfloat16", "float8_e4m3fn", "float8_e5m2")
    for size in (32, 256)
)

CSRS = (Csr(capacity=0.3), Csr(capacity=1))

SPARSE_FIXED_RATES = tuple(
    SparseFixedRate(rate=rate, group_size=size, rounding=rounding, seed=12345)
    for rate, size, rounding in (
        (1.5, 512, "nearest"),
        (4.125, 64, "stochastic"),
        (9, 1024, "nearest"),
    )
)

# Codecs that take floats of any shape. A new one is a row here.
FLOAT_CODECS = (
    *(Raw(), BitMask(), *CSRS, *GROUP_QUANTS, *NARROWS),
    *SPARSE_FIXED_RATES,
)
FEW_FLOAT_CODECS = (
    *(Raw(), BitMask(), *CSRS, *GROUP_QUANTS[::4], *NARROWS[::2]),
    *SPARSE_FIXED_RATES[:2],
)

INT_CODECS = tuple(IntPack(num_values=n) for n in (1, 2, 3, 4, 5, 100, 128))

HALVES = PoolIndex(
    window=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding=((0, 0), (0, 0), (0, 0), (0, 0))
)
OVERLAPPING = PoolIndex(
    window=(1, 3, 3, 1), strides=(1, 2, 2, 1), padding=((0, 0), (1, 1), (0, 1), (0, 0))
)
# Codec and shape of the operand; the last two have no native kernel.
POOLS = (
    (HALVES, (2, 8, 8, 64)),
    (HALVES, (3, 6, 4, 5)),
    (OVERLAPPING, (2, 9, 11, 37)),
    (
        PoolIndex(
            window=(1, 3, 1), strides=(1, 1, 1), padding=((0, 0), (2, 1), (0, 0))
        ),
        (3, 10, 5),
    ),
    (
        PoolIndex(
            window=(1, 2, 3, 2, 1),
            strides=(1, 2, 1, 3, 1),
            padding=((0, 0), (1, 0), (1, 2), (0, 1), (0, 0)),
        ),
        (2, 5, 6, 7, 3),
    ),
    (
        PoolIndex(window=(1, 1, 2, 2), strides=(1, 1, 2, 2), padding=((0, 0),) * 4),
        (2, 3, 8, 8),
    ),
    (PoolIndex(window=(2, 2), strides=(2, 2), padding=((0, 0),) * 2), (8, 6)),
)


def contents():
    """float32[rows, 600]: usual rows, then those that go wrong."""
    rng = np.random.default_rng(0)

    def normal(rows):
        return rng.normal(size=(rows, 600))

    specials = normal(4)
    specials[0, 3], specials[1, 300], specials[2, 599] = np.nan, np.inf, -np.inf
    kinds = [
        normal(4),
        np.maximum(normal(4), 0),
        np.full((2, 600), 1.7),
        specials,
        normal(2) * 1e-39,  # subnormal
        normal(2) * 1e38,  # ranges that overflow
        normal(64) * np.exp(25 * rng.normal(size=(64, 1))),
        np.where(rng.random((2, 600)) < 0.5, -0.0, normal(2)),
    ]
    with np.errstate(over="ignore"):
        return np.concatenate(kinds).astype(np.float32)


CONTENTS = contents()

# Rows of whole and of started blocks and groups, vectors, scalars, nothing at all.
SHAPES = ((4, 64), (2, 3, 33), (3, 1000), (5, 1), (777,), (), (0, 5), (5, 0))


def normal(shape, dtype="float32", seed=0):
    """Normal numbers, the same in every run."""
    x = np.random.default_rng(seed).normal(size=shape)
    return jnp.asarray(x, jnp.float32).astype(dtype)
