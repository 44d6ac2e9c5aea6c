"""Compiles a gradient for an H100 on a machine without one, for its memory figure.

Needs jax's CUDA plug-in (`pip install "jax[cuda13]"`, several GB); no driver, no GPU.
`environment.DEVICELESS` must be in the environment before jax starts. XLA looks custom
calls up when it compiles: they need handlers registered for CUDA.
"""

from typing import Any

import jax
from jax.experimental import topologies

from bench.measure import gradient
from bench.methods import Loss

# What XLA asks a device for when it plans a program, as an H100 SXM answers.
H100 = """
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
  device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
runtime_version { major: 13 minor: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


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


def compile_gradient(loss: Loss, args: tuple[Any, ...]) -> jax.stages.Compiled:
    """The gradient of `loss` compiled for one H100; its results are never computed."""
    sharding = _sharding()
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), args
    )
    traced = jax.jit(gradient(loss)).trace(*placed)
    return traced.lower(lowering_platforms=("cuda",)).compile()


def _sharding() -> jax.sharding.Sharding:
    topology = topologies.get_topology_desc(
        platform="cuda", target_config=H100, topology="1x1x1"
    )
    mesh = topologies.make_mesh(topology, (1,), ("device",))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
