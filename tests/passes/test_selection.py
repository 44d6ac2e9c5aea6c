"""What is stored, exactly or with an error, for functions with a known answer."""

import jax
import jax.numpy as jnp
import pytest
from jax.ad_checkpoint import checkpoint_name

import epmc_jax
from epmc_jax import Policy, Rule, policies
from epmc_jax.codecs import GroupQuant
from tests.models import cnn_loss, dropouts, mlp_loss, relative_error

X = jax.random.normal(jax.random.key(0), (64, 256))
W = jax.random.normal(jax.random.key(1), (256, 256)) / 16


def rows(fun, *args, policy=None):
    return epmc_jax.plan(fun, *args, policy=policy or policies.precise()).rows


def encoded(fun, *args, policy=None):
    """Shapes and codecs of what is not stored as it is."""
    made = rows(fun, *args, policy=policy)
    return sorted((r.producer, r.shape, r.codec) for r in made if r.codec != "Raw")


def test_gelu_stores_one_array_per_layer():
    made = rows(mlp_loss, [W, W, W], X)
    large = [r for r in made if r.dense_bytes == X.nbytes]
    # The input is an argument: alive anyway. The others are the matmuls' results.
    assert [r.producer for r in large] == ["dot_general"] * 3


def test_the_mask_of_relu_is_one_bit():
    def loss(w, x):
        return ((jax.nn.relu(x @ w) @ w) ** 2).sum()

    kinds = {(r.kind, r.codec) for r in rows(loss, W, X)}
    assert ("mask", "BitMask") in kinds


def test_the_gradient_of_relu_reads_the_bits_of_its_mask():
    def loss(w, x):
        return ((jax.nn.relu(x @ w) @ w) ** 2).sum()

    gradient = jax.jit(jax.grad(epmc_jax.compress(loss, policy=policies.precise())))
    text = gradient.lower(W, X).as_text()
    assert text.count("@epmc_relu_gradient") == 1
    assert "@epmc_bit_mask_decode" not in text
    assert relative_error(jax.grad(loss)(W, X), gradient(W, X)) < 0.02


def test_batch_norm_stores_its_input_only():
    def loss(w, x):
        z = x @ w
        y = (z - z.mean(0)) * jax.lax.rsqrt(z.var(0) + 1e-5)
        return (y**3).sum()

    large = [r for r in rows(loss, W, X) if r.dense_bytes == X.nbytes]
    assert [(r.producer, r.codec) for r in large] == [("dot_general", "GroupQuant(8)")]


def test_parameters_and_inputs_are_not_stored_again():
    made = rows(lambda w, x: ((x @ w) ** 2).sum(), W, X)
    assert len(made) == 1  # z or 2 z


def test_comparisons_are_stored_as_decisions_not_recomputed_from_lossy_values():
    def loss(w, x):
        z = x @ w
        return jnp.where(z > 0.3, z * z, jnp.sin(z)).sum()

    assert ("gt", (64, 256), "BitMask") in encoded(loss, W, X)


def test_exact_policies_recompute_decisions_from_what_they_store():
    def loss(w, x):
        z = x @ w
        return jnp.where(z > 0.3, z * z, jnp.sin(z)).sum()

    made = rows(loss, W, X, policy=policies.exact())
    assert [r.producer for r in made if r.dense_bytes >= 4096] == ["dot_general"]


def test_filled_scores_are_stored_before_the_fill():
    """-1e9 in a group would be its range: nothing of the other scores would be left."""

    def loss(w, x):
        scores = x @ w
        causal = jnp.tril(jnp.ones(scores.shape, bool))
        return (jax.nn.softmax(jnp.where(causal, scores, -1e9)) ** 2).sum()

    lossy = {producer for producer, _, codec in encoded(loss, W, X) if "Quant" in codec}
    assert lossy <= {"dot_general", "exp", "div"}
    error = _gradient_error(loss, W, X)
    assert error < 0.02


def test_denominators_and_logarithms_are_stored_exactly():
    def loss(w, x):
        y = (x @ w) ** 2 + 1e-3
        return jnp.log(y @ w**2).sum()

    made = [r for r in rows(loss, W, X) if r.producer == "dot_general"]
    assert {r.codec for r in made if "denominator" in r.why} == {"Raw"}
    assert _gradient_error(loss, W, X) < 0.02


def test_what_a_checkpoint_inside_differentiates_again_is_exact():
    def loss(w, x):
        block = jax.checkpoint(lambda y: jax.nn.relu(y @ w) @ w)
        return (block(jnp.tanh(x @ w)) ** 2).sum()

    made = [r for r in rows(loss, W, X) if "checkpoint" in r.why or "remat" in r.why]
    assert made
    assert all(r.codec == "Raw" for r in made)
    assert _gradient_error(loss, W, X) < 0.02


def test_a_checkpoint_is_kept_as_it_is_and_the_plan_says_so():
    def loss(w, x):
        z = jnp.sin(x @ w)
        return (jax.checkpoint(lambda z: jnp.tanh(z @ w))(z) ** 2).sum()

    plan = epmc_jax.plan(loss, W, X, policy=policies.precise())
    assert any("jax.checkpoint is not entered" in note for note in plan.notes)
    exact = {r.codec for r in plan.rows if "read exactly by jax.check" in r.why}
    assert exact == {"Raw"}
    assert _gradient_error(loss, W, X) < 0.02


def test_dropout_keeps_one_bit():
    def loss(w, x, key):
        keep = jax.random.bernoulli(key, 0.5, x.shape)
        return (jnp.where(keep, x @ w, 0) ** 3).sum()

    assert ("lt", (64, 256), "BitMask") in encoded(loss, W, X, jax.random.key(0))


def test_what_a_dropout_leaves_is_recomputed():
    """Its mask comes from no layer: no residual stream ends there."""
    made = [r.producer for r in rows(dropouts, [W] * 6, X, jax.random.key(0))]
    assert made.count("lt") == 6
    assert "select_n" not in made


def test_indices_with_a_known_range_are_packed():
    def loss(w, x):
        z = x @ w
        _, order = jax.lax.top_k(z, 64)
        return (jnp.take_along_axis(z, order, 1) ** 2).sum()

    kinds = {r.kind: r.codec for r in rows(loss, W, X)}
    assert kinds["index"] == "IntPack(8)"


def test_max_pool_keeps_its_index():
    loss, args = cnn_loss()
    made = rows(loss, *args)
    assert {r.codec for r in made if r.kind == "pool_index"} == {"PoolIndex"}


@pytest.mark.parametrize("wrong", ["mask", "index", "pool_index"])
def test_a_lossy_rule_never_reaches_a_decision(wrong):
    policy = Policy(Rule(codec=GroupQuant(bit_width=4)))
    loss, args = cnn_loss()
    assert all(
        r.codec == "Raw" for r in rows(loss, *args, policy=policy) if r.kind == wrong
    )


def test_rules_can_name_a_tag():
    def loss(w, x):
        y = checkpoint_name(jnp.sin(x @ w), "hidden")
        return (jnp.sin(y @ w) ** 2).sum()

    policy = Policy(
        Rule(name="hidden", codec=GroupQuant(bit_width=2)),
        Rule(kind="dense", codec=GroupQuant(bit_width=8)),
        recompute=jax.checkpoint_policies.save_only_these_names("hidden"),
    )
    made = [r for r in rows(loss, W, X, policy=policy) if r.dense_bytes == X.nbytes]
    assert [r.codec for r in made] == ["GroupQuant(2)"]


def test_rules_can_name_a_path():
    loss, args = cnn_loss()
    policy = Policy(Rule(path="Conv_0", kind="dense", codec=GroupQuant(bit_width=4)))
    made = rows(loss, *args, policy=policy)
    lossy = {r.site for r in made if r.codec == "GroupQuant(4)"}
    assert lossy == {f"Cnn/ConvBlock_{i}/Conv_0" for i in range(4)}


@pytest.mark.parametrize(
    "name", ["nothing_saveable", "everything_saveable", "dots_saveable"]
)
def test_checkpoint_policies_decide_what_is_recomputed(name):
    # Storing all that JAX stores, as it is, gains nothing: that would run as written.
    codecs = [Rule(kind="dense", codec=GroupQuant())] * (name == "everything_saveable")
    policy = Policy(*codecs, recompute=getattr(jax.checkpoint_policies, name))
    plan = epmc_jax.plan(mlp_loss, [W, W, W], X, policy=policy)
    large = [r for r in plan.rows if r.dense_bytes == X.nbytes]
    if name == "nothing_saveable":
        assert not large
    elif name == "dots_saveable":
        assert {r.producer for r in large} == {"dot_general"}
    else:
        assert len(large) > 3
    compressed = epmc_jax.compress(mlp_loss, policy=policy)
    expected = jax.jit(jax.grad(mlp_loss))([W, W, W], X)
    found = jax.jit(jax.grad(compressed))([W, W, W], X)
    assert relative_error(expected, found) < (0.02 if codecs else 1e-6)


def test_policies_that_offload_are_refused():
    offload = jax.checkpoint_policies.offload_dot_with_no_batch_dims(
        "device", "pinned_host"
    )
    with pytest.raises(ValueError, match="without offloading"):
        rows(mlp_loss, [W], X, policy=Policy(recompute=offload))


def _gradient_error(loss, *args):
    compressed = epmc_jax.compress(loss, policy=policies.precise())
    return relative_error(
        jax.jit(jax.grad(loss))(*args), jax.jit(jax.grad(compressed))(*args)
    )


def test_two_pools_of_one_array_keep_a_mask_each():
    """What the one lets pass says nothing of the positions that the other chose."""

    def pool(y, window):
        shape = (1, window, window, 1)
        return jax.lax.reduce_window(y, -jnp.inf, jax.lax.max, shape, shape, "VALID")

    def loss(w, x):
        y = jax.nn.relu(x * w)
        return (pool(y, 2) ** 2).sum() + (pool(y, 4) ** 3).sum()

    w = jax.random.normal(jax.random.key(2), (8,)) - 1
    x = jax.random.normal(jax.random.key(3), (2, 32, 32, 8))
    compressed = epmc_jax.compress(loss, policy=policies.exact())
    found = jax.jit(jax.grad(compressed, argnums=(0, 1)))(w, x)
    expected = jax.jit(jax.grad(loss, argnums=(0, 1)))(w, x)
    assert relative_error(expected, found) < 1e-6


def test_an_array_is_encoded_in_the_order_it_was_made_in():
    """In another order it may be nowhere in memory: the encoder would need a copy."""

    def heads(weights, x):
        split = (x @ weights).reshape(4, 64, 4, 64).transpose(0, 2, 1, 3)
        return (jnp.sin(split) @ jnp.cos(split).mT).sum()

    made = rows(heads, W, jnp.broadcast_to(X, (4, *X.shape)))
    assert [r.shape for r in made if r.codec == "GroupQuant(8)"] == [(4, 64, 256)]
