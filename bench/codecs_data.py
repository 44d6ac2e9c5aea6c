"""What `python -m bench codecs` encodes: a trained network's activations."""

import dataclasses
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from bench import data
from bench.data import Split
from bench.nets.plain_cnn import PlainCnn

DENSE = "dense"
HALF = "half"
FIFTH = "fifth"
LABELS = "labels"
KINDS = {
    DENSE: "before ReLU",
    HALF: "ReLU, density 0.5",
    FIFTH: "ReLU, density 0.2",
    LABELS: "labels, int32",
}
DENSITIES = {HALF: 0.5, FIFTH: 0.2}
# The second convolution of the second stage: at 12x12 it sees 14x14 of 24x24 pixels, so
# that hardly any place sees background alone, and the net's second max-pool follows.
LAYER = 3
IMAGE_SHAPE = (12, 12, 64)
CROP, STEPS, BATCH, LEARNING_RATE = 24, 100, 64, 1e-3
NUM_LABELS = 10


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Arrays to encode, all of about `nbytes` bytes, by their kind.

    `before_relu` is float32[images, 12, 12, 64]. The arrays after ReLU are
    `relu(z - t)`, where `t` is the quantile of all `z` that leaves the density wanted:
    what a bias does, one and the same tensor for every density.
    """

    before_relu: np.ndarray
    labels: np.ndarray
    nbytes: int

    def make(self, kind: str, dtype: Any) -> np.ndarray:
        """The array of a kind, C-ordered; `LABELS` are int32 whatever the `dtype`."""
        if kind == LABELS:
            return np.resize(self.labels.astype(np.int32), self.nbytes // 4)
        dtype = jnp.dtype(dtype)
        image_nbytes = math.prod(self.before_relu.shape[1:]) * dtype.itemsize
        x = self.before_relu[: max(1, self.nbytes // image_nbytes)]
        if kind in DENSITIES:
            threshold = np.quantile(x, 1 - DENSITIES[kind])
            x = np.maximum(x - threshold.astype(np.float32), 0)
        return np.ascontiguousarray(x.astype(dtype))

    def save(self, path: pathlib.Path) -> None:
        """Writes what `load` reads."""
        np.savez(path, before_relu=self.before_relu, labels=self.labels)


def load(path: pathlib.Path, nbytes: int) -> Tensors:
    """The arrays that `Tensors.save` wrote, for encoding `nbytes` bytes at a time."""
    with np.load(path) as arrays:
        return Tensors(arrays["before_relu"], arrays["labels"], nbytes)


def trained(nbytes: int) -> Tensors:
    """Trains the network on MNIST 5k, and keeps enough for `nbytes` bytes of bfloat16.

    A small network without BatchNorm, 100 steps of Adam: about a quarter of a minute.
    """
    split = data.mnist_5k().train
    margin = (split.images.shape[1] - CROP) // 2
    images = split.images[:, margin:-margin, margin:-margin]
    model = PlainCnn(num_classes=NUM_LABELS, rngs=nnx.Rngs(0))
    graph, params = nnx.split(model)
    params = _train(graph, params, Split(images, split.labels))
    count = min(len(images), nbytes // (2 * math.prod(IMAGE_SHAPE)) + 1)
    # Shuffled: the images are sorted by their label.
    chosen = np.random.default_rng(1).permutation(len(images))[:count]
    parts = [
        np.asarray(_before_relu(graph, params, images[chosen[at : at + 256]]))
        for at in range(0, count, 256)
    ]
    return Tensors(np.concatenate(parts), split.labels, nbytes)


def _train(graph: Any, params: Any, split: Split) -> Any:
    optimiser = optax.adam(LEARNING_RATE)

    def loss(params, images, labels):
        logits = nnx.merge(graph, params)(images)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return jnp.mean(entropy)

    @jax.jit
    def step(params, state, images, labels):
        updates, state = optimiser.update(jax.grad(loss)(params, images, labels), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for chosen in _batches(len(split)):
        batch = split.images[chosen], split.labels[chosen]
        params, state = step(params, state, *batch)
    return params


def _batches(count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        yield rng.choice(count, BATCH, replace=False)


@functools.partial(jax.jit, static_argnums=0)
def _before_relu(graph: Any, params: Any, images: Any) -> Any:
    found = []

    def note(x):
        found.append(x)
        return x

    nnx.merge(graph, params)(images, before_relu=note)
    return found[LAYER]
