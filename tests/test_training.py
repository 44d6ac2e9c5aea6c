"""Training as users write it: gradients accumulated within one jit, mixed precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

import epmc_jax
from bench.measure import temp_bytes
from epmc_jax import policies
from tests.models import relative_error, same_bits

STEPS, MICRO, BATCH, WIDTH = 8, 4, 64, 64
POLICIES = {"exact": policies.exact(), "balanced": policies.balanced()}
# Plain may keep float32 between operations that it merges, where an array that is
# stored is rounded to bfloat16: without that, what is exact is so bit for bit.
ROUNDS_ALWAYS = {"xla_allow_excess_precision": False}


def parameters():
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (WIDTH, 2, WIDTH)) / 8 for key in keys]


def batches(*shape):
    inputs = jax.random.normal(jax.random.key(1), (*shape, WIDTH))
    return inputs, jnp.argmax(inputs[..., ::2], -1)


def loss(params, inputs, labels):
    """Residual layers with normalization, gelu and ReLU; a cross entropy."""
    x = inputs
    for w in params:
        h = x - x.mean(-1, keepdims=True)
        h = h * lax.rsqrt((h * h).mean(-1, keepdims=True) + 1e-5)
        x = x + jax.nn.gelu(h @ w[:, 0]) + jax.nn.relu(h @ w[:, 1])
    logits = x.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def trained(step, optimizer, data):
    """Losses of a training, and the parameters after it. `step` is given away what it
    updates."""
    step = jax.jit(step, donate_argnums=(0, 1))
    params, losses = parameters(), []
    state = optimizer.init(params)
    for batch in zip(*data, strict=True):
        given = params, state
        params, state, value = step(*given, *batch)
        assert all(x.is_deleted() for x in jax.tree.leaves(given))
        losses.append(float(value))
    return np.array(losses), params


def multi_steps(fun):
    """`optax.MultiSteps`: the parameters change after every `MICRO` small batches."""
    optimizer = optax.MultiSteps(optax.adam(1e-2), MICRO)

    def step(params, state, *batch):
        value, gradients = jax.value_and_grad(fun)(params, *batch)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return trained(step, optimizer, batches(STEPS * MICRO, BATCH))


def scanned(fun):
    """`lax.scan` over the small batches of a step, their gradients added up."""
    optimizer = optax.adam(1e-2)

    def step(params, state, *batch):
        def add(total, micro):
            found = jax.value_and_grad(fun)(params, *micro)
            return jax.tree.map(jnp.add, total, found), None

        start = jax.tree.map(jnp.zeros_like, (jnp.float32(0), params))
        total, _ = lax.scan(add, start, batch)
        value, gradients = jax.tree.map(lambda t: t / MICRO, total)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return trained(step, optimizer, batches(STEPS, MICRO, BATCH))


@functools.cache
def plain(accumulation):
    return accumulation(loss)


@pytest.mark.parametrize(
    ("policy", "of_losses", "of_params"),
    [("exact", 1e-6, 1e-5), ("balanced", 0.01, 0.1)],
)
@pytest.mark.parametrize("accumulation", [multi_steps, scanned])
def test_accumulated_gradients_train_as_plain(
    accumulation, policy, of_losses, of_params
):
    losses, params = plain(accumulation)
    found, found_params = accumulation(epmc_jax.compress(loss, policy=POLICIES[policy]))
    assert losses[-1] < 0.9 * losses[0]
    assert np.abs(found - losses).max() < of_losses * losses.max()
    assert relative_error(params, found_params) < of_params


def scaled_loss(dtype):
    """Mixed precision as jmp has it: parameters in float32 are cast within what is
    differentiated, so that their gradients are float32; layers compute in `dtype`; the
    loss is scaled, so that small cotangents are not rounded to zero."""

    def scaled(params, scale, inputs, labels):
        params, inputs = jax.tree.map(lambda x: x.astype(dtype), (params, inputs))
        return scale * loss(params, inputs, labels)

    return scaled


def mixed_step(fun):
    """One step of gradient descent with a scale that halves where it is too large."""

    def step(params, scale, *batch):
        gradients = jax.grad(fun)(params, scale, *batch)
        gradients = jax.tree.map(lambda g: g / scale, gradients)
        finite = jnp.all(jnp.array([jnp.isfinite(g).all() for g in gradients]))
        updated = jax.tree.map(lambda p, g: p - 0.3 * g, params, gradients)
        params = jax.tree.map(functools.partial(jnp.where, finite), updated, params)
        return params, jnp.where(finite, scale, scale / 2), gradients

    arguments = parameters(), jnp.float32(1), *batches(BATCH)
    return jax.jit(step).lower(*arguments).compile(compiler_options=ROUNDS_ALWAYS)


@functools.cache
def mixed(policy, dtype):
    """Temp bytes, gradients of all steps and the scales, the first far too large."""
    fun = scaled_loss(dtype)
    if policy != "plain":
        fun = epmc_jax.compress(fun, policy=POLICIES[policy])
    step = mixed_step(fun)
    params, scale, history = parameters(), jnp.float32(2.0**24), []
    for batch in zip(*batches(8, BATCH), strict=True):
        params, scale, gradients = step(params, scale, *batch)
        history.append((gradients, float(scale)))
    return temp_bytes(step), [g for g, _ in history], [s for _, s in history]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_mixed_precision_with_a_loss_scale(dtype):
    plain_bytes, expected, scales = mixed("plain", dtype)
    _, gradients, found_scales = mixed("exact", dtype)
    assert (len({*scales}) > 1) == (dtype == "float16")
    assert found_scales == scales
    assert same_bits(expected, gradients)
    balanced_bytes, gradients, found_scales = mixed("balanced", dtype)
    assert found_scales == scales
    assert {g.dtype.name for g in jax.tree.leaves(gradients)} == {"float32"}
    assert 0 < relative_error(expected[-1], gradients[-1]) < 0.2
    assert balanced_bytes < plain_bytes
