"""Prints what a gradient costs on eight devices, plain and compressed; run by a test.

A process of its own, because the number of devices is fixed when jax starts.
"""

import collections
import json
import os
import re
import sys

if __name__ == "__main__":  # pytest imports it too, and keeps its own devices
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import epmc_jax
from epmc_jax import Policy, policies
from tests.models import dropouts, relative_error

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)
# Parameters are smaller than activations: else XLA may gather these instead, and
# chooses anew where a product has other neighbours.
BATCH, TIME, WIDTH, HEADS, HIDDEN = 64, 16, 32, 4, 256


def compress(fun, policy, ways=1):
    rules = getattr(policies, policy)().rules
    return epmc_jax.compress(fun, policy=Policy(*rules, min_bytes=0, ways=ways))


def normal(seed, *shape):
    scale = shape[-2] ** 0.5 if len(shape) > 1 else 1
    return jax.random.normal(jax.random.key(seed), shape) / scale


def moved(compiled):
    """The arrays that each kind of collective makes: XLA may join several in one."""
    found = collections.Counter()
    for kind in COLLECTIVES:
        made = re.findall(rf" = (\S+|\(.*?\)) {kind}(?:-start)?\(", compiled.as_text())
        arrays = re.findall(r"\w+\[[\d,]*\]", " ".join(made))
        found.update(f"{kind} {array}" for array in arrays)
    return found


def measure(fun, *args, differentiate=jax.grad):
    compiled = jax.jit(differentiate(fun)).lower(*args).compile()
    temp = compiled.memory_analysis().temp_size_in_bytes
    return moved(compiled), temp, jax.device_get(compiled(*args))


def compare(fun, policy, *args, inside=lambda fun: fun, ways=1, **options):
    """`fun` plain and compressed; `inside`: what is put around both."""
    plain, plain_temp, expected = measure(inside(fun), *args, **options)
    compressed = inside(compress(fun, policy, ways))
    counts, temp, gradient = measure(compressed, *args, **options)
    return {
        "moved": {"added": counts - plain, "missing": plain - counts},
        "temp": temp / plain_temp,
        "error": relative_error(expected, gradient),
    }


def convolutions(params, x):
    kernel, dense = params
    for _ in range(2):
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu((x - x.mean((0, 1, 2))) * lax.rsqrt(x.var((0, 1, 2)) + 1e-5))
        shape, strides = (1, 3, 3, 1), (1, 2, 2, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, shape, strides, "SAME")
    x = x[:, ::2, ::2].reshape(x.shape[0], -1)
    layer = lambda x, w: (x + jax.nn.gelu(x @ w), None)  # noqa: E731
    return (lax.scan(layer, x, dense)[0] ** 2).mean()


def convolutional_parameters():
    return normal(0, 3, 3, 8, 8) / 3, normal(1, 3, 128, 128)


def normalized(x):
    x = x - x.mean(-1, keepdims=True)
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-5)


def block(p, x, reduce_sum):
    """A transformer block. `reduce_sum(equation, x, w)`: a product whose sum is over
    what may be split."""
    h = normalized(x)
    q, k, v = (jnp.einsum("btd,dhk->bthk", h, p[name]) for name in "qkv")
    scores = jnp.einsum("bthk,bshk->bhts", q, k)
    causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    attention = jax.nn.softmax(jnp.where(causal, scores, -1e9))
    mixed = jnp.einsum("bhts,bshk->bthk", attention, v)
    x = x + reduce_sum("bthk,hkd->btd", mixed, p["o"])
    h = jax.nn.gelu(jnp.einsum("btd,df->btf", normalized(x), p["up"]))
    return x + reduce_sum("btf,fd->btd", h, p["down"])


def transformer(reduce_sum):
    def loss(layers, x):
        x = lax.scan(lambda x, p: (block(p, x, reduce_sum), None), x, layers)[0]
        return (x**2).mean()

    return loss


def parameters(num_layers=2, width=WIDTH):
    per_head = (num_layers, width, HEADS, width // HEADS)
    return {
        "q": normal(0, *per_head),
        "k": normal(1, *per_head),
        "v": normal(2, *per_head),
        "o": normal(3, num_layers, HEADS, width // HEADS, width),
        "up": normal(4, num_layers, width, HIDDEN),
        "down": normal(5, num_layers, HIDDEN, width),
    }


TENSOR_PARALLEL = {
    "q": P(None, None, "model"),
    "k": P(None, None, "model"),
    "v": P(None, None, "model"),
    "o": P(None, "model"),
    "up": P(None, None, "model"),
    "down": P(None, "model"),
}


def put(mesh, tree, specs):
    place = lambda x, spec: jax.device_put(x, NamedSharding(mesh, spec))  # noqa: E731
    return jax.tree.map(place, tree, specs, is_leaf=lambda x: isinstance(x, np.ndarray))


def data_parallel(policy):
    """One device has the temporaries of its share of the batch, and no more."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params, images = convolutional_parameters(), normal(2, 64, 32, 32, 8)
    split = put(mesh, params, (P(), P())), put(mesh, images, P("data"))
    found = compare(convolutions, policy, *split)
    fun = compress(convolutions, policy)
    temp, share = (measure(fun, *a)[1] for a in (split, (params, images[:8])))
    return {**found, "share": temp / share}


def many_words(policy):
    """Each device encodes its logits in blocks of the rows that it has."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(embedding, text):
        logits = jnp.tanh(embedding[text]) @ embedding.T
        chosen = jnp.take_along_axis(logits, text[..., None], axis=-1)
        return (jax.nn.logsumexp(logits, axis=-1) - chosen[..., 0]).mean()

    text = np.arange(BATCH * TIME, dtype=np.int32).reshape(BATCH, TIME)
    args = put(mesh, normal(4, 2 * text.size, WIDTH), P()), put(mesh, text, P("data"))
    return compare(loss, policy, *args, differentiate=jax.value_and_grad)


def an_eighth(policy):
    """What a device needs of what one needs that has all of the batch, times 8."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    gradient = jax.jit(jax.grad(compress(transformer(jnp.einsum), policy)))

    def temp(of_params, of_batch):
        shaped = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=of_params)  # noqa: E731
        shape, dtype = (16 * BATCH, TIME, WIDTH), jnp.float32
        x = jax.ShapeDtypeStruct(shape, dtype, sharding=of_batch)
        compiled = gradient.lower(jax.tree.map(shaped, parameters()), x).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    split = temp(NamedSharding(mesh, P()), NamedSharding(mesh, P("data")))
    return {"share": 8 * split / temp(None, None)}


def fully_sharded(policy):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = parameters()
    specs = {name: P(None, "data") for name in params}
    specs["o"] = P(None, None, "data")
    by_batch = NamedSharding(mesh, P("data"))
    keep = lambda x: lax.with_sharding_constraint(x, by_batch)  # noqa: E731
    loss = transformer(lambda *args: keep(jnp.einsum(*args)))
    x = put(mesh, normal(9, BATCH, TIME, WIDTH), P("data"))
    return compare(loss, policy, put(mesh, params, specs), x)


def tensor_parallel(policy):
    """Split by the types of the arrays: along heads and along hidden features."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    whole = NamedSharding(mesh, P("data", None, None))
    loss = transformer(lambda *args: jnp.einsum(*args, out_sharding=whole))
    x = put(mesh, normal(9, BATCH, TIME, WIDTH), P("data"))
    return compare(loss, policy, put(mesh, parameters(), TENSOR_PARALLEL), x)


def split_by_xla(policy, stream, *, ways=1):
    """The same blocks, split by XLA: heads and hidden features like the parameters,
    between them as `stream` says."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    by_stream = NamedSharding(mesh, stream)
    keep = lambda x: lax.with_sharding_constraint(x, by_stream)  # noqa: E731
    loss = transformer(lambda *args: keep(jnp.einsum(*args)))
    x = put(mesh, normal(9, 8, 256, 256), stream)
    params = put(mesh, parameters(width=256), TENSOR_PARALLEL)
    options = {"ways": ways, "differentiate": jax.value_and_grad}
    return compare(loss, policy, params, x, **options)


def pooled_channels(policy):
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)

    def loss(scale, x):
        window = (1, 3, 3, 1), (1, 2, 2, 1)
        x = lax.reduce_window(
            jax.nn.relu(x * scale), -jnp.inf, lax.max, *window, "SAME"
        )
        return (jnp.sin(x) ** 2).mean()

    images = put(mesh, normal(3, 8, 8, 8, 32), P("data", None, None, "model"))
    return compare(loss, policy, put(mesh, jnp.ones(32), P("model")), images)


def mapped(policy, *, compressed_inside, check_vma):
    """The same blocks in a `shard_map` that is compressed, or compressed within one."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    own = transformer(lambda *args: lax.psum(jnp.einsum(*args), "model"))
    body = lambda params, x: lax.pmean(own(params, x), "data")  # noqa: E731
    specs = {"in_specs": (TENSOR_PARALLEL, P("data")), "out_specs": P()}
    around = lambda fun: jax.shard_map(  # noqa: E731
        fun, mesh=mesh, check_vma=check_vma, **specs
    )
    args = (
        put(mesh, parameters(), TENSOR_PARALLEL),
        put(mesh, normal(9, BATCH, TIME, WIDTH), P("data")),
    )
    if compressed_inside:
        return compare(body, policy, *args, inside=around)
    return compare(around(body), policy, *args)


def drawn_on_devices(policy, kind, *, inside=None):
    """Random numbers wait for a layer, and no device for another. `inside`: whether
    the gradient is within a `shard_map`, or around one; None: there is none."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    loss = lambda w, *args: dropouts([w] * 3, *args)  # noqa: E731
    body = lambda *args: lax.pmean(loss(*args), "data")  # noqa: E731
    specs = {"in_specs": (P(), P("data"), P()), "out_specs": P()}
    around = lambda fun: jax.shard_map(fun, mesh=mesh, **specs)  # noqa: E731
    x = put(mesh, normal(1, 8192, 128), P("data"))
    args = put(mesh, normal(0, 128, 128), P()), x, jax.random.key(2)
    if inside is None:
        return compare(loss, policy, *args)
    if inside:
        return compare(body, policy, *args, inside=around)
    return compare(around(body), policy, *args)


def parallel_map(policy):
    """`jax.pmap` around the gradient, and within what is compressed."""
    loss = lambda w, x: (jax.nn.gelu(jax.nn.relu(x @ w) @ w) ** 2).mean()  # noqa: E731
    each = lambda fun: jax.pmap(fun, in_axes=(None, 0))  # noqa: E731
    w, x = normal(0, 32, 32), normal(1, 8, 4, 32)
    expected = each(jax.grad(loss))(w, x)
    around = each(jax.grad(compress(loss, policy)))(w, x)
    whole = lambda w, x: each(loss)(w, x).mean()  # noqa: E731
    within = jax.grad(compress(whole, policy))(w, x)
    errors = (
        relative_error(expected, around),
        relative_error(jax.grad(whole)(w, x), within),
    )
    return {"error": max(errors)}


CASES = {
    "data_parallel": data_parallel,
    "many_words": many_words,
    "an_eighth": an_eighth,
    "fully_sharded": fully_sharded,
    "tensor_parallel": tensor_parallel,
    "features_by_xla": lambda p: split_by_xla(p, P("data"), ways=4),
    "positions_by_xla": lambda p: split_by_xla(p, P("data", "model")),
    "pooled_channels": pooled_channels,
    "shard_map": lambda p: mapped(p, compressed_inside=False, check_vma=True),
    "unchecked": lambda p: mapped(p, compressed_inside=False, check_vma=False),
    "in_shard_map": lambda p: mapped(p, compressed_inside=True, check_vma=True),
    "dropouts": lambda p: drawn_on_devices(p, AxisType.Auto),
    "typed_dropouts": lambda p: drawn_on_devices(p, AxisType.Explicit),
    "mapped_dropouts": lambda p: drawn_on_devices(p, AxisType.Auto, inside=False),
    "dropouts_in_shard_map": lambda p: drawn_on_devices(p, AxisType.Auto, inside=True),
    "pmap": parallel_map,
}


if __name__ == "__main__":
    names = sys.argv[2:] or CASES
    json.dump({name: CASES[name](sys.argv[1]) for name in names}, sys.stdout)
