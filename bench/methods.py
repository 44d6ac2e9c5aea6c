"""The ways to run one training step that the benchmarks compare."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax

import epmc_jax
from bench import unoptimised
from bench.without_kernels import JnpGroupQuant
from epmc_jax.codecs import GroupQuant

Loss = Callable[..., Any]
"""`loss(params, state, *batch) -> (scalar, new_state)`."""


@dataclasses.dataclass(frozen=True)
class Method:
    """`wrap` changes the loss; `remat_blocks` asks for a network that checkpoints each
    block, `remat_cheap` for one that checkpoints each norm and each gelu alone."""

    name: str
    wrap: Callable[[Loss], Loss] = lambda loss: loss
    remat_blocks: bool = False
    remat_cheap: bool = False


def compressed(name: str, policy: epmc_jax.Policy) -> Method:
    """The gradient under `policy`."""
    return Method(name, lambda loss: epmc_jax.compress(loss, policy=policy))


def changed(policy: epmc_jax.Policy, **options: Any) -> epmc_jax.Policy:
    """The same policy but for `options`: other `rules`, another `lag`."""
    fields = {f.name: getattr(policy, f.name) for f in dataclasses.fields(policy)}
    fields |= options
    return epmc_jax.Policy(*fields.pop("rules"), **fields)


def with_floats(
    policy: epmc_jax.Policy, kind: type[GroupQuant] = GroupQuant, **options: Any
) -> epmc_jax.Policy:
    """The same policy with its `GroupQuant` replaced by a `kind` of it that has the
    same parameters but for `options`."""

    def rule(rule: epmc_jax.Rule) -> epmc_jax.Rule:
        if not isinstance(rule.codec, GroupQuant):
            return rule
        codec = kind(**(dataclasses.asdict(rule.codec) | options))
        return dataclasses.replace(rule, codec=codec)

    return changed(policy, rules=map(rule, policy.rules))


def quantised(bit_width: int) -> Method:
    """`balanced` with another number of bits for floats."""
    policy = with_floats(epmc_jax.policies.balanced(), bit_width=bit_width)
    return compressed(f"{bit_width} bits", policy)


def _is_matmul(primitive, *_, **__) -> bool:
    return primitive.name in ("dot_general", "conv_general_dilated")


def _offloads_matmuls(primitive, *args: Any, **params: Any) -> Any:
    # JAX gives the mark of an offloaded value only by a policy that knows no
    # convolutions: it is asked about a product of vectors.
    dots = jax.checkpoint_policies.offload_dot_with_no_batch_dims(
        "device", "pinned_host"
    )
    if not _is_matmul(primitive):
        return dots(primitive, *args, **params)
    return dots(jax.lax.dot_general_p, dimension_numbers=(((), ()), ((), ())))


PLAIN = Method("plain")
EXACT = compressed("exact", epmc_jax.policies.exact())
PRECISE = compressed("precise", epmc_jax.policies.precise())
BALANCED = compressed("balanced", epmc_jax.policies.balanced())
CHECKPOINT = Method("jax.checkpoint", remat_blocks=True)
CHECKPOINT_WHOLE = Method("jax.checkpoint, whole", jax.checkpoint)
CHECKPOINT_MATMULS = Method(
    "jax.checkpoint, matmuls saved",
    lambda loss: jax.checkpoint(loss, policy=_is_matmul),
)
CHECKPOINT_CHEAP = Method("jax.checkpoint, norms and gelus", remat_cheap=True)
OFFLOAD = Method(
    "jax.checkpoint, matmuls to host",
    lambda loss: jax.checkpoint(loss, policy=_offloads_matmuls),
)
JNP_8_BITS = compressed(
    "8 bits in jnp", with_floats(epmc_jax.policies.precise(), JnpGroupQuant)
)
JNP_4_BITS = compressed(
    "4 bits in jnp", with_floats(epmc_jax.policies.balanced(), JnpGroupQuant)
)
UNOPTIMISED = Method("unoptimised", unoptimised.encode_all)
UNOPTIMISED_JNP = Method(
    "unoptimised, in jnp", functools.partial(unoptimised.encode_all, has_kernels=False)
)

POLICIES = (EXACT, PRECISE, BALANCED)
DEMO = (PLAIN, *POLICIES, CHECKPOINT)
IN_JNP = (JNP_8_BITS, JNP_4_BITS)
RIVALS = (
    CHECKPOINT,
    CHECKPOINT_WHOLE,
    CHECKPOINT_MATMULS,
    CHECKPOINT_CHEAP,
    OFFLOAD,
    *IN_JNP,
)
ALL = (PLAIN, *POLICIES, *RIVALS)


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
