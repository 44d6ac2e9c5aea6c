"""Memory as the compiler reports it, on the CPU."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from bench import methods, problems
from bench.kinds.table import problem
from bench.measure import compile_gradient
from bench.measure import temp_bytes as temp_bytes_of
from bench.nets.resnet import resnet18
from epmc_jax import policies
from tests.models import dropouts, mlp_loss, temp_bytes

SHAPE = jax.ShapeDtypeStruct


def test_a_deep_mlp_keeps_a_fifteenth():
    args = [SHAPE((1024, 1024), jnp.float32)] * 24, SHAPE((2048, 1024), jnp.float32)
    plain = temp_bytes(jax.grad(mlp_loss), *args)
    compressed = epmc_jax.compress(mlp_loss, policy=policies.precise())
    assert plain / temp_bytes(jax.grad(compressed), *args) >= 15


def test_dropouts_are_drawn_one_after_the_other():
    """XLA would draw all at the start: eight bytes for each element."""
    layers = [SHAPE((512, 512), jnp.float32)] * 24
    args = layers, SHAPE((2048, 512), jnp.float32), jax.random.key(0)
    plain = temp_bytes(jax.grad(dropouts), *args)
    compressed = epmc_jax.compress(dropouts, policy=policies.balanced())
    assert plain / temp_bytes(jax.grad(compressed), *args) >= 12


@pytest.mark.parametrize(("policy", "least"), [("precise", 2.6), ("balanced", 3.0)])
def test_convolutions_with_pools(policy, least):
    """A stack of conv-BN-ReLU with overlapping pools: the hard parts of a ResNet."""

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            for features in (32, 32, 64):
                for _ in range(4):
                    x = nn.Conv(features, (3, 3), use_bias=False)(x)
                    x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
                x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
            return x

    x = SHAPE((8, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(lambda x: Stack().init(jax.random.key(0), x), x)

    def loss(params, statistics, x):
        variables = {"params": params, "batch_stats": statistics}
        out, updates = Stack().apply(variables, x, mutable=["batch_stats"])
        return (out**2).mean(), updates

    args = variables["params"], variables["batch_stats"], x
    plain = temp_bytes(jax.grad(loss, has_aux=True), *args)
    compressed = epmc_jax.compress(loss, policy=getattr(policies, policy)())
    assert plain / temp_bytes(jax.grad(compressed, has_aux=True), *args) >= least


def test_a_small_resnet():
    """Layers that are cheaper than their arrays: each tie of the wrong kind is an array
    more."""
    make = functools.partial(resnet18, num_classes=10, channels=1, small_images=True)
    problem = problems.small_images("ResNet-18", make, batch=25, size=28)

    def measured(method):
        return temp_bytes_of(compile_gradient(problem.loss(method), problem.avals()))

    plain = measured(methods.PLAIN)
    assert measured(methods.EXACT) <= 0.70 * plain
    assert measured(methods.PRECISE) <= 0.48 * plain
    assert measured(methods.BALANCED) <= 0.45 * plain


def _along_axis(logits, targets):
    return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]


def _by_position(logits, targets):
    batch, time = targets.shape
    return logits[jnp.arange(batch)[:, None], jnp.arange(time), targets]


@pytest.mark.parametrize("choose", [_along_axis, _by_position])
@pytest.mark.parametrize("policy", ["exact", "precise", "balanced"])
def test_logits_take_no_more_than_in_plain(policy, choose):
    """They are larger than all else in a small language model. The gradient of what
    was chosen of them is computed with theirs, or scattered into it, as in plain: not
    into zeros that are added, which would be one array more. What is stored of them is
    made and encoded in blocks."""
    vocabulary, width, batch, time = 8192, 64, 8, 128

    def loss(embedding, layers, text, targets):
        x = embedding[text]
        for inner, outer in layers:
            x = x + jax.nn.gelu(x @ inner) @ outer
        logits = x @ embedding.T
        return (jax.nn.logsumexp(logits, axis=-1) - choose(logits, targets)).mean()

    inner, outer = (
        SHAPE((width, 4 * width), jnp.float32),
        SHAPE((4 * width, width), jnp.float32),
    )
    args = SHAPE((vocabulary, width), jnp.float32), [(inner, outer)] * 2
    args += (SHAPE((batch, time), jnp.int32),) * 2
    compressed = epmc_jax.compress(loss, policy=getattr(policies, policy)())
    found = temp_bytes(jax.value_and_grad(compressed, argnums=(0, 1)), *args)
    assert found <= temp_bytes(jax.value_and_grad(loss, argnums=(0, 1)), *args)


def test_cotangents_with_several_readers_are_made_once():
    """Else XLA makes them for each reader: this takes 0.36 of plain."""
    vit = problem("vit", "linen")

    def measured(method):
        return temp_bytes_of(compile_gradient(vit.loss(method), vit.avals()))

    assert measured(methods.BALANCED) <= 0.34 * measured(methods.PLAIN)


def transformer(layers, x):
    """Pre-norm causal transformer blocks with 4 heads, scanned over `layers`."""

    def norm(x, gain):
        centred = x - x.mean(-1, keepdims=True)
        variance = (centred**2).mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + 1e-6) * gain

    def block(x, layer):
        heads = norm(x, layer["gain"][0]) @ layer["qkv"]
        q, k, v = jnp.moveaxis(heads.reshape(*x.shape[:2], 3, 4, -1), 2, 0)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + y.reshape(x.shape) @ layer["out"]
        y = jax.nn.gelu(norm(x, layer["gain"][1]) @ layer["up"])
        return x + y @ layer["down"], None

    return (jax.lax.scan(block, x, layers)[0] ** 2).mean()


def test_a_scanned_transformer_layer():
    """What a layer adds to 12 others: at most 0.30 of plain at 8 bits, 0.18 at 4."""

    def per_layer(fun):
        def bytes_of(n):
            sizes = {"gain": (2, 256), "qkv": (256, 768), "out": (256, 256)}
            sizes |= {"up": (256, 1024), "down": (1024, 256)}
            layers = {k: SHAPE((n, *s), jnp.float32) for k, s in sizes.items()}
            x = SHAPE((8, 128, 256), jnp.float32)
            return temp_bytes(jax.value_and_grad(fun), layers, x)

        return (bytes_of(24) - bytes_of(12)) / 12

    plain = per_layer(transformer)
    for policy, most in ((policies.precise(), 0.30), (policies.balanced(), 0.18)):
        compressed = epmc_jax.compress(transformer, policy=policy)
        assert per_layer(compressed) <= most * plain


def test_gradients_of_weights_are_made_in_the_order_they_are_returned_in():
    """A copy of each would take longer than all encodes and decodes of its layer."""

    def loss(layers, x):
        for weights in layers:
            x = jax.nn.gelu(x @ weights)
        return (x**2).mean()

    layers = [SHAPE((768, 1536), jnp.float32), SHAPE((1536, 640), jnp.float32)]
    compressed = epmc_jax.compress(loss, policy=policies.balanced())
    args = layers, SHAPE((512, 768), jnp.float32)
    text = jax.jit(jax.grad(compressed)).lower(*args).compile().as_text()
    entry = text[text.index("ENTRY") :]
    for rows, columns in ((768, 1536), (1536, 640)):
        made = re.findall(rf"%(\S+) = f32\[{rows},{columns}\]", entry)
        assert made
        assert not [name for name in made if "copy" in name or "transpose" in name]
        assert f"f32[{columns},{rows}]" not in entry
