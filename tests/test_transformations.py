"""Every transformation of jax around and inside compressed functions.

A cell takes `wrap` and returns arrays; with `epmc_jax.compress` for `wrap` they must
be those of the plain function, exactly or within the bound of the policy.
"""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.custom_batching import custom_vmap

import epmc_jax
from epmc_jax import Policy, policies
from tests.models import relative_error

ROOT = pathlib.Path(__file__).parent.parent
BOUNDS = {"exact": 1e-6, "precise": 0.02, "balanced": 0.2}
KEYS = jax.random.split(jax.random.key(0), 4)
P = {"w1": jax.random.normal(KEYS[0], (64, 64)) / 8, "w2": jnp.eye(64) / 2}
STACK = jax.tree.map(lambda w: jnp.stack([w, 0.9 * w, 1.1 * w]), P)
X = jax.random.normal(KEYS[1], (8, 64))
MANY = jnp.stack([X, 2 * X, 3 * X])
BATCH = {"x": X, "key": KEYS[2], "rows": jnp.array([0, 3, 2])}


def net(p, x):
    return jnp.tanh(jax.nn.relu(x @ p["w1"]) @ p["w2"])


def squared(fun):
    return lambda *args: (fun(*args) ** 2).mean()


def gradient(fun, *args):
    """Of all arguments that are arrays of floats, compiled."""
    return jax.jit(jax.grad(fun, tuple(range(len(args)))))(*args)


def of_net(wrap):
    return squared(wrap(net))


def whole(fun):
    """The cell whose compressed function is `fun(p, x)`, its square on top of it."""
    return lambda wrap: gradient(squared(wrap(fun)), P, X)


def with_aux(p, x):
    y = net(p, x)
    return y, {"best": jnp.argmax(y, -1), "mean": y.mean()}


def vjp_with_aux(wrap):
    y, pull_back, aux = jax.vjp(wrap(with_aux), P, X, has_aux=True)
    return y, pull_back(y), aux


def integer_arguments(wrap):
    def fun(p, batch):
        keep = jax.random.bernoulli(batch["key"], 0.5, batch["x"].shape)
        return net(p, jnp.where(keep, batch["x"], 0)[batch["rows"]])

    return jax.jit(jax.grad(squared(wrap(fun))))(P, BATCH)


def float0_gradients(wrap):
    def fun(rows, x):
        return jnp.sin(x[rows] @ P["w1"])

    grad = jax.grad(squared(wrap(fun)), (0, 1), allow_int=True)
    of_rows, of_x = grad(BATCH["rows"], X)
    assert of_rows.dtype == jax.dtypes.float0
    return of_x


def layers(p, x, reverse=False):
    """Scans over parameters and a bias, carries `x`, reads `p["w2"]` in each step."""

    def step(carry, w):
        carry = jnp.tanh(jax.nn.relu(carry @ w) @ p["w2"][0])
        return carry, carry.mean(-1)

    carry, means = lax.scan(step, x, p["w1"], reverse=reverse)
    return carry + means.sum(0)[:, None]


def over_layers(fun):
    return lambda wrap: gradient(squared(wrap(fun)), STACK, X)


def scan_around(wrap):
    body = wrap(net)
    fun = lambda p, x: lax.scan(lambda c, w: (body(w, c), None), x, p)[0]  # noqa: E731
    return gradient(squared(fun), STACK, X)


def fori_layers(p, x):
    layer = lambda i: jax.tree.map(lambda w: w[i], p)  # noqa: E731
    return lax.fori_loop(0, 3, lambda i, x: net(layer(i), x), x)


def conditional(p, x):
    return lax.cond(x.sum() > 0, lambda x: net(p, x), lambda x: x @ p["w2"], x)


def switched(p, x):
    branches = [lambda x: net(p, x), lambda x: jnp.sin(x @ p["w1"]), lambda x: 2 * x]
    return lax.switch(jnp.int32(x[0, 0] > 0), branches, net(p, x))


def switch_around(wrap):
    body = wrap(net)
    branches = [body, lambda p, x: body(p, 2 * x)]
    fun = lambda p, x: lax.switch(jnp.int32(x[0, 0] > 0), branches, p, x)  # noqa: E731
    return gradient(squared(fun), P, X)


def while_inside(p, x):
    """A while loop has no gradient: it computes a constant here."""
    scale = lax.while_loop(
        lambda s: s > 1.5, lambda s: 0.5 * s, lax.stop_gradient(jnp.abs(x).max())
    )
    return net(p, x / scale)


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), x), lambda x, ct: (2 * ct * jnp.cos(x),))


@jax.custom_vjp
def weighted(weight, x):
    return weight * jnp.sin(x)


def weighted_forward(weight, x):
    """Keeps `x` for the gradient of `weight` only if there will be one."""
    kept = x.value if weight.perturbed else None
    return weighted(weight.value, x.value), (weight.value, jnp.cos(x.value), kept)


def weighted_backward(residuals, ct):
    weight, slope, x = residuals
    if isinstance(ct, jax.custom_derivatives.SymbolicZero):
        return None, None
    return None if x is None else ct * jnp.sin(x), ct * weight * slope


weighted.defvjp(weighted_forward, weighted_backward, symbolic_zeros=True)


def symbolic_zeros(wrap):
    """A weight that is constant, and a result that no gradient enters."""

    def fun(p, x):
        h = net(p, x)
        return weighted(jnp.full_like(h, 0.5), h) @ p["w2"], weighted(h, h + 1)

    both = wrap(fun)
    return gradient(lambda p, x: (both(p, x)[0] ** 2).mean(), P, X)


@jax.custom_jvp
def log1p_exp(x):
    return jnp.log1p(jnp.exp(x))


log1p_exp.defjvp(lambda p, t: (log1p_exp(*p), t[0] * jax.nn.sigmoid(p[0])))


@custom_vmap
def doubled(x):
    return 2 * x


@doubled.def_vmap
def _doubled_many(size, batched, x):
    del size
    return 2 * x, batched[0]


def under_custom_vmap(wrap):
    """Reverse mode does not pass a custom_vmap; beside it, it does."""
    body = wrap(lambda p, x: net(p, doubled(lax.stop_gradient(x))) + x)
    return gradient(squared(jax.vmap(body, (None, 0))), P, MANY)


def closure(wrap):
    def outer(p):
        return squared(wrap(lambda x: net(p, x) * p["w1"].sum()))(X)

    return jax.jit(jax.grad(outer))(P)


def donated(wrap):
    step = jax.jit(
        lambda p, x: jax.tree.map(jnp.subtract, p, jax.grad(of_net(wrap))(p, x)),
        donate_argnums=0,
    )
    return step(jax.tree.map(jnp.copy, P), X)


def exported(wrap):
    grad = jax.jit(jax.grad(of_net(wrap)))
    checks = epmc_jax.export_checks()
    return jax.export.export(grad, disabled_checks=checks)(P, X).call(P, X)


def one_output_used(wrap):
    both = wrap(lambda p, x: (net(p, x), jnp.sin(x @ p["w1"])))
    return gradient(lambda p, x: (both(p, x)[0] ** 2).mean(), P, X)


def complex_numbers(p, x):
    return jnp.abs(jnp.fft.fft(jnp.sin(x @ p["w1"]))) @ p["w2"]


def weak_types(wrap):
    fun = squared(wrap(lambda scale, x: jnp.sin(scale * x) * scale))
    of_scale, of_x = jax.grad(fun, (0, 1))(jnp.asarray(2.0), X)
    of_number = jax.grad(fun)(2.0, X)
    assert of_number.dtype == of_scale.dtype == jnp.float32
    return of_number, of_scale, of_x


LOAD_AND_CALL = """
import pathlib, sys
import jax, numpy as np
import epmc_jax

folder = pathlib.Path(sys.argv[1])
arguments = dict(np.load(folder / "arguments.npz"))
x = arguments.pop("x")
epmc_jax.export_checks()
exported = jax.export.deserialize(bytearray((folder / "gradient").read_bytes()))
np.savez(folder / "gradient.npz", **exported.call(arguments, x))
"""

CELLS = {
    "grad": lambda wrap: jax.grad(of_net(wrap), (0, 1))(P, X),
    "value_and_grad": lambda wrap: jax.jit(jax.value_and_grad(of_net(wrap)))(P, X),
    "vjp_with_aux": vjp_with_aux,
    "jit_inside": lambda wrap: gradient(squared(wrap(jax.jit(net))), P, X),
    "jit_outside": lambda wrap: gradient(squared(jax.jit(wrap(net))), P, X),
    "jacrev": lambda wrap: jax.jacrev(wrap(net), 1)(P, X[:1]),
    "vmap_of_grad": lambda wrap: jax.vmap(jax.grad(of_net(wrap)), (None, 0))(P, MANY),
    "grad_of_vmap": lambda wrap: gradient(
        squared(jax.vmap(wrap(net), (None, 0))), P, MANY
    ),
    "vmap_inside": lambda wrap: gradient(
        squared(wrap(jax.vmap(net, (None, 0)))), P, MANY
    ),
    "scan": over_layers(layers),
    "scan_reverse": over_layers(functools.partial(layers, reverse=True)),
    "scan_around": scan_around,
    "fori_loop": over_layers(fori_layers),
    "cond": whole(conditional),
    "switch": whole(switched),
    "switch_around": switch_around,
    "while_inside": whole(while_inside),
    "nested": lambda wrap: gradient(
        squared(wrap(lambda p, x: wrap(net)(p, net(p, x)))), P, X
    ),
    "checkpoint_inside": whole(lambda p, x: net(p, jax.checkpoint(net)(p, net(p, x)))),
    "checkpoint_outside": lambda wrap: gradient(
        squared(jax.checkpoint(wrap(net))), P, X
    ),
    "custom_vjp": whole(lambda p, x: sine(net(p, x)) @ p["w2"]),
    "symbolic_zeros": symbolic_zeros,
    "custom_jvp": whole(lambda p, x: log1p_exp(net(p, x)) @ p["w2"]),
    "custom_vmap": under_custom_vmap,
    "named_call": whole(jax.named_call(net, name="layer")),
    "closure": closure,
    "integers_and_keys": integer_arguments,
    "float0": float0_gradients,
    "donated": donated,
    "exported": exported,
    "one_output_used": one_output_used,
    "complex": whole(complex_numbers),
    "weak_types": weak_types,
}


@functools.cache
def plain(cell):
    return CELLS[cell](lambda fun: fun)


@pytest.mark.parametrize("policy", BOUNDS)
@pytest.mark.parametrize("cell", CELLS)
def test_transformation(cell, policy):
    rules = getattr(policies, policy)().rules
    wrap = functools.partial(epmc_jax.compress, policy=Policy(*rules, min_bytes=0))
    found, expected = CELLS[cell](wrap), plain(cell)
    shapes = lambda tree: jax.tree.map(jax.typeof, tree)  # noqa: E731
    assert shapes(found) == shapes(expected)
    assert relative_error(expected, found) < BOUNDS[policy]


def test_double_precision_is_kept():
    with jax.enable_x64(True):
        p, x = jax.tree.map(lambda a: a.astype(jnp.float64), (P, X))
        compressed = epmc_jax.compress(net, policy=policies.balanced())
        expected, found = (
            gradient(squared(net), p, x),
            gradient(squared(compressed), p, x),
        )
        assert {g.dtype.name for g in jax.tree.leaves(found)} == {"float64"}
        differences = jax.tree.map(lambda a, b: abs(a - b).max(), expected, found)
        assert max(jax.tree.leaves(differences)) < 1e-12


@pytest.mark.parametrize("policy", BOUNDS)
def test_an_empty_batch_gives_gradients_of_zeros(policy):
    total = lambda fun: lambda p, x: fun(p, x).sum()  # noqa: E731
    compressed = epmc_jax.compress(net, policy=getattr(policies, policy)())
    of_p, of_x = gradient(total(compressed), P, X[:0])
    assert of_x.shape == (0, 64)
    assert not any(w.any() for w in jax.tree.leaves(of_p))


def test_what_an_inner_checkpoint_differentiates_again_is_exact():
    def fun(p, x):
        return jax.checkpoint(net)(p, x @ p["w1"]).mean()

    policy = Policy(*policies.balanced().rules, min_bytes=0)
    assert {r.codec for r in epmc_jax.plan(fun, P, X, policy=policy).rows} == {"Raw"}


def test_an_exported_gradient_runs_in_another_process(tmp_path):
    grad = jax.jit(jax.grad(squared(epmc_jax.compress(net))))
    exported = jax.export.export(grad, disabled_checks=epmc_jax.export_checks())(P, X)
    (tmp_path / "gradient").write_bytes(exported.serialize())
    np.savez(tmp_path / "arguments.npz", **P, x=X)
    command = [sys.executable, "-c", LOAD_AND_CALL, str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    found = dict(np.load(tmp_path / "gradient.npz"))
    assert relative_error(grad(P, X), found) < 1e-6


def test_export_without_the_checks_names_the_call():
    grad = jax.jit(jax.grad(squared(epmc_jax.compress(net))))
    with pytest.raises(ValueError, match="epmc_group_quant"):
        jax.export.export(grad)(P, MANY.reshape(-1, 64).repeat(8, 0))
