"""The eight networks that are measured, each with the batches it is measured with."""

import dataclasses
from collections.abc import Callable, Mapping

from bench import problems
from bench.problems import Problem

RELU = "AlexNet VGG16 GoogLeNet ResNet-50 DenseNet-121 U-Net".split()
"""The networks whose floats pass ReLUs: most of them could be stored sparsely."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """`make(batch=...)` gives the problem at the size of the network's paper.

    `batch`: what XLA:CPU compiles it for; `h100_batch`: what an H100 is given. `timed`:
    the options of `make` with which a step takes about a second on two cores.
    """

    make: Callable[..., Problem]
    batch: int
    h100_batch: int
    timed: Mapping[str, int]

    def problem(self, *, h100: bool, batch: int | None = None) -> Problem:
        """At full size, with the batch for the device unless one is given."""
        return self.make(batch=batch or (self.h100_batch if h100 else self.batch))

    def timed_problem(self) -> Problem:
        """At a size that can be run often."""
        return self.make(**self.timed)


def _vgg16(*, batch: int, size: int = 224) -> Problem:
    return problems.vgg16_imagenet(batch=batch, size=size, use_batch_norm=False)


NETWORKS = {
    "AlexNet": Network(
        make=problems.alexnet,
        batch=128,
        h100_batch=512,
        timed={"batch": 16, "size": 224},
    ),
    "VGG16": Network(
        make=_vgg16, batch=16, h100_batch=64, timed={"batch": 4, "size": 96}
    ),
    "GoogLeNet": Network(
        make=problems.googlenet,
        batch=32,
        h100_batch=128,
        timed={"batch": 8, "size": 128},
    ),
    "ResNet-50": Network(
        make=problems.resnet50_imagenet,
        batch=16,
        h100_batch=64,
        timed={"batch": 8, "size": 128},
    ),
    "DenseNet-121": Network(
        make=problems.densenet121,
        batch=16,
        h100_batch=64,
        timed={"batch": 8, "size": 128},
    ),
    "ViT-S/16": Network(
        make=problems.vit_small,
        batch=32,
        h100_batch=128,
        timed={"batch": 2, "size": 224},
    ),
    "GPT-2 small": Network(
        make=problems.gpt_small,
        batch=8,
        h100_batch=32,
        timed={"batch": 2, "time": 128},
    ),
    "U-Net": Network(
        make=problems.unet, batch=4, h100_batch=16, timed={"batch": 1, "size": 188}
    ),
}
