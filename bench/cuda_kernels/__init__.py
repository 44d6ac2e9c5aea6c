"""The CUDA kernels that are counted and checked: a file per codec, and a line here."""

from bench.cuda_kernels import (
    bit_mask,
    csr,
    group_quant,
    int_pack,
    narrow,
    pool_index,
    sparse_fixed_rate,
)
from bench.cuda_kernels.launch import Budget as Budget
from bench.cuda_kernels.launch import Case as Case
from bench.cuda_kernels.launch import Kernels as Kernels
from bench.cuda_kernels.launch import Launch as Launch

ALL: tuple[Kernels, ...] = (
    bit_mask.KERNELS,
    csr.KERNELS,
    group_quant.KERNELS,
    int_pack.KERNELS,
    narrow.KERNELS,
    pool_index.KERNELS,
    sparse_fixed_rate.KERNELS,
)
