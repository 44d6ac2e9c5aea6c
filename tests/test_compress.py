"""What `compress` accepts, and what it says of the rest."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import Policy, Rule, codecs

X = jnp.linspace(-1, 1, 2**16).reshape(256, 256)


def test_as_a_decorator_with_and_without_arguments():
    @epmc_jax.compress
    def plain(x):
        """Docs."""
        return jnp.sin(x).sum()

    @epmc_jax.compress(policy=epmc_jax.policies.exact(), encode_argnums=(0,))
    def with_arguments(x):
        return jnp.sin(x).sum()

    assert plain.__name__ == "plain"
    assert plain.__doc__ == "Docs."
    assert jnp.allclose(jax.grad(plain)(X), jax.grad(with_arguments)(X), atol=1e-6)


def test_leaves_that_are_no_arrays_are_static():
    @epmc_jax.compress
    def fun(x, *, scale, mode):
        return {"y": jnp.sin(x) * scale if mode == "sin" else x, "mode": mode}

    out = fun(X, scale=2.0, mode="sin")
    assert out["mode"] == "sin"
    assert jnp.allclose(out["y"], 2 * jnp.sin(X))


def test_saved_inputs_are_encoded_where_asked():
    def fun(w, x):
        return (jnp.sin(x) @ w).sum()

    kept = epmc_jax.plan(epmc_jax.compress(fun), X, X)
    assert kept.stored_bytes == 0
    encoded = epmc_jax.plan(epmc_jax.compress(fun, encode_argnums=(1,)), X, X)
    assert 0 < encoded.stored_bytes < X.nbytes / 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "got 3"),
        (int, "got <class 'int'>"),
        (nn.Dense(3), r"compress\(Dense\)\(\.\.\.\)"),
    ],
)
def test_wrong_targets_are_named(target, message):
    with pytest.raises(TypeError, match=message):
        epmc_jax.compress(target)


def test_a_policy_must_be_one():
    with pytest.raises(TypeError, match=r"policies\.balanced"):
        epmc_jax.compress(jnp.sin, policy="8bit")


def test_encode_argnums_out_of_range_names_the_call():
    with pytest.raises(ValueError, match="has 3, but the call has 1 positional"):
        epmc_jax.compress(jnp.sin, encode_argnums=(3,))(X)


def test_encode_argnums_is_for_functions():
    with pytest.raises(ValueError, match="is for functions"):
        epmc_jax.compress(nn.Dense, encode_argnums=(0,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Policy(recompute="some"), "'some'"),
        (lambda: Policy(min_bytes=-1), "got -1"),
        (lambda: Rule(codec=codecs.Raw(), kind="masks"), "'masks'"),
        (lambda: Rule(codec=codecs.Raw(), path="("), r"'\('"),
    ],
)
def test_wrong_policies_name_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make", [lambda: Policy(codecs.Raw()), lambda: Rule(codec="int8")]
)
def test_rules_hold_codecs(make):
    with pytest.raises(TypeError, match=r"codec"):
        make()
