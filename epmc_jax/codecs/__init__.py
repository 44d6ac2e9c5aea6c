"""The codecs: one frozen dataclass each. `docs/formats.md` has their bytes."""

from epmc_jax._codec import AbstractCodec, Encoded
from epmc_jax.codecs._masking import relu_gradient
from epmc_jax.codecs._pooling import max_pool, pool_gradient
from epmc_jax.codecs.bit_mask import BitMask
from epmc_jax.codecs.csr import Csr
from epmc_jax.codecs.group_quant import GroupQuant
from epmc_jax.codecs.int_pack import IntPack
from epmc_jax.codecs.narrow import Narrow
from epmc_jax.codecs.pool_index import PoolIndex
from epmc_jax.codecs.raw import Raw
from epmc_jax.codecs.sparse_fixed_rate import SparseFixedRate

__all__ = [
    "AbstractCodec",
    "BitMask",
    "Csr",
    "Encoded",
    "GroupQuant",
    "IntPack",
    "Narrow",
    "PoolIndex",
    "Raw",
    "SparseFixedRate",
    "max_pool",
    "pool_gradient",
    "relu_gradient",
]
