"""Prints, for one policy, what sharding over four devices costs; run by a test.

A process of its own, because the number of devices is fixed when jax starts.
"""

import json
import os
import re
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import epmc_jax
from epmc_jax import Policy, policies
from tests.models import relative_error

GATHERS = ("all-gather", "all-to-all", "collective-permute")


def loss(params, x):
    kernel, dense = params
    for _ in range(2):
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu((x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + 1e-5))
        shape, strides = (1, 3, 3, 1), (1, 2, 2, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, "SAME")
    x = x.reshape(x.shape[0], -1)
    layer = lambda x, w: (x + jax.nn.gelu(x @ w), None)  # noqa: E731
    return (lax.scan(layer, x, dense)[0] ** 2).mean()


def measure(fun, mesh):
    """Gathers in the compiled gradient, temporary bytes per device, the gradient."""
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))  # noqa: E731
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = put(jax.random.normal(keys[0], (3, 3, 8, 8)) / 8, PartitionSpec())
    dense = put(jax.random.normal(keys[1], (3, 512, 512)) / 22, PartitionSpec())
    images = jax.random.normal(keys[2], (16, 32, 32, 8))
    args = (kernel, dense), put(images, PartitionSpec("data"))
    compiled = jax.jit(jax.grad(fun)).lower(*args).compile()
    text = compiled.as_text()
    gathers = sum(len(re.findall(rf" {name}\(", text)) for name in GATHERS)
    temp = compiled.memory_analysis().temp_size_in_bytes
    return gathers, temp, compiled(*args)


def main(policy: str) -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    rules = getattr(policies, policy)().rules
    compressed = epmc_jax.compress(loss, policy=Policy(*rules, min_bytes=0))
    plain_gathers, plain_temp, plain = measure(loss, mesh)
    gathers, temp, gradient = measure(compressed, mesh)
    error = relative_error(plain, gradient)
    result = {"plain_gathers": plain_gathers, "gathers": gathers, "error": error}
    json.dump({**result, "temp": temp, "plain_temp": plain_temp}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
