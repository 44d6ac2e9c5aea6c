"""The ways to run one training step that the benchmarks compare."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import jax

import epmc_jax
from bench import unoptimised

Loss = Callable[..., Any]
"""`loss(params, state, *batch) -> (scalar, new_state)`."""


@dataclasses.dataclass(frozen=True)
class Method:
    """`wrap` changes the loss; `remat_blocks` asks for a network that checkpoints."""

    name: str
    wrap: Callable[[Loss], Loss] = lambda loss: loss
    remat_blocks: bool = False


def _compressed(name: str, policy: epmc_jax.Policy) -> Method:
    return Method(name, lambda loss: epmc_jax.compress(loss, policy=policy))


def _is_matmul(primitive, *_, **__) -> bool:
    return primitive.name in ("dot_general", "conv_general_dilated")


PLAIN = Method("plain")
EXACT = _compressed("exact", epmc_jax.policies.exact())
PRECISE = _compressed("precise", epmc_jax.policies.precise())
BALANCED = _compressed("balanced", epmc_jax.policies.balanced())
CHECKPOINT = Method("jax.checkpoint", remat_blocks=True)
CHECKPOINT_MATMULS = Method(
    "jax.checkpoint, matmuls saved",
    lambda loss: jax.checkpoint(loss, policy=_is_matmul),
)
UNOPTIMISED = Method("unoptimised", unoptimised.encode_all)

POLICIES = (EXACT, PRECISE, BALANCED)
DEMO = (PLAIN, *POLICIES, CHECKPOINT)
ALL = (*DEMO, CHECKPOINT_MATMULS)


def select(names: Iterable[str] | None, methods: tuple[Method, ...]) -> list[Method]:
    """The methods of these names, always with `plain`, which the others refer to.

    Raises: `ValueError` for a name that is not among `methods`.
    """
    if names is None:
        return list(methods)
    wanted = {PLAIN.name, *names}
    known = [method.name for method in methods]
    if unknown := wanted.difference(known):
        raise ValueError(
            f"no method {', '.join(sorted(unknown))}; there are: {', '.join(known)}."
        )
    return [method for method in methods if method.name in wanted]
