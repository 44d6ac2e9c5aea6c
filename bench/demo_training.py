"""Training the demo's network: one optimiser, one sequence of batches, any method."""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from bench.data import Dataset, Split
from bench.measure import compile_gradient
from bench.methods import Loss, Method
from bench.nets.resnet_linen import ResNet18
from bench.steps import State, one_cycle_adam


@dataclasses.dataclass(frozen=True)
class Settings:
    """One training run. `crop` is the image's height and width, in pixels."""

    batch: int = 25
    steps: int = 320
    peak_learning_rate: float = 1e-3
    crop: int = 24
    shift: int = 1


def loss(method: Method) -> Loss:
    """The network's cross-entropy, of `(params, batch_stats, images, labels)`."""
    network = ResNet18(
        num_classes=10, small_images=True, remat_blocks=method.remat_blocks
    )

    def cross_entropy(params, batch_stats, images, labels):
        variables = {"params": params, "batch_stats": batch_stats}
        logits, updates = network.apply(
            variables, images, train=True, mutable="batch_stats"
        )
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(entropy), updates["batch_stats"]

    return method.wrap(cross_entropy)


def initial_state(settings: Settings, seed: int) -> State:
    """The same for every method: checkpointed blocks have the same names and shapes."""
    images = jnp.zeros((1, settings.crop, settings.crop, 1))
    init = functools.partial(
        ResNet18(num_classes=10, small_images=True).init, train=True
    )
    variables = jax.jit(init)(jax.random.key(seed), images)
    params = variables["params"]
    return State(params, variables["batch_stats"], _optimiser(settings).init(params))


class Stepper:
    """Takes training steps in one method.

    `gradient` is the compiled program whose memory the demo shows; the optimiser's
    update is a program of its own, the same for all methods. The state that a step is
    given is consumed.
    """

    def __init__(self, method: Method, settings: Settings):
        state = jax.eval_shape(lambda: initial_state(settings, 0))
        args = gradient_arguments(state, settings)
        start = time.perf_counter()
        self.gradient = compile_gradient(loss(method), args)
        self.compile_s = time.perf_counter() - start
        self._update = _update(settings)

    def __call__(
        self, state: State, images: np.ndarray, labels: np.ndarray
    ) -> tuple[State, Array]:
        """One step, waited for: the state after it, and the loss before it."""
        (value, batch_stats), grads = self.gradient(
            state.params, state.state, images, labels
        )
        params, moments = self._update(state.params, state.moments, grads)
        return jax.block_until_ready((State(params, batch_stats, moments), value))


def batches(
    split: Split, settings: Settings, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`settings.steps` batches; reshuffled every epoch, images shifted at random."""
    rng = np.random.default_rng(seed)
    order = np.empty(0, int)
    for _ in range(settings.steps):
        if len(order) < settings.batch:
            order = rng.permutation(len(split))
        chosen, order = np.split(order, [settings.batch])
        shifts = rng.integers(-settings.shift, settings.shift + 1, (settings.batch, 2))
        images = [
            _crop(split.images[i], settings.crop, *shift)
            for i, shift in zip(chosen, shifts, strict=True)
        ]
        yield np.stack(images), split.labels[chosen]


def accuracy(
    state: State, split: Split, settings: Settings, *, batch: int = 250
) -> float:
    """Share of the split that the network gets right, with its running statistics."""
    batch = min(batch, len(split))
    variables = {"params": state.params, "batch_stats": state.state}
    images = np.stack([_crop(image, settings.crop, 0, 0) for image in split.images])
    # A last batch of another size would be compiled anew: it overlaps its predecessor.
    starts = [min(i, len(split) - batch) for i in range(0, len(split), batch)]
    predicted = np.empty(len(split), int)
    for start in starts:
        predicted[start : start + batch] = _predict(variables, images[start:][:batch])
    return float(np.mean(predicted == split.labels))


def gradient_arguments(state: State, settings: Settings) -> tuple[Any, ...]:
    """The shapes of the arguments of `loss`, for compiling without running."""
    images = jax.ShapeDtypeStruct(
        (settings.batch, settings.crop, settings.crop, 1), jnp.float32
    )
    labels = jax.ShapeDtypeStruct((settings.batch,), jnp.int32)
    return state.params, state.state, images, labels


def require_size(dataset: Dataset, settings: Settings) -> None:
    """Raises: `ValueError` if the images are too small to be cropped and shifted."""
    height, width = dataset.train.images.shape[1:3]
    least = settings.crop + 2 * settings.shift
    if min(height, width) < least:
        raise ValueError(
            f"{dataset.name} has {height}x{width} images; a crop of {settings.crop} "
            f"shifted by {settings.shift} needs {least}: lower --crop."
        )


@jax.jit
def _predict(variables: Any, images: Array) -> Array:
    network = ResNet18(num_classes=10, small_images=True)
    return jnp.argmax(
        jnp.asarray(network.apply(variables, images, train=False)), axis=-1
    )


@functools.cache
def _update(settings: Settings) -> Callable[..., tuple[Any, Any]]:
    optimiser = _optimiser(settings)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, moments, grads):
        changes, moments = optimiser.update(grads, moments, params)
        return optax.apply_updates(params, changes), moments

    return update


def _optimiser(settings: Settings) -> optax.GradientTransformation:
    return one_cycle_adam(settings.steps, settings.peak_learning_rate)


def _crop(image: np.ndarray, size: int, down: int, right: int) -> np.ndarray:
    top = (image.shape[0] - size) // 2 + down
    left = (image.shape[1] - size) // 2 + right
    return image[top : top + size, left : left + size]
