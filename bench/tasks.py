"""What `bench train` trains: small networks on real data, an hour in all methods."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bench import data, problems
from bench.methods import PLAIN
from bench.nets.gpt import Gpt
from bench.nets.resnet import BasicBlock, ResNet
from bench.nets.vgg import VGG16
from bench.problems import Batch, Problem

# Of Fashion-MNIST's 60,000: all tasks in all methods are to take about an hour.
TRAIN_IMAGES = 6_000
IMAGE_BATCH = 100
TEXT_BATCH = 32
CONTEXT = 64
TEXT_STEPS = 40
"""Steps that are called an epoch of the text; it is sampled, not read through."""
_VGG_STAGES = ((8, 1), (16, 1), (32, 2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A network, its data, and what it is judged by.

    `epoch(seed, index)` yields the batches of one epoch, `evaluate(params, state)` is
    the `metric` on the test split: "accuracy" in percent, or "loss" in nats.
    """

    name: str
    problem: Problem
    metric: str
    peak_learning_rate: float
    steps_per_epoch: int
    epoch: Callable[[int, int], Iterator[Batch]]
    evaluate: Callable[[Any, Any], float]


def resnet() -> Task:
    """A ResNet of three stages with one block each, on images."""
    make = functools.partial(
        ResNet,
        BasicBlock,
        (1, 1, 1),
        num_classes=10,
        channels=1,
        width=8,
        small_images=True,
    )
    return _image_task("ResNet", make, peak_learning_rate=3e-3)


def vgg_with_norm() -> Task:
    """A VGG of four convolutions with BatchNorm, on images."""
    return _image_task("VGG-BN", _vgg(use_batch_norm=True), peak_learning_rate=2e-3)


def vgg() -> Task:
    """The same without BatchNorm."""
    return _image_task("VGG", _vgg(use_batch_norm=False), peak_learning_rate=1e-3)


def gpt() -> Task:
    """A GPT of two blocks that predicts the next character."""
    text = data.king_james()
    make = functools.partial(
        Gpt,
        depth=2,
        width=128,
        heads=4,
        vocabulary=len(text.characters),
        context=CONTEXT,
    )
    name = f"GPT on the {text.name}"
    problem = problems.next_token(
        name, make, batch=TEXT_BATCH, time=CONTEXT, vocabulary=len(text.characters)
    )

    def epoch(seed: int, index: int) -> Iterator[Batch]:
        rng = np.random.default_rng((seed, index))
        for _ in range(TEXT_STEPS):
            yield _windows(text.train, rng, TEXT_BATCH)

    def evaluate(params: Any, state: Any) -> float:
        rng = np.random.default_rng(0)
        losses = [
            _value(problem, params, state, *_windows(text.test, rng, TEXT_BATCH))
            for _ in range(40)
        ]
        return float(np.mean(losses))

    return Task(
        name=name,
        problem=problem,
        metric="loss",
        peak_learning_rate=3e-3,
        steps_per_epoch=TEXT_STEPS,
        epoch=epoch,
        evaluate=evaluate,
    )


TASKS = {"resnet": resnet, "vgg-bn": vgg_with_norm, "vgg": vgg, "gpt": gpt}


def _vgg(*, use_batch_norm: bool) -> Callable[..., nnx.Module]:
    return functools.partial(
        VGG16,
        image_size=28,
        num_classes=10,
        channels=1,
        hidden=128,
        stages=_VGG_STAGES,
        use_batch_norm=use_batch_norm,
    )


@functools.cache
def _images() -> data.Dataset:
    """Fashion-MNIST, or MNIST 5k where it is not installed."""
    try:
        return data.fashion_mnist()
    except data.DataError:
        return data.mnist_5k()


def _image_task(
    network: str, make: Callable[..., nnx.Module], *, peak_learning_rate: float
) -> Task:
    dataset = _images()
    name = f"{network} on {dataset.name}"
    size = dataset.train.images.shape[1]
    problem = problems.small_images(name, make, batch=IMAGE_BATCH, size=size)
    count = min(TRAIN_IMAGES, len(dataset.train))

    def epoch(seed: int, index: int) -> Iterator[Batch]:
        order = np.random.default_rng((seed, index)).permutation(count)
        for chosen in np.split(order, count // IMAGE_BATCH):
            yield dataset.train.images[chosen], dataset.train.labels[chosen]

    return Task(
        name=name,
        problem=problem,
        metric="accuracy",
        peak_learning_rate=peak_learning_rate,
        steps_per_epoch=count // IMAGE_BATCH,
        epoch=epoch,
        evaluate=functools.partial(_accuracy, problem, dataset.test),
    )


def _accuracy(problem: Problem, split: data.Split, params: Any, state: Any) -> float:
    """Percent of the split that the network gets right, with running statistics."""
    right = 0
    for start in range(0, len(split), 500):
        images, labels = split.images[start:][:500], split.labels[start:][:500]
        right += int(np.sum(_predict(problem, params, state, images) == labels))
    return 100 * right / len(split)


@functools.partial(jax.jit, static_argnums=0)
def _predict(problem: Problem, params: Any, state: Any, images: jax.Array) -> jax.Array:
    model = problem.rebuild(params, state, PLAIN)
    model.eval()
    return jnp.argmax(model(images), axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _value(problem: Problem, params: Any, state: Any, *batch: jax.Array) -> jax.Array:
    model = problem.rebuild(params, state, PLAIN)
    return problem.objective(model, *batch)


def _windows(codes: np.ndarray, rng: np.random.Generator, count: int) -> Batch:
    starts = rng.integers(0, len(codes) - CONTEXT - 1, count)
    taken = codes[starts[:, None] + np.arange(CONTEXT + 1)].astype(np.int32)
    return taken[:, :-1], taken[:, 1:]
