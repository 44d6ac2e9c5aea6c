"""The table: each kind of network with its batch, its loss and its error bounds."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx
from jax import Array

from bench.kinds import linen_images, linen_sequences, nnx_images, nnx_sequences
from bench.kinds.layers import all_experts, routed_experts
from bench.methods import Loss, Method
from bench.problems import Problem

Objective = Callable[[Array], Array]


def cross_entropy(logits: Array) -> Array:
    """With labels that count up: a logsumexp and a gather."""
    labels = jnp.arange(logits.size // logits.shape[-1]) % logits.shape[-1]
    flat = logits.reshape(-1, logits.shape[-1])
    return optax.softmax_cross_entropy_with_integer_labels(flat, labels).mean()


def smoothed_cross_entropy(logits: Array) -> Array:
    """The same with label smoothing."""
    labels = jnp.arange(logits.size // logits.shape[-1]) % logits.shape[-1]
    flat = logits.reshape(-1, logits.shape[-1])
    targets = optax.smooth_labels(jax.nn.one_hot(labels, flat.shape[-1]), 0.1)
    return optax.softmax_cross_entropy(flat, targets).mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of network, in both APIs.

    `precise`, `balanced`: bounds of the relative error of the gradient. `exact`: of its
    largest difference, in units of its largest entry.
    """

    linen: Callable[[], linen.Module]
    nnx: Callable[..., nnx.Module]
    batch: Callable[[Array], Array]
    objective: Objective = cross_entropy
    exact: float = 1e-6
    precise: float
    balanced: float


def _images(key: Array) -> Array:
    return jax.random.normal(key, (16, 16, 16, 3))


def _tokens(key: Array) -> Array:
    return jax.random.randint(key, (8, 64), 0, 256)


KINDS = {
    "mlp": Kind(
        linen=linen_images.Mlp,
        nnx=nnx_images.Mlp,
        batch=_images,
        precise=0.01,
        balanced=0.2,
    ),
    "cnn": Kind(
        linen=linen_images.Cnn,
        nnx=nnx_images.Cnn,
        batch=_images,
        precise=0.006,
        balanced=0.12,
    ),
    "batch norm": Kind(
        linen=linen_images.BatchNormCnn,
        nnx=nnx_images.BatchNormCnn,
        batch=_images,
        precise=0.004,
        balanced=0.08,
    ),
    "resnet": Kind(
        linen=linen_images.ResNet,
        nnx=nnx_images.ResNet,
        batch=_images,
        precise=0.008,
        balanced=0.15,
    ),
    "u-net": Kind(
        linen=linen_images.UNet,
        nnx=nnx_images.UNet,
        batch=_images,
        precise=0.004,
        balanced=0.06,
    ),
    "depthwise": Kind(
        linen=linen_images.Depthwise,
        nnx=nnx_images.Depthwise,
        batch=_images,
        precise=0.005,
        balanced=0.1,
    ),
    "vit": Kind(
        linen=linen_images.ViT,
        nnx=nnx_images.ViT,
        batch=_images,
        objective=smoothed_cross_entropy,
        precise=0.008,
        balanced=0.15,
    ),
    "embeddings": Kind(
        linen=linen_sequences.Bag,
        nnx=nnx_sequences.Bag,
        batch=_tokens,
        precise=0.001,
        balanced=0.015,
    ),
    "gpt": Kind(
        linen=linen_sequences.Gpt,
        nnx=nnx_sequences.Gpt,
        batch=_tokens,
        precise=0.012,
        balanced=0.2,
    ),
    "masked": Kind(
        linen=linen_sequences.MaskedAttention,
        nnx=nnx_sequences.MaskedAttention,
        batch=_tokens,
        precise=0.012,
        balanced=0.2,
    ),
    "experts": Kind(
        linen=functools.partial(linen_sequences.Experts, all_experts),
        nnx=functools.partial(nnx_sequences.Experts, all_experts),
        batch=_tokens,
        exact=2e-6,  # rounding of float32 in another order: 1.03e-6
        precise=0.007,
        balanced=0.15,
    ),
    "routed": Kind(
        linen=functools.partial(linen_sequences.Experts, routed_experts),
        nnx=functools.partial(nnx_sequences.Experts, routed_experts),
        batch=_tokens,
        precise=0.007,
        balanced=0.15,
    ),
    "lstm": Kind(
        linen=linen_sequences.Lstm,
        nnx=nnx_sequences.Lstm,
        batch=_tokens,
        objective=smoothed_cross_entropy,
        precise=0.007,
        balanced=0.15,
    ),
}
APIS = ("linen", "nnx")


@dataclasses.dataclass(frozen=True)
class LinenProblem:
    """A kind of network in linen, as `Problem` is one in nnx."""

    name: str
    kind: Kind

    def loss(self, method: Method) -> Loss:
        """`loss(params, state, batch) -> (scalar, new_state)` in the method's way."""
        model = self.kind.linen()

        def loss(params, state, batch):
            logits, changed = model.apply(
                {"params": params, **state},
                batch,
                mutable=[*state],
                rngs={"dropout": jax.random.key(2)},
            )
            return self.kind.objective(logits), changed

        return method.wrap(loss)

    def arguments(self, seed: int) -> tuple[Any, ...]:
        """Concrete `(params, state, batch)`."""
        return jax.jit(self._arguments)(jax.random.key(seed))

    def avals(self) -> tuple[Any, ...]:
        """The shapes of `arguments`; nothing is computed."""
        return jax.eval_shape(self._arguments, jax.random.key(0))

    def _arguments(self, key: Array) -> tuple[Any, ...]:
        init_key, batch_key = jax.random.split(key)
        batch = self.kind.batch(batch_key)
        keys = {"params": init_key, "dropout": init_key}
        state = dict(self.kind.linen().init(keys, batch))
        return state.pop("params"), state, batch


def problem(name: str, api: str) -> LinenProblem | Problem:
    """The kind `name` with its loss, in `api`: linen or nnx."""
    kind = KINDS[name]
    if api == "linen":
        return LinenProblem(name, kind)
    return Problem(
        name,
        lambda *, remat_blocks, rngs: kind.nnx(rngs=rngs),
        lambda model, batch: kind.objective(model(batch)),
        lambda key: (kind.batch(key),),
    )
