"""Values stay exact; gradients are exact or within the stated error."""

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import Policy, policies
from epmc_jax.passes.backward_order import waits_for_outputs
from epmc_jax.transform import watch_regions
from tests.models import Cnn, ConvBlock, cnn_loss, mlp_loss, relative_error, same_bits

pytestmark = pytest.mark.usefixtures("optimized")

POLICIES = {
    "exact": (policies.exact(), 1e-6),
    "precise": (policies.precise(), 0.02),
    "balanced": (policies.balanced(), 0.2),
}


@pytest.mark.parametrize("name", POLICIES)
def test_value_and_updates_are_exact_and_gradients_within_the_bound(name):
    policy, bound = POLICIES[name]
    loss, args = cnn_loss()
    compressed = epmc_jax.compress(loss, policy=policy)
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(*args)
    found = jax.jit(jax.value_and_grad(compressed, has_aux=True))(*args)
    assert relative_error(expected[0], found[0]) < 1e-6
    assert 0 < relative_error(expected[1], found[1]) + 1e-12 < bound


def test_raw_without_recomputation_is_bit_equal_op_by_op():
    loss, args = cnn_loss()
    compressed = epmc_jax.compress(loss, policy=Policy(recompute="none"))
    with jax.disable_jit():
        expected = jax.value_and_grad(loss, has_aux=True)(*args)
        found = jax.value_and_grad(compressed, has_aux=True)(*args)
    assert same_bits(expected, found)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", POLICIES)
def test_dtypes(name, dtype):
    policy, bound = POLICIES[name]
    weights = [
        jax.random.normal(jax.random.key(i), (96, 96), dtype) / 8 for i in range(3)
    ]
    x = jax.random.normal(jax.random.key(9), (33, 96), dtype)
    expected = jax.grad(mlp_loss)(weights, x)
    found = jax.jit(jax.grad(epmc_jax.compress(mlp_loss, policy=policy)))(weights, x)
    rounding = 20 * float(jnp.finfo(dtype).eps)
    assert {g.dtype.name for g in found} == {dtype}
    assert relative_error(expected, found) < bound + rounding


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_non_finite_values_reach_the_gradient(bad):
    """Loss scaling looks for them: an encoder must not make them vanish."""
    weights = [jnp.eye(256) for _ in range(2)]
    x = jnp.ones((64, 256)).at[5, 7].set(bad)
    compressed = epmc_jax.compress(mlp_loss, policy=policies.balanced())
    expected = jax.jit(jax.grad(mlp_loss))(weights, x)
    found = jax.jit(jax.grad(compressed))(weights, x)
    assert not all(bool(jnp.isfinite(g).all()) for g in expected)
    assert not all(bool(jnp.isfinite(g).all()) for g in found)


@pytest.mark.parametrize("shape", [(0, 64), (4, 0), (1, 1), (3,), ()])
def test_odd_shapes(shape):
    def loss(x):
        return jnp.sum(jnp.sin(jax.nn.relu(x)) ** 2)

    x = jnp.linspace(-1, 1, max(1, jnp.zeros(shape).size))[: jnp.zeros(shape).size]
    x = x.reshape(shape)
    policy = Policy(*policies.precise().rules, min_bytes=0)
    found = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policy)))(x)
    assert found.shape == shape
    assert jnp.allclose(found, jax.grad(loss)(x), atol=0.02)


def test_masks_and_pool_indices_never_change():
    """Every zero of the gradient that a decision makes stays a zero, and no other."""

    def loss(x):
        y = ConvBlock(8, pool=True).apply(variables, x, mutable=["batch_stats"])[0]
        return (y * jnp.arange(y.size).reshape(y.shape)).sum()

    def positions(x):
        z = jax.nn.relu(x)
        return jax.lax.reduce_window(
            z, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME"
        ).sum()

    x = jax.random.normal(jax.random.key(0), (4, 31, 31, 8))
    variables = ConvBlock(8, pool=True).init(jax.random.key(0), x)
    policy = policies.balanced()
    expected = jax.jit(jax.grad(positions))(x)
    assert same_bits(
        expected, jax.jit(jax.grad(epmc_jax.compress(positions, policy=policy)))(x)
    )
    found = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policy)))(x)
    assert relative_error(jax.jit(jax.grad(loss))(x), found) < 0.2


def test_under_vmap_scan_and_inside_jit():
    weights = jax.random.normal(jax.random.key(0), (3, 64, 64)) / 8
    x = jax.random.normal(jax.random.key(1), (5, 16, 64))

    def layers(layer):
        def loss(weights, x):
            y, _ = jax.lax.scan(lambda c, w: (layer(w, c), None), x, weights)
            return (y**2).sum()

        return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(weights, x)

    def layer(w, x):
        return jnp.tanh(jax.nn.relu(x @ w) @ w)

    policy = Policy(*policies.precise().rules, min_bytes=0)
    compressed = epmc_jax.compress(layer, policy=policy, encode_argnums=(1,))
    assert relative_error(layers(layer), layers(compressed)) < 0.02


def test_compressed_inside_compressed():
    loss, args = cnn_loss()
    inner, _ = cnn_loss(Cnn(block=epmc_jax.compress(ConvBlock)))
    both = epmc_jax.compress(inner)
    expected = jax.jit(jax.grad(loss, has_aux=True))(*args)[0]
    assert (
        relative_error(expected, jax.jit(jax.grad(both, has_aux=True))(*args)[0]) < 0.02
    )


def test_only_what_a_partial_gradient_needs_is_stored():
    """LoRA: the frozen weights' own gradients need inputs that are not stored then."""
    x = jax.random.normal(jax.random.key(0), (64, 256))
    frozen = jax.random.normal(jax.random.key(1), (256, 256)) / 16
    small = jax.random.normal(jax.random.key(2), (256, 4)) / 16

    def loss(adapter, frozen):
        return jnp.sum(x @ frozen @ frozen @ frozen @ adapter)

    def full(both):
        return loss(both["adapter"], both["frozen"])

    partial = epmc_jax.plan(loss, small, frozen).stored_bytes
    whole = epmc_jax.plan(full, {"adapter": small, "frozen": frozen}).stored_bytes
    assert partial < whole / 2


def test_integer_and_key_arguments_and_integer_outputs():
    def loss(w, batch):
        keep = jax.random.bernoulli(batch["key"], 0.5, batch["x"].shape)
        picked = jnp.where(keep, batch["x"] @ w, 0)[batch["rows"]]
        return (picked**2).sum(), {"best": jnp.argmax(picked, -1)}

    batch = {
        "x": jax.random.normal(jax.random.key(0), (32, 64)),
        "key": jax.random.key(1),
        "rows": jnp.array([0, 3, 2]),
    }
    w = jnp.eye(64)
    expected = jax.jit(jax.value_and_grad(loss, has_aux=True))(w, batch)
    found = jax.jit(jax.value_and_grad(epmc_jax.compress(loss), has_aux=True))(w, batch)
    assert same_bits(expected[0], found[0])
    assert relative_error(expected[1], found[1]) < 0.02


def test_closures_over_outer_tracers():
    x = jax.random.normal(jax.random.key(0), (64, 64))

    def outer(make):
        def loss(w):
            inner = make(lambda y: jnp.tanh(y @ w).sum() * w.sum())
            return inner(x) + (w**2).sum()

        return jax.jit(jax.grad(loss))(x / 8)

    assert relative_error(outer(lambda f: f), outer(epmc_jax.compress)) < 0.02


def test_complex_arrays_are_kept():
    def loss(x):
        return jnp.abs(jnp.fft.fft(jnp.sin(x)) ** 2).sum()

    x = jax.random.normal(jax.random.key(0), (32, 64))
    found = jax.jit(jax.grad(epmc_jax.compress(loss)))(x)
    assert relative_error(jax.grad(loss)(x), found) < 0.02


def test_a_backward_pass_that_waits_for_its_loss():
    """The tie between a loss that reads large logits and its cotangent is batched, and
    carried through loops, as the arrays are."""

    def loss(embedding, text):
        logits = jnp.tanh(embedding[text]) @ embedding.T
        chosen = jnp.take_along_axis(logits, text[..., None], axis=-1)
        return (jax.nn.logsumexp(logits, axis=-1) - chosen[..., 0]).mean()

    embedding = jax.random.normal(jax.random.key(0), (256, 16))
    texts = jax.random.randint(jax.random.key(1), (3, 4, 8), 0, 256)
    compressed = epmc_jax.compress(loss, policy=policies.balanced())
    regions = []
    with watch_regions(regions.append):
        jax.eval_shape(jax.grad(compressed), embedding, texts[0])
    assert [waits_for_outputs(region.selection) for region in regions] == [True]

    def gradients(fun):
        def step(carry, text):
            value, gradient = jax.value_and_grad(fun)(embedding, text)
            return carry + value, gradient

        def total(embedding):
            return jax.lax.map(lambda text: fun(embedding, text), texts).sum()

        return (
            jax.jit(jax.vmap(jax.grad(fun), (None, 0)))(embedding, texts),
            jax.jit(lambda: jax.lax.scan(step, 0.0, texts))(),
            jax.jit(jax.grad(total))(embedding),
        )

    assert relative_error(gradients(loss), gradients(compressed)) < 0.2
