"""One row per target: a call that is right, and what may not be passed instead."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from epmc_jax.codecs import (
    BitMask,
    Csr,
    GroupQuant,
    IntPack,
    Narrow,
    SparseFixedRate,
)
from tests.cases import HALVES

HUGE = (2**40, 2**62, 2**63 - 1)
SIZES = (-1, 0, 31, 1056, *HUGE)  # of groups
ROWS, ELEMENTS = 3, 100


def array(shape, dtype):
    """What a call is described with: no values."""
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


@dataclasses.dataclass(frozen=True)
class Target:
    """`rows` is the place of the encoded rows in `operands + results`."""

    name: str
    operands: tuple
    results: tuple
    attributes: dict
    rows: int
    wrong_attributes: dict  # values that are refused, of each attribute
    has_cuda: bool = True

    @property
    def dense(self):
        """The place of the array that has the shape and the dtype that are checked."""
        if self.name == "epmc_pool_gradient":
            return 2
        return 0 if self.rows > 0 else 1

    def arrays(self):
        return [*self.operands, *self.results]


def _codec(codec, dtype, wrong, decoded=None):
    """The encoder and the decoder of `codec`."""
    x = array((ROWS, ELEMENTS), dtype)
    rows = array(codec.encoded_shape(x.shape, x.dtype), np.uint8)
    out = array(x.shape, decoded or dtype)
    encode, decode = codec.encode_kernel(x.dtype), codec.decode_kernel(out.dtype)
    both = [
        (encode, (x,), (rows,), 1),
        (decode, (rows,), (out,), 0),
    ]
    return [
        Target(
            kernel.target,
            operands,
            results,
            dict(kernel.attributes),
            place,
            {name: wrong[name] for name in kernel.attributes if name in wrong},
        )
        for kernel, operands, results, place in both
    ]


def _pools():
    x, y = array((2, 8, 8, 5), "float32"), array((2, 4, 4, 5), "float32")
    rows = array(HALVES.encoded_shape(x.shape, x.dtype), np.uint8)
    window = HALVES.pool_kernel("epmc_max_pool").attributes
    wrong = {
        "window": (-1, 0, 257, *HUGE),
        "strides": (-1, 0, *HUGE),
        "padding": (-(2**63), -(2**40), *HUGE),
    }
    return [
        Target("epmc_max_pool", (x,), (y, rows), dict(window), 2, wrong),
        Target("epmc_pool_gradient", (rows, y), (x,), dict(window), 0, wrong),
    ]


def _relu_gradient():
    ct = array((ROWS, ELEMENTS), "bfloat16")
    rows = array(BitMask().encoded_shape(ct.shape, ct.dtype), np.uint8)
    return Target("epmc_relu_gradient", (rows, ct), (ct,), {}, 0, {}, has_cuda=False)


_SPARSE_WRONG = {
    "group_size": (96, 2048, *SIZES),
    "payload_nbytes": (-1, 0, 24, 2**16, *HUGE),
}


def _sparse_mask():
    mask, dtype = array((ROWS, ELEMENTS), "bool"), jnp.dtype("float32")
    codec = SparseFixedRate()
    kernel = codec.mask_codec(dtype).decode_kernel(mask.dtype)
    rows = array(codec.encoded_shape(mask.shape, dtype), np.uint8)
    wrong = {**_SPARSE_WRONG, "value_bits": (-1, 0, 8, 64, *HUGE)}
    attributes = dict(kernel.attributes)
    return Target(kernel.target, (rows,), (mask,), attributes, 0, wrong)


TARGETS = [
    *_codec(BitMask(), "float32", {}, decoded="bool"),
    *_codec(
        Csr(capacity=0.5), "float32", {"capacity": (-1.0, 0.0, 1.5, np.inf, np.nan)}
    ),
    *_codec(
        GroupQuant(bit_width=4, group_size=32),
        "bfloat16",
        {
            "bit_width": (-1, 0, 5, 16, *HUGE),
            "group_size": SIZES,
            "seed": (-1, 2**32, *HUGE),
        },
    ),
    *_codec(IntPack(num_values=5), "int32", {"bit_width": (-1, 0, 33, *HUGE)}),
    *_codec(
        Narrow(dtype="float8_e4m3fn", group_size=32),
        "float16",
        {"mantissa_bits": (-1, 0, 1, 8, *HUGE), "group_size": SIZES},
    ),
    *_pools(),
    _relu_gradient(),
    *_codec(
        SparseFixedRate(),
        "float32",
        {**_SPARSE_WRONG, "seed": (-1, 2**32, *HUGE)},
    ),
    _sparse_mask(),
]
