"""Networks for tokens, in flax.linen: `(batch, time)` to logits over 256 tokens."""

from collections.abc import Callable

from flax import linen as nn
from jax import Array

from bench.kinds.layers import attention

EXPERTS = 8


class Bag(nn.Module):
    """Embeddings, one layer, the mean over places."""

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        x = nn.relu(nn.Dense(256)(nn.Embed(256, 64)(tokens)))
        return nn.Dense(256)(x.mean(1))


class CausalBlock(nn.Module):
    """Pre-norm transformer block, as the body of a scan."""

    @nn.compact
    def __call__(self, x: Array, _: None) -> tuple[Array, None]:
        width = x.shape[-1]
        y = attention(nn.Dense(3 * width)(nn.RMSNorm()(x)), is_causal=True)
        x = x + nn.Dense(width)(y)
        y = nn.gelu(nn.Dense(4 * width)(nn.RMSNorm()(x)))
        return x + nn.Dense(width)(y), None


class Gpt(nn.Module):
    """Transformer blocks by a scan over their parameters."""

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        layers = nn.scan(
            CausalBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=4,
        )
        x, _ = layers()(nn.Embed(256, 64)(tokens), None)
        return nn.Dense(256)(nn.RMSNorm()(x))


class MaskedAttention(nn.Module):
    """Scores filled with a large constant where there is nothing to attend to."""

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        x = nn.Embed(256, 64)(tokens)
        mask = nn.make_causal_mask(tokens)
        x = x + nn.MultiHeadDotProductAttention(4)(nn.LayerNorm()(x), mask=mask)
        return nn.Dense(256)(nn.LayerNorm()(x))


class Experts(nn.Module):
    """Mixture of experts; `mix(x, scores, up, down)` has them see the tokens."""

    mix: Callable[..., Array]

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        x = nn.Embed(256, 64)(tokens)
        init = nn.initializers.lecun_normal(batch_axis=0)
        up = self.param("up", init, (EXPERTS, 64, 128))
        down = self.param("down", init, (EXPERTS, 128, 64))
        return nn.Dense(256)(x + self.mix(x, nn.Dense(EXPERTS)(x), up, down))


class Lstm(nn.Module):
    """A recurrent layer: a scan over time."""

    @nn.compact
    def __call__(self, tokens: Array) -> Array:
        x = nn.Embed(256, 64)(tokens)
        return nn.Dense(256)(nn.RNN(nn.OptimizedLSTMCell(128))(x))
