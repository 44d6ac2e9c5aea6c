"""Parameters and images are cast where a layer reads them, in both passes."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax import lax

import epmc_jax
from epmc_jax import policies
from tests.models import relative_error

WIDTH = 384
RESULT = re.compile(r"\s*(%\w+)(?::\d+)? = stablehlo.(\w+) (.*?) : (.*)")
SHAPE = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)


def mlp(weights, x):
    for w in weights:
        x = jnp.tanh(x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16))
    return (x.astype(jnp.float32) ** 2).mean()


def cast_first(weights, x):
    return mlp([w.astype(jnp.bfloat16) for w in weights], x.astype(jnp.bfloat16))


def transposed(weights, x):
    return mlp([w.T for w in weights], x)


def tied(weights, x):
    """Each array is cast once, and read by two layers."""
    weights = [w.astype(jnp.bfloat16) for w in weights]
    return mlp([*weights, *weights], x)


def scanned(weights, x):
    def layer(x, _):
        for w in weights:
            x = jnp.tanh(x @ w.astype(jnp.bfloat16))
        return x, None

    x, _ = lax.scan(layer, x.astype(jnp.bfloat16), length=3)
    return (x.astype(jnp.float32) ** 2).mean()


def casts(loss, *args, wrap=lambda gradient: gradient):
    """What arguments a gradient on GPUs casts: at once, and behind a barrier."""
    gradient = wrap(jax.grad(epmc_jax.compress(loss, policy=policies.precise())))
    lowered = jax.jit(gradient).trace(*args).lower(lowering_platforms=("cuda",))
    found = {False: [], True: []}
    # Names are unique in a function, but not in the bodies of its loops.
    for body in re.split(r"func\.func|\} do \{", lowered.as_text()):
        for source, is_behind in _casts_of(body):
            found[is_behind].append(source)
    return sorted(found[False]), sorted(found[True])


def _casts_of(body):
    """Each argument that is cast in a part of the program, and if behind a barrier."""
    lines = filter(None, map(RESULT.match, body.splitlines()))
    made_by = {name: rest for name, *rest in map(re.Match.groups, lines)}
    for op, inputs, types in made_by.values():
        if op != "convert" or not types.endswith("bf16>"):
            continue
        source, is_behind = inputs, False
        while source.partition("#")[0] in made_by:
            source, _, place = source.partition("#")
            before, inputs, _ = made_by[source]
            if before not in ("optimization_barrier", "transpose"):
                break
            is_behind |= before == "optimization_barrier"
            source = inputs.split(", ")[int(place or 0)]
        # The second: of a loop whose body is no function.
        if source.startswith(("%arg", "%iterArg")):
            yield source, is_behind


@pytest.mark.parametrize("loss", [mlp, cast_first, transposed])
def test_each_pass_makes_them_behind_a_barrier(loss):
    # The first layer reads nothing but arguments, and needs no gradient of the image,
    # hence no weight again.
    first = ["%arg0", "%arg3"]
    forward, backward = ["%arg1", "%arg2"], ["%arg1", "%arg2", "%arg3"]
    assert casts(loss, [SHAPE] * 3, SHAPE) == (first, sorted([*forward, *backward]))


def test_arrays_that_several_layers_read_are_made_once_in_the_forward_pass():
    forward, backward = casts(tied, [SHAPE] * 2, SHAPE)
    assert forward == ["%arg0", "%arg1", "%arg2"]
    assert backward == ["%arg0", "%arg1", "%arg1", "%arg2"]


def test_no_iteration_of_a_loop_makes_them_anew():
    at_once, behind = casts(scanned, [SHAPE] * 2, SHAPE)
    # The image before the loop; both weights in the bodies of both passes.
    assert len(at_once) == 5
    assert behind == []


def test_mapped_axes_keep_one_cast_for_all():
    images = jax.ShapeDtypeStruct((4, WIDTH, WIDTH), jnp.float32)
    wrap = lambda gradient: jax.vmap(gradient, in_axes=(None, 0))  # noqa: E731
    of_one = casts(mlp, [SHAPE] * 3, SHAPE)
    assert of_one[1]
    assert casts(mlp, [SHAPE] * 3, images, wrap=wrap) == of_one


def test_small_arrays_are_left_to_xla():
    small = jax.ShapeDtypeStruct((WIDTH, 16), jnp.float32)
    square = jax.ShapeDtypeStruct((16, 16), jnp.float32)
    at_once, behind = casts(mlp, [square] * 3, small)
    assert behind == []
    assert at_once


@pytest.mark.parametrize("loss", [mlp, cast_first, transposed, tied, scanned])
def test_the_gradient_is_that_of_the_function(loss):
    keys = jax.random.split(jax.random.key(0), 4)
    weights = [jax.random.normal(k, (WIDTH, WIDTH)) / WIDTH**0.5 for k in keys[:3]]
    x = jax.random.normal(keys[3], (WIDTH, WIDTH))
    expected = jax.jit(jax.grad(loss))(weights, x)
    gradient = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policies.exact())))
    # XLA rounds to bfloat16 where it likes.
    assert relative_error(expected, gradient(weights, x)) < 0.02
