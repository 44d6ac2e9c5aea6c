"""The networks of `python -m bench overlap`, as they are trained: in bfloat16."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from bench import problems
from bench.problems import Problem

BFLOAT16 = jnp.bfloat16

IN_FLOAT32: Mapping[str, Callable[[], Problem]] = {
    "resnet50": lambda: problems.resnet50_imagenet(batch=64),
    "vgg16": lambda: problems.vgg16_imagenet(batch=32),
    "gpt": lambda: problems.gpt_small(),
    "gpt-scanned": lambda: problems.gpt_small(is_scanned=True),
    "vit": lambda: problems.vit_small(batch=64),
}
# Batches that keep an H100 busy: twice those above, or more.
IN_BFLOAT16: Mapping[str, Callable[[], Problem]] = {
    "resnet50": lambda: problems.resnet50_imagenet(batch=256).in_dtype(BFLOAT16),
    "vgg16": lambda: problems.vgg16_imagenet(batch=64).in_dtype(BFLOAT16),
    "gpt": lambda: problems.gpt_small(batch=16, time=1024).in_dtype(BFLOAT16),
    "gpt-scanned": lambda: problems.gpt_small(
        batch=16, time=1024, is_scanned=True
    ).in_dtype(BFLOAT16),
    "vit": lambda: problems.vit_small(batch=256).in_dtype(BFLOAT16),
}
