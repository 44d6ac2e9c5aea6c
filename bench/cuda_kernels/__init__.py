"""The CUDA kernels that are counted and checked: a file per codec, and a line here."""

from bench.cuda_kernels import bit_mask, group_quant
from bench.cuda_kernels.launch import Budget as Budget
from bench.cuda_kernels.launch import Case as Case
from bench.cuda_kernels.launch import Kernels as Kernels
from bench.cuda_kernels.launch import Launch as Launch

ALL: tuple[Kernels, ...] = (
    bit_mask.KERNELS,
    group_quant.KERNELS,
)
