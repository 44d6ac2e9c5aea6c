"""Loads the native library and registers its targets with XLA.

There is no build step here: without the library (it is part of every wheel) the jnp
references run instead, with the same bytes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

_CPU_LIBRARY = "_epmc_cpu.so"
_CUDA_LIBRARY = "_epmc_cuda.so"

# XLA's default is true: calls with a stream of their own become asynchronous.
_STREAMS_FLAG = "--xla_gpu_experimental_stream_annotation"

# The name of a target is also the name of its symbol in the library.
_CPU_TARGETS = (
    "epmc_pin",
    "epmc_bit_mask_encode",
    "epmc_bit_mask_decode",
    "epmc_csr_encode",
    "epmc_csr_decode",
    "epmc_group_quant_encode",
    "epmc_group_quant_decode",
    "epmc_int_pack_encode",
    "epmc_int_pack_decode",
    "epmc_max_pool",
    "epmc_narrow_encode",
    "epmc_narrow_decode",
    "epmc_pool_gradient",
    "epmc_relu_gradient",
    "epmc_sparse_fixed_rate_encode",
    "epmc_sparse_fixed_rate_decode",
    "epmc_sparse_fixed_rate_mask",
)

# The ReLU's gradient runs as jnp code on GPUs, where XLA fuses it.
_CUDA_TARGETS = (
    "epmc_pin",
    "epmc_bit_mask_encode",
    "epmc_bit_mask_decode",
    "epmc_csr_encode",
    "epmc_csr_decode",
    "epmc_group_quant_encode",
    "epmc_group_quant_decode",
    "epmc_int_pack_encode",
    "epmc_int_pack_decode",
    "epmc_max_pool",
    "epmc_narrow_encode",
    "epmc_narrow_decode",
    "epmc_pool_gradient",
    "epmc_sparse_fixed_rate_encode",
    "epmc_sparse_fixed_rate_decode",
    "epmc_sparse_fixed_rate_mask",
)


def has_cpu_kernels() -> bool:
    """True if the CPU library is there; registers its targets at the first call."""
    return _register(_CPU_LIBRARY, _CPU_TARGETS, "cpu")


def has_cuda_kernel(target: str) -> bool:
    """True if the CUDA library is there and has `target`; registers as for CPU."""
    return target in _CUDA_TARGETS and _register(_CUDA_LIBRARY, _CUDA_TARGETS, "CUDA")


def is_for_cuda(target: str) -> bool:
    """True if calls of `target` are a kernel on NVIDIA GPUs, wherever this runs."""
    return target in _CUDA_TARGETS


def runs_asynchronously(target: str | None) -> bool:
    """True if calls of `target` may run beside the layers, on a CUDA stream of their
    own."""
    return target is not None and _has_streams() and has_cuda_kernel(target)


@functools.cache
def _has_streams() -> bool:
    flags = os.environ.get("XLA_FLAGS", "").split()
    last = [f.partition("=")[2] for f in flags if f.startswith(_STREAMS_FLAG)][-1:]
    if last and last[0].lower() in ("false", "0"):
        warnings.warn(
            f"XLA_FLAGS has {_STREAMS_FLAG}={last[0]}: encoding on GPUs is not hidden "
            "behind the layers. Results and memory are the same. Remove the flag.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


def register_kernels() -> list[str]:
    """Registers the libraries that are there; returns the names of all targets."""
    has_cpu_kernels()
    if _find(_CUDA_LIBRARY) is not None:
        _register(_CUDA_LIBRARY, _CUDA_TARGETS, "CUDA")
    return sorted({*_CPU_TARGETS, *_CUDA_TARGETS})


def call_target(
    target: str,
    result: Any,
    operands: Sequence[Any],
    attributes: dict[str, Any],
    *,
    aliases: dict[int, int] | None = None,
) -> Any:
    """Calls a registered target: `result` is one `jax.ShapeDtypeStruct`, or several."""
    call = jax.ffi.ffi_call(target, result, input_output_aliases=aliases)
    return call(*operands, **attributes)


@functools.cache
def _register(library_name: str, targets: tuple[str, ...], platform: str) -> bool:
    path = _find(library_name)
    if path is None:
        warnings.warn(
            f"{library_name} is not beside the package: encoding runs as jnp code, "
            "slower and, on CPU, without keeping the order that saves memory. "
            "`pip install .` in a checkout builds it (for CUDA where nvcc is found).",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    library = ctypes.CDLL(str(path))
    for target in targets:
        try:
            symbol = getattr(library, target)
        except AttributeError as error:
            raise ImportError(
                f"{path} has no {target}: it was built from other sources. Run "
                "`pip install .` (or `pip install -e .`) again."
            ) from error
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(symbol), platform=platform
        )
    return True


def _find(library_name: str) -> Path | None:
    # An editable install has two entries: the sources, and what the build installed.
    for entry in sys.modules[__package__].__path__:
        path = Path(entry) / library_name
        if path.exists():
            return path
    return None
