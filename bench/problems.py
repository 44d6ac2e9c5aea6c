"""The networks of `bench.nets` with a loss and a batch: what the benchmarks measure."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from bench.methods import Loss, Method
from bench.nets.gpt import Gpt
from bench.nets.mlp import GeluMlp
from bench.nets.resnet import resnet18, resnet50
from bench.nets.vgg import VGG16
from bench.nets.vit import Vit

Batch = tuple[Any, ...]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network by its constructor, an objective, and the batch it is given.

    `make(remat_blocks=..., rngs=...)` builds the network, `objective(model, *batch)`
    is the scalar to differentiate, `make_batch(key)` draws a batch.
    """

    name: str
    make: Callable[..., nnx.Module]
    objective: Callable[..., jax.Array]
    make_batch: Callable[[jax.Array], Batch]

    def loss(self, method: Method) -> Loss:
        """`loss(params, state, *batch) -> (scalar, new_state)` in the method's way."""

        def loss(params, state, *batch):
            model = self.rebuild(params, state, remat_blocks=method.remat_blocks)
            value = self.objective(model, *batch)
            return value, _parts(model)[2]

        return method.wrap(loss)

    def rebuild(self, params: Any, state: Any, *, remat_blocks: bool) -> Any:
        """The network with these parameters and this state."""
        make = functools.partial(self._split, remat_blocks=remat_blocks)
        graph = nnx.eval_shape(lambda: make(jax.random.key(0)))[0]
        return nnx.merge(graph, params, state, copy=True)

    def arguments(self, seed: int) -> tuple[Any, ...]:
        """Concrete `(params, state, *batch)`."""
        return jax.jit(self._arguments)(jax.random.key(seed))

    def avals(self) -> tuple[Any, ...]:
        """The shapes of `arguments`; nothing is computed."""
        return jax.eval_shape(self._arguments, jax.random.key(0))

    def _split(self, key: jax.Array, remat_blocks: bool) -> tuple[Any, Any, Any]:
        model = self.make(remat_blocks=remat_blocks, rngs=nnx.Rngs(key))
        return _parts(model)

    def _arguments(self, key: jax.Array) -> tuple[Any, ...]:
        init_key, batch_key = jax.random.split(key)
        _, params, state = self._split(init_key, remat_blocks=False)
        return params, state, *self.make_batch(batch_key)


def _parts(model: nnx.Module) -> tuple[Any, Any, Any]:
    parts: Any = nnx.split(model, nnx.Param, ...)
    return parts


def _cross_entropy(
    model: nnx.Module, inputs: jax.Array, labels: jax.Array
) -> jax.Array:
    entropy = optax.softmax_cross_entropy_with_integer_labels(model(inputs), labels)
    return jnp.mean(entropy)


def _images(
    batch: int, size: int, channels: int, classes: int, key: jax.Array
) -> Batch:
    image_key, label_key = jax.random.split(key)
    images = jax.random.normal(image_key, (batch, size, size, channels))
    return images, jax.random.randint(label_key, (batch,), 0, classes)


def _tokens(batch: int, time: int, vocabulary: int, key: jax.Array) -> Batch:
    text = jax.random.randint(key, (batch, time + 1), 0, vocabulary)
    return text[:, :-1], text[:, 1:]


def resnet50_imagenet(*, batch: int, size: int = 224) -> Problem:
    """ResNet-50 with its max-pool, 1000 classes."""
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"ResNet-50, {batch}x{size}", resnet50, _cross_entropy, images)


def resnet18_small(*, batch: int, size: int) -> Problem:
    """ResNet-18 for small grey images, 10 classes."""
    make = functools.partial(resnet18, num_classes=10, channels=1, small_images=True)
    images = functools.partial(_images, batch, size, 1, 10)
    return Problem(f"ResNet-18, {batch}x{size}", make, _cross_entropy, images)


def gelu_mlp(*, batch: int = 2048, width: int = 1024, depth: int = 24) -> Problem:
    """Layers of one width; the loss is the mean square of the output."""
    make = functools.partial(GeluMlp, depth=depth, width=width)
    return Problem(
        f"gelu MLP, {depth} layers, {batch}x{width}",
        make,
        lambda model, x: jnp.mean(model(x) ** 2),
        lambda key: (jax.random.normal(key, (batch, width)),),
    )


def vgg16_small(*, batch: int = 16, size: int = 32) -> Problem:
    """VGG16 with BatchNorm and max-pools, 10 classes."""

    def make(*, remat_blocks: bool, rngs: nnx.Rngs) -> VGG16:
        del remat_blocks  # VGG has no blocks: it is checkpointed as a whole, or not.
        return VGG16(image_size=size, num_classes=10, hidden=512, rngs=rngs)

    images = functools.partial(_images, batch, size, 3, 10)
    return Problem(f"VGG16-BN, {batch}x{size}", make, _cross_entropy, images)


def vgg16_imagenet(*, batch: int, size: int = 224) -> Problem:
    """VGG16 with BatchNorm and max-pools, 1000 classes."""

    def make(*, remat_blocks: bool, rngs: nnx.Rngs) -> VGG16:
        del remat_blocks
        return VGG16(image_size=size, rngs=rngs)

    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"VGG16-BN, {batch}x{size}", make, _cross_entropy, images)


def vit_small(*, batch: int, depth: int = 12) -> Problem:
    """ViT-S/16, 1000 classes."""
    make = functools.partial(Vit, depth=depth)
    images = functools.partial(_images, batch, 224, 3, 1000)
    return Problem(f"ViT-S/16, {batch}x224", make, _cross_entropy, images)


def gpt_small(
    *, batch: int = 8, time: int = 512, depth: int = 12, is_scanned: bool = False
) -> Problem:
    """GPT-2 small, next-token cross-entropy."""
    return Problem(
        f"GPT, {depth} blocks{' scanned' * is_scanned}, {batch}x{time}",
        functools.partial(Gpt, depth=depth, is_scanned=is_scanned),
        _cross_entropy,
        functools.partial(_tokens, batch, time, 50257),
    )
