"""The order of the backward pass."""

import jax
import jax.numpy as jnp

from epmc_jax.passes.backward_order import gradients_first
from epmc_jax.passes.program import Op, Value


def value(*shape):
    return Value(jax.core.ShapedArray(shape, jnp.float32))


def op(name, inputs, output):
    return Op(name, inputs, [output], {}, lambda *arrays: list(arrays))


def test_the_cotangent_of_a_slice_is_padded_just_before_it_is_read():
    ct, part, padded = value(64, 64), value(32, 64), value(128, 64)
    product, total = value(64, 64), value(128, 64)
    cut = op("slice", [ct], part)
    pad = op("pad", [part], padded)
    dot = op("dot_general", [ct], product)
    add = op("add_any", [padded, padded], total)
    order = gradients_first([cut, pad, dot, add], {part, padded, product, total}, {ct})
    assert order == [cut, dot, pad, add]


def test_a_padded_gradient_comes_last():
    ct, wide = value(4, 4), value(8, 4)
    product = value(4, 4)
    pad = op("pad", [ct], wide)
    dot = op("dot_general", [ct], product)
    assert gradients_first([pad, dot], {product}, {ct}) == [dot, pad]
