"""Steps of a uniform quantiser in arithmetic that all processors round alike."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from epmc_jax.codecs._rows import BLOCK, bits_to_float, float_bits

# Beyond, a step would overflow or lose bits as a subnormal: such a group is all NaN, or
# constant to 2^-100.
MAX_RANGE = np.float32(2.0**126)
MIN_RANGE = np.float32(2.0**-100)
EXPONENT = np.uint32(0x7F800000)


def flushed(x: jax.Array) -> jax.Array:
    """float32 with -0 and subnormals as +0, by their bits: processors differ there."""
    bits = float_bits(x.astype(jnp.float32))
    return bits_to_float(jnp.where((bits & EXPONENT) == 0, np.uint32(0), bits))


def inverse_step16(step: jax.Array) -> jax.Array:
    """65536 / step, rounded down to 24 bits, with integer divisions; 0 for step 0."""
    bits = float_bits(step)
    mantissa = ((bits & np.uint32(0x7FFFFF)) | np.uint32(0x800000)) >> 8
    high = np.uint32(2**31) // mantissa
    rest = np.uint32(2**31) - high * mantissa
    quotient = high * np.uint32(256) + rest * np.uint32(256) // mantissa
    exponent = np.int32(119) - (bits >> 23).astype(jnp.int32)
    scaled = float_bits(quotient.astype(jnp.float32)) + (
        exponent.astype(jnp.uint32) << 23
    )
    return jnp.where(step == 0, np.float32(0), bits_to_float(scaled))


def group_keys(seed: int, lo: jax.Array, step: jax.Array) -> jax.Array:
    """What the dither of each group starts from: uint32[rows, groups]."""
    rows, groups = lo.shape
    number = jnp.arange(rows * groups, dtype=jnp.uint32).reshape(rows, groups)
    rotated = (float_bits(step) << 16) | (float_bits(step) >> 16)
    return mix((np.uint32(seed) ^ mix(number) ^ float_bits(lo)) + rotated)


def dither16(keys: jax.Array, group_size: int) -> jax.Array:
    """Dither in 2^-16 of a step of each element: int32[*keys.shape, group_size]."""
    pairs = np.arange(group_size // 2, dtype=np.uint32)
    hashes = mix(keys[..., None] + pairs * np.uint32(0x9E3779B9))
    hashes = hashes.reshape(*keys.shape, -1, BLOCK // 2)
    halves = jnp.concatenate([hashes & np.uint32(0xFFFF), hashes >> 16], axis=-1)
    return halves.reshape(*keys.shape, -1).astype(jnp.int32)


def mix(x: jax.Array) -> jax.Array:
    """The hash lowbias32 of Chris Wellons."""
    x = x ^ (x >> 16)
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> 15)
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
