"""Compiles a gradient for an H100 on a machine without one, for its memory figure.

Needs jax's CUDA plug-in (`pip install "jax[cuda13]"`, several GB); no driver, no GPU.
`environment.DEVICELESS` must be in the environment before jax starts. XLA looks custom
calls up when it compiles: they need handlers registered for CUDA.
"""

import string
from typing import Any

import jax
from jax.experimental import topologies

from bench.measure import gradient
from bench.methods import Loss

H100_BYTES = 84_929_347_584
# What XLA asks a device for when it plans a program, as an H100 SXM answers.
_H100 = string.Template("""
gpu_device_info {
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  device_memory_size: $memory_bytes
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
""")


class NoCudaPluginError(RuntimeError):
    """jax cannot compile for CUDA here."""


def require() -> None:
    """Raises `NoCudaPluginError` with the remedy if jax cannot compile for an H100."""
    try:
        _sharding()
    except Exception as error:
        raise NoCudaPluginError(
            f"jax {jax.__version__} does not compile for CUDA here ({error}). Install "
            'its plug-in into this environment: pip install "jax[cuda13]".'
        ) from error


def h100(memory_bytes: int = H100_BYTES) -> str:
    """XLA's description of an H100 with so much memory."""
    return _H100.substitute(memory_bytes=memory_bytes)


def compile_gradient(
    loss: Loss, args: tuple[Any, ...], memory_bytes: int = H100_BYTES
) -> jax.stages.Compiled:
    """The gradient of `loss` compiled for one H100; its results are never computed.

    With less memory XLA recomputes more by itself, to fit.
    """
    sharding = _sharding(memory_bytes)
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), args
    )
    traced = jax.jit(gradient(loss)).trace(*placed)
    return traced.lower(lowering_platforms=("cuda",)).compile()


def _sharding(memory_bytes: int = H100_BYTES) -> jax.sharding.Sharding:
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=h100(memory_bytes), topology="1x1x1"
    )
    mesh = topologies.make_mesh(topology, (1,), ("device",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
