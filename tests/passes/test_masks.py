"""A mask that the bytes of a ReLU's output tell is not stored."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import Policy, Rule
from epmc_jax._codec import AbstractCodec
from epmc_jax.codecs import GroupQuant, SparseFixedRate
from epmc_jax.policy import pack_mask
from tests.models import relative_error

X = jax.random.normal(jax.random.key(0), (64, 256))
W = jax.random.normal(jax.random.key(1), (256, 256)) / 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Halved(AbstractCodec):
    """float32 as bfloat16, whose sign tells the mask."""

    exact: ClassVar[bool] = False

    def accepts(self, dtype: Any) -> bool:
        return jnp.dtype(dtype) == jnp.float32

    def row_nbytes(self, row_elements: int, dtype: Any) -> int:
        return 2 * row_elements

    def encode_reference(self, x):
        rows = jax.lax.bitcast_convert_type(x.astype(jnp.bfloat16), jnp.uint8)
        return rows.reshape(x.shape[0], -1)

    def decode_reference(self, rows, shape, dtype):
        pairs = rows.reshape(*shape, 2)
        return jax.lax.bitcast_convert_type(pairs, jnp.bfloat16).astype(dtype)

    def mask_codec(self, dtype: Any) -> AbstractCodec:
        return HalvedMask()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HalvedMask(Halved):
    def decode_reference(self, rows, shape, dtype):
        return Halved().decode_reference(rows, shape, jnp.float32) > 0


def loss(w, x):
    return ((jax.nn.relu(x @ w) @ w) ** 2).sum()


def plan_of(codec):
    policy = Policy(Rule(codec=pack_mask), Rule(kind="relu", codec=codec))
    kinds = [row.kind for row in epmc_jax.plan(loss, W, X, policy=policy).rows]
    return kinds, epmc_jax.compress(loss, policy=policy)


@pytest.mark.parametrize("codec", [Halved(), SparseFixedRate(rate=10)])
def test_the_mask_is_read_from_the_array(codec):
    kinds, compressed = plan_of(codec)
    assert "relu" in kinds
    assert "mask" not in kinds
    expected = jax.grad(loss)(W, X)
    assert relative_error(expected, jax.jit(jax.grad(compressed))(W, X)) < 0.01


def test_a_codec_that_does_not_tell_keeps_the_mask():
    kinds, _ = plan_of(GroupQuant(bit_width=8))
    assert "relu" in kinds
    assert "mask" in kinds
