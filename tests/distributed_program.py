"""One of two processes that take a gradient together; prints its error.

Called with the address of the first process and the number of this one.
"""

import json
import os
import sys

if __name__ == "__main__":  # pytest imports it too, and keeps its own devices
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import epmc_jax
from epmc_jax import Policy, policies


def loss(w, x):
    for _ in range(2):
        x = jax.nn.gelu(jax.nn.relu(x @ w) @ w)
    return (x**2).mean()


def main(address: str, rank: int) -> None:
    jax.distributed.initialize(address, num_processes=2, process_id=rank)
    rng = np.random.default_rng(0)
    w = rng.standard_normal((32, 32), np.float32) / 5
    x = rng.standard_normal((8, 4, 32), np.float32)
    rules = policies.precise().rules
    gradient = jax.grad(epmc_jax.compress(loss, policy=Policy(*rules, min_bytes=0)))
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    by_batch = NamedSharding(mesh, P("data"))
    split = jax.make_array_from_callback(x.shape, by_batch, lambda index: x[index])
    whole = jax.jit(gradient, out_shardings=NamedSharding(mesh, P()))(w, split)
    own = np.asarray(whole.addressable_data(0))
    # Each process takes the gradient of all by itself, too.
    alone = np.asarray(gradient(w, x))
    error = np.linalg.norm(own - alone) / np.linalg.norm(alone)
    json.dump({"error": float(error)}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
