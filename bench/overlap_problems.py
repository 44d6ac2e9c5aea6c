"""The networks of `python -m bench overlap`, as they are trained: in bfloat16."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bench import problems
from bench.methods import Method
from bench.problems import Problem

_WITH_DTYPE = (nnx.BatchNorm, nnx.Conv, nnx.Embed, nnx.LayerNorm, nnx.Linear)


@dataclasses.dataclass(frozen=True)
class MixedProblem(Problem):
    """Parameters are float32, layers compute in bfloat16, the loss in float32."""

    def rebuild(self, params: Any, state: Any, method: Method) -> Any:
        model = super().rebuild(_halved(params), state, method)
        for _, node in nnx.iter_graph(model):
            # Else it is that of the parameters or statistics when they were made.
            if isinstance(node, _WITH_DTYPE):
                node.dtype = jnp.bfloat16
        return model


def mixed(problem: Problem) -> MixedProblem:
    """`problem` with layers that compute in bfloat16."""

    def objective(model: Callable[..., Any], inputs: Any, *targets: Any) -> jax.Array:
        def to_float32(x: Any) -> jax.Array:
            return model(x).astype(jnp.float32)

        return problem.objective(to_float32, _halved(inputs), *targets)

    return MixedProblem(
        f"{problem.name}, bfloat16", problem.make, objective, problem.make_batch
    )


def _halved(tree: Any) -> Any:
    def halve(x: jax.Array) -> jax.Array:
        return x.astype(jnp.bfloat16) if x.dtype == jnp.float32 else x

    return jax.tree.map(halve, tree)


IN_FLOAT32: Mapping[str, Callable[[], Problem]] = {
    "resnet50": lambda: problems.resnet50_imagenet(batch=64),
    "vgg16": lambda: problems.vgg16_imagenet(batch=32),
    "gpt": lambda: problems.gpt_small(),
    "gpt-scanned": lambda: problems.gpt_small(is_scanned=True),
    "vit": lambda: problems.vit_small(batch=64),
}
# Batches that keep an H100 busy: twice those above, or more.
IN_BFLOAT16: Mapping[str, Callable[[], Problem]] = {
    "resnet50": lambda: mixed(problems.resnet50_imagenet(batch=256)),
    "vgg16": lambda: mixed(problems.vgg16_imagenet(batch=64)),
    "gpt": lambda: mixed(problems.gpt_small(batch=16, time=1024)),
    "gpt-scanned": lambda: mixed(
        problems.gpt_small(batch=16, time=1024, is_scanned=True)
    ),
    "vit": lambda: mixed(problems.vit_small(batch=256)),
}
