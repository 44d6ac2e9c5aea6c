"""Which stored arrays are encoded block by block."""

import jax
import jax.numpy as jnp
import pytest

import epmc_jax
from epmc_jax import policies
from epmc_jax.passes import execution
from epmc_jax.passes.blocks import encoded_in_blocks
from epmc_jax.transform import watch_regions
from tests.models import relative_error

WORDS, WIDTH = 512, 16
EMBEDDING = jax.random.normal(jax.random.key(0), (WORDS, WIDTH))
TEXT = jax.random.randint(jax.random.key(1), (6, 8), 0, WORDS)


def logits_of(embedding, text):
    return jnp.tanh(embedding[text]) @ embedding.T


def loss(embedding, text):
    logits = logits_of(embedding, text)
    chosen = jnp.take_along_axis(logits, text[..., None], axis=-1)
    return (jax.nn.logsumexp(logits, axis=-1) - chosen[..., 0]).mean()


def chains(fun, policy=None):
    policy = policy or policies.balanced()
    compressed = epmc_jax.compress(fun, policy=policy)
    regions = []
    with watch_regions(regions.append):
        jax.eval_shape(jax.grad(compressed), EMBEDDING, TEXT)
    (region,) = regions
    return encoded_in_blocks(region.selection)


@pytest.mark.parametrize("policy", [policies.precise(), policies.balanced()])
def test_exponentials_of_logits(policy):
    ((value, chain),) = chains(loss, policy).items()
    assert value.shape == (*TEXT.shape, WORDS)
    assert [op.name for op in chain.ops][-1] == "exp"
    assert value.shape in [v.shape for v in chain.inputs]


def test_a_chain_makes_any_rows():
    ((value, chain),) = chains(loss).items()
    whole = (chain.rows_of(v, jnp.ones(v.shape, v.dtype)) for v in chain.inputs)
    assert chain(*(x[:2] for x in whole)).shape == (2, *chain.shape[1:])
    assert chain.shape[-1] == value.shape[-1]


def test_of_one_text_the_positions_are_rows():
    def of_many_words(embedding, text):
        many = jnp.concatenate([embedding] * 16)
        return jax.nn.logsumexp(logits_of(many, text[:1]), axis=-1).mean()

    ((value, chain),) = chains(of_many_words).items()
    assert value.shape == (1, TEXT.shape[1], 16 * WORDS)
    assert chain.shape == (TEXT.shape[1], 16 * WORDS)
    compressed = epmc_jax.compress(of_many_words, policy=policies.precise())
    expected = jax.grad(of_many_words)(EMBEDDING, TEXT)
    assert relative_error(expected, jax.grad(compressed)(EMBEDDING, TEXT)) < 0.02


def test_short_rows_are_not_padded_each():
    """A row of 33 floats would be encoded in 32 bytes, two of them in 48."""

    def of_few_words(embedding, text):
        return jax.nn.logsumexp(logits_of(embedding[:33], text % 33), axis=-1).mean()

    ((value, chain),) = chains(of_few_words).items()
    assert chain.shape == value.shape


def test_half_precision_logits():
    def in_half(embedding, text):
        logits = logits_of(embedding.astype(jnp.bfloat16), text).astype(jnp.float32)
        return jax.nn.logsumexp(logits, axis=-1).mean()

    ((value, chain),) = chains(in_half).items()
    assert {"convert_element_type", "exp"} <= {op.name for op in chain.ops}
    assert value.dtype == jnp.float32
    assert jnp.bfloat16 in [v.dtype for v in chain.inputs]


def test_exact_arrays_are_not_encoded():
    assert not chains(loss, policies.exact())


def test_a_mask_is_not_the_array_it_is_of():
    def of_relu(embedding, text):
        return jax.nn.relu(logits_of(embedding, text)).sum()

    assert not chains(of_relu)


def test_a_matrix_product_reads_the_whole():
    def attention(embedding, text):
        weights = jnp.exp(logits_of(embedding, text))
        return (jnp.tanh(weights @ embedding) ** 2).sum()

    assert not chains(attention)


def test_among_arrays_of_its_size_none_is_the_peak():
    def wide(embedding, text):
        more = jnp.tanh(logits_of(embedding, text)) @ jnp.ones((WORDS, WORDS))
        return jax.nn.logsumexp(more, axis=-1).mean()

    assert not chains(wide)


def test_an_output_is_there_anyway():
    def with_output(embedding, text):
        shifted = jnp.exp(logits_of(embedding, text))
        return jnp.log(shifted.sum(axis=-1)).mean(), shifted

    compressed = epmc_jax.compress(with_output, policy=policies.balanced())
    regions = []
    with watch_regions(regions.append):
        jax.eval_shape(jax.grad(compressed, has_aux=True), EMBEDDING, TEXT)
    assert not any(encoded_in_blocks(region.selection) for region in regions)


def test_gradients_are_those_of_the_whole(monkeypatch):
    def gradient():
        compressed = epmc_jax.compress(loss, policy=policies.precise())
        return jax.jit(jax.value_and_grad(compressed))(EMBEDDING, TEXT)

    in_blocks = gradient()
    monkeypatch.setattr(execution, "encoded_in_blocks", lambda selection: {})
    assert relative_error(gradient(), in_blocks) < 1e-6
