"""What linen and nnx networks share: functions of arrays and parameters."""

import jax
import jax.numpy as jnp
from jax import Array


def attention(qkv: Array, *, is_causal: bool) -> Array:
    """Attention as jax has it: `(batch, time, 3 * width)` to `(batch, time, width)`."""
    batch, time, width = qkv.shape
    heads = qkv.reshape(batch, time, 3, 4, width // 12)
    q, k, v = jnp.moveaxis(heads, 2, 0)
    y = jax.nn.dot_product_attention(q, k, v, is_causal=is_causal)
    return y.reshape(batch, time, width // 3)


def all_experts(x: Array, scores: Array, up: Array, down: Array) -> Array:
    """Every expert sees every token; each token takes its two best.

    `x`: `(batch, time, width)`; `scores`: `(batch, time, experts)`; `up`, `down`: the
    layers of all experts.
    """
    gates, chosen = jax.lax.top_k(jax.nn.softmax(scores), 2)
    hidden = jax.nn.relu(jnp.einsum("btd,edh->bteh", x, up))
    y = jnp.einsum("bteh,ehd->bted", hidden, down)
    y = jnp.take_along_axis(y, chosen[..., None], 2)
    return (gates[..., None] * y).sum(2)


def routed_experts(x: Array, scores: Array, up: Array, down: Array) -> Array:
    """Each expert takes its best tokens: gathered, and added where they came from.

    Arguments as of `all_experts`. Reference: Zhou et al., Expert choice, 2022,
    arXiv:2202.09368.
    """
    tokens = x.reshape(-1, x.shape[-1])
    affinity = jax.nn.softmax(scores).reshape(-1, scores.shape[-1])
    gates, chosen = jax.lax.top_k(affinity.T, 2 * len(tokens) // scores.shape[-1])
    hidden = jax.nn.gelu(jnp.einsum("ecd,edh->ech", tokens[chosen], up))
    y = gates[..., None] * jnp.einsum("ech,ehd->ecd", hidden, down)
    return jnp.zeros_like(tokens).at[chosen].add(y).reshape(x.shape)
