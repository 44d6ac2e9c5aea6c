"""Codecs as XLA compiles their references: the same bytes, without a kernel."""

import dataclasses
from typing import Any

from epmc_jax.codecs import Csr, GroupQuant


class _WithoutKernels:
    def encode_kernel(self, dtype: Any) -> None:
        del dtype

    def decode_kernel(self, dtype: Any) -> None:
        del dtype


@dataclasses.dataclass(frozen=True, kw_only=True)
class JnpGroupQuant(_WithoutKernels, GroupQuant):
    """`GroupQuant` as jnp code."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class JnpCsr(_WithoutKernels, Csr):
    """`Csr` as jnp code."""
