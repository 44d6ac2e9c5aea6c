"""Networks for tokens, in flax.nnx: `(batch, time)` to logits over 256 tokens."""

from collections.abc import Callable

from flax import nnx
from jax import Array

from bench.kinds.layers import attention

EXPERTS = 8


class Bag(nnx.Module):
    """Embeddings, one layer, the mean over places."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(256, 64, rngs=rngs)
        self.hidden = nnx.Linear(64, 256, rngs=rngs)
        self.out = nnx.Linear(256, 256, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        return self.out(nnx.relu(self.hidden(self.embed(tokens))).mean(1))


class CausalBlock(nnx.Module):
    """Pre-norm transformer block, as the body of a scan."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm1 = nnx.RMSNorm(width, rngs=rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mixed = nnx.Linear(width, width, rngs=rngs)
        self.norm2 = nnx.RMSNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = x + self.mixed(attention(self.qkv(self.norm1(x)), is_causal=True))
        return x + self.down(nnx.gelu(self.up(self.norm2(x))))


class Gpt(nnx.Module):
    """Transformer blocks by a scan over their parameters."""

    def __init__(self, *, rngs: nnx.Rngs):
        make = nnx.vmap(lambda rngs: CausalBlock(64, rngs=rngs))
        self.embed = nnx.Embed(256, 64, rngs=rngs)
        self.blocks = nnx.split_rngs(splits=4)(make)(rngs)
        self.norm = nnx.RMSNorm(64, rngs=rngs)
        self.out = nnx.Linear(64, 256, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        scan = nnx.scan(
            lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry
        )
        return self.out(self.norm(scan(self.embed(tokens), self.blocks)))


class MaskedAttention(nnx.Module):
    """Scores filled with a large constant where there is nothing to attend to."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(256, 64, rngs=rngs)
        self.norm1 = nnx.LayerNorm(64, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 64, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(64, rngs=rngs)
        self.out = nnx.Linear(64, 256, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.embed(tokens)
        mask = nnx.make_causal_mask(tokens)
        x = x + self.attention(self.norm1(x), mask=mask)
        return self.out(self.norm2(x))


class Experts(nnx.Module):
    """Mixture of experts; `mix(x, scores, up, down)` has them see the tokens."""

    def __init__(self, mix: Callable[..., Array], *, rngs: nnx.Rngs):
        init = nnx.initializers.lecun_normal(batch_axis=0)
        self.mix = mix
        self.embed = nnx.Embed(256, 64, rngs=rngs)
        self.router = nnx.Linear(64, EXPERTS, rngs=rngs)
        self.up = nnx.Param(init(rngs.params(), (EXPERTS, 64, 128)))
        self.down = nnx.Param(init(rngs.params(), (EXPERTS, 128, 64)))
        self.out = nnx.Linear(64, 256, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        x = self.embed(tokens)
        return self.out(x + self.mix(x, self.router(x), self.up[...], self.down[...]))


class Lstm(nnx.Module):
    """A recurrent layer: a scan over time."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(256, 64, rngs=rngs)
        self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(64, 128, rngs=rngs))
        self.out = nnx.Linear(128, 256, rngs=rngs)

    def __call__(self, tokens: Array) -> Array:
        return self.out(self.rnn(self.embed(tokens)))
