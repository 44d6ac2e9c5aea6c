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
from bench.nets.alexnet import AlexNet
from bench.nets.cheap import checkpoint_cheap
from bench.nets.densenet import DenseNet
from bench.nets.googlenet import GoogLeNet
from bench.nets.gpt import Gpt
from bench.nets.mlp import GeluMlp
from bench.nets.resnet import resnet50
from bench.nets.unet import UNet
from bench.nets.vgg import VGG16
from bench.nets.vit import Vit

Batch = tuple[Any, ...]
_WITH_DTYPE = (nnx.BatchNorm, nnx.Conv, nnx.ConvTranspose, nnx.LayerNorm, nnx.Linear)


@dataclasses.dataclass(frozen=True)
class Problem:
    """A network by its constructor, an objective, and the batch it is given.

    `make(remat_blocks=..., rngs=...)` builds the network, `objective(model, *batch)`
    is the scalar to differentiate, `make_batch(key)` draws a batch. `dtype`: of what is
    computed, from parameters that are float32.
    """

    name: str
    make: Callable[..., nnx.Module]
    objective: Callable[..., jax.Array]
    make_batch: Callable[[jax.Array], Batch]
    dtype: Any = jnp.float32

    def loss(self, method: Method) -> Loss:
        """`loss(params, state, *batch) -> (scalar, new_state)` in the method's way."""

        def loss(params, state, *batch):
            params, batch = jax.tree.map(self._cast, (params, batch))
            model = self.rebuild(params, state, method)
            value = self.objective(model, *batch)
            return value, _parts(model)[2]

        return method.wrap(loss)

    def rebuild(self, params: Any, state: Any, method: Method) -> Any:
        """The network with these parameters and this state, in the method's form."""
        make = functools.partial(self._split, remat_blocks=method.remat_blocks)
        graph = nnx.eval_shape(lambda: make(jax.random.key(0)))[0]
        model = nnx.merge(graph, params, state, copy=True)
        if method.remat_cheap:
            checkpoint_cheap(model)
        if self.dtype != jnp.float32:
            for _, module in nnx.iter_graph(model):
                # Else statistics, which are not cast, make float32 of what they meet.
                if isinstance(module, _WITH_DTYPE):
                    module.dtype = self.dtype
        return model

    def in_dtype(self, dtype: Any) -> "Problem":
        """The same problem, computed in `dtype`."""
        return dataclasses.replace(self, dtype=dtype)

    def arguments(self, seed: int) -> tuple[Any, ...]:
        """Concrete `(params, state, *batch)`."""
        return jax.jit(self._arguments)(jax.random.key(seed))

    def avals(self) -> tuple[Any, ...]:
        """The shapes of `arguments`; nothing is computed."""
        return jax.eval_shape(self._arguments, jax.random.key(0))

    def _cast(self, x: jax.Array) -> jax.Array:
        return x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

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
    logits = model(inputs).astype(jnp.float32)
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def _images(
    batch: int, size: int, channels: int, classes: int, key: jax.Array
) -> Batch:
    image_key, label_key = jax.random.split(key)
    images = jax.random.normal(image_key, (batch, size, size, channels))
    return images, jax.random.randint(label_key, (batch,), 0, classes)


def _tokens(batch: int, time: int, vocabulary: int, key: jax.Array) -> Batch:
    text = jax.random.randint(key, (batch, time + 1), 0, vocabulary)
    return text[:, :-1], text[:, 1:]


def small_images(
    name: str, make: Callable[..., nnx.Module], *, batch: int, size: int
) -> Problem:
    """A network for grey images of ten classes."""
    images = functools.partial(_images, batch, size, 1, 10)
    return Problem(name, make, _cross_entropy, images)


def next_token(
    name: str,
    make: Callable[..., nnx.Module],
    *,
    batch: int,
    time: int,
    vocabulary: int,
) -> Problem:
    """A network that predicts the token after each one."""
    tokens = functools.partial(_tokens, batch, time, vocabulary)
    return Problem(name, make, _cross_entropy, tokens)


def resnet50_imagenet(*, batch: int, size: int = 224) -> Problem:
    """ResNet-50 with its max-pool, 1000 classes."""
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"ResNet-50, {batch}x{size}", resnet50, _cross_entropy, images)


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

    make = functools.partial(VGG16, image_size=size, num_classes=10, hidden=512)
    images = functools.partial(_images, batch, size, 3, 10)
    return Problem(f"VGG16-BN, {batch}x{size}", make, _cross_entropy, images)


def vgg16_imagenet(
    *, batch: int, size: int = 224, use_batch_norm: bool = True
) -> Problem:
    """VGG16 with max-pools, with BatchNorm or without, 1000 classes."""
    make = functools.partial(VGG16, image_size=size, use_batch_norm=use_batch_norm)
    images = functools.partial(_images, batch, size, 3, 1000)
    name = f"VGG16{'-BN' * use_batch_norm}, {batch}x{size}"
    return Problem(name, make, _cross_entropy, images)


def alexnet(*, batch: int, size: int = 224) -> Problem:
    """AlexNet, 1000 classes."""
    make = functools.partial(AlexNet, image_size=size)
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"AlexNet, {batch}x{size}", make, _cross_entropy, images)


def googlenet(*, batch: int, size: int = 224) -> Problem:
    """GoogLeNet with BatchNorm, 1000 classes."""
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"GoogLeNet, {batch}x{size}", GoogLeNet, _cross_entropy, images)


def densenet121(*, batch: int, size: int = 224) -> Problem:
    """DenseNet-121, 1000 classes."""
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"DenseNet-121, {batch}x{size}", DenseNet, _cross_entropy, images)


def unet(*, batch: int, size: int = 572) -> Problem:
    """The U-Net, two classes for each pixel that is 92 or more from the border."""

    def segments(key: jax.Array) -> Batch:
        image_key, label_key = jax.random.split(key)
        images = jax.random.normal(image_key, (batch, size, size, 1))
        inner = (batch, size - 184, size - 184)
        return images, jax.random.randint(label_key, inner, 0, 2)

    return Problem(f"U-Net, {batch}x{size}", UNet, _cross_entropy, segments)


def vit_small(*, batch: int, size: int = 224, depth: int = 12) -> Problem:
    """ViT-S/16, 1000 classes."""
    make = functools.partial(Vit, image_size=size, depth=depth)
    images = functools.partial(_images, batch, size, 3, 1000)
    return Problem(f"ViT-S/16, {batch}x{size}", make, _cross_entropy, images)


def gpt_small(
    *, batch: int = 8, time: int = 512, depth: int = 12, is_scanned: bool = False
) -> Problem:
    """GPT-2 small, next-token cross-entropy."""
    name = f"GPT, {depth} blocks{' scanned' * is_scanned}, {batch}x{time}"
    make = functools.partial(Gpt, depth=depth, is_scanned=is_scanned)
    return next_token(name, make, batch=batch, time=time, vocabulary=50257)
