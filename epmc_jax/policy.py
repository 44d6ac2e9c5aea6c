"""Policies: which residuals are stored, and by which codec."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, Literal

from epmc_jax._codec import AbstractCodec
from epmc_jax.codecs import BitMask, IntPack, PoolIndex, Raw

Kind = Literal["mask", "index", "pool_index", "relu", "dense", "statistic"]
KINDS = ("mask", "index", "pool_index", "relu", "dense", "statistic")


@dataclasses.dataclass(frozen=True)
class PoolWindow:
    """Window, strides and padding of a max-pool, as `jax.lax.reduce_window` has
    them."""

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Residual:
    """What a policy knows of one value that the backward pass needs.

    `kind`: `"mask"` (booleans), `"index"` (integers), `"pool_index"` (choices of a
    max-pool), `"relu"` (float, not negative, many zeros), `"statistic"` (sums and means
    over many elements), `"dense"` (every other array).
    `path`: named scopes of the module, or the line of code. `name`: its
    `jax.ad_checkpoint.checkpoint_name`, if it has one. `num_values`: integers are in
    `0 ... num_values - 1`, where the trace shows it. `is_saved_input`: an argument
    of the function that the caller asked to encode.
    """

    kind: Kind
    path: str
    primitive: str
    shape: tuple[int, ...]
    dtype: Any
    name: str | None = None
    num_values: int | None = None
    pool: PoolWindow | None = None
    is_saved_input: bool = False


CodecChoice = AbstractCodec | Callable[[Residual], AbstractCodec | None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """Stores the residuals that match by `codec`.

    `kind`: see `Residual`. `path`: regular expression, found anywhere in the path.
    `name`: a `checkpoint_name` tag. What is None matches everything. `codec`: a codec,
    or a function from `Residual` to a codec (None: the next rule decides). A rule is
    passed over for residuals that its codec cannot hold: a float codec for a mask, say.
    """

    codec: CodecChoice
    kind: Kind | None = None
    path: str | None = None
    name: str | None = None

    def __post_init__(self):
        if self.kind is not None and self.kind not in KINDS:
            raise ValueError(
                f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}."
            )
        if self.path is not None:
            try:
                re.compile(self.path)
            except re.error as error:
                raise ValueError(
                    f"path must be a regular expression, got {self.path!r} ({error}): "
                    "escape special characters with a backslash."
                ) from error
        if not isinstance(self.codec, AbstractCodec) and not callable(self.codec):
            raise TypeError(
                f"codec must be a codec or a function from Residual to a codec, got "
                f"{self.codec!r}: for example epmc_jax.codecs.GroupQuant(bit_width=8)."
            )

    def choose(self, residual: Residual) -> AbstractCodec | None:
        """The codec for `residual`, or None where this rule does not apply."""
        if self.kind is not None and self.kind != residual.kind:
            return None
        if self.path is not None and not re.search(self.path, residual.path):
            return None
        if self.name is not None and self.name != residual.name:
            return None
        choice = self.codec
        codec = choice if isinstance(choice, AbstractCodec) else choice(residual)
        return codec if codec is not None and _holds(codec, residual) else None


def _holds(codec: AbstractCodec, residual: Residual) -> bool:
    """True where `codec` gives back what it was given, or the choice that it is for."""
    if not codec.accepts(residual.dtype):
        return False
    if residual.kind == "pool_index":
        return isinstance(codec, PoolIndex)
    return codec.decoded_dtype(residual.dtype) == residual.dtype


Recompute = Literal["cheap", "none"] | Callable[..., Any]


@dataclasses.dataclass(frozen=True, init=False)
class Policy:
    """Rules, and what is recomputed instead of stored.

    The first rule that matches a residual gives its codec; without one it is stored
    as it is. `recompute`: `"cheap"` recomputes elementwise operations and moves of data
    where that saves bytes; `"none"` stores every residual that JAX would; any
    `jax.checkpoint` policy: what it marks saveable is stored, encoded by the rules,
    and the rest is recomputed. `min_bytes`: smaller arrays are stored as they are.
    `seed`: for stochastic rounding.

    `lag`: on NVIDIA GPUs, how many layers an encode may end after its own, so that it
    runs beside these; an array of each waits for it. 0: an encode ends before the next
    layer starts. `prefetch`: decodes run beside the layers too, started `lag` layers
    before their use; without it XLA computes them inside their consumers, which
    costs no array. Elsewhere both change nothing.

    `ways`: in how many parts XLA may split arrays along an axis behind the first, over
    axes of a mesh that are `AxisType.Auto` (4 for 4-way tensor parallelism). Arrays are
    then encoded in shorter rows, where they are. What a `with_sharding_constraint` in
    the function says need not be said here; `AxisType.Explicit` axes never.

    Raises: `ValueError`, `TypeError` for values that are none of these.
    """

    rules: tuple[Rule, ...]
    recompute: Recompute
    min_bytes: int
    seed: int
    lag: int
    prefetch: bool
    ways: int

    def __init__(
        self,
        *rules: Rule,
        recompute: Recompute = "cheap",
        min_bytes: int = 4096,
        seed: int = 0,
        lag: int = 1,
        prefetch: bool = False,
        ways: int = 1,
    ):
        for rule in rules:
            if not isinstance(rule, Rule):
                raise TypeError(
                    f"Policy takes rules, got {rule!r}: write Rule(codec=...)."
                )
        if not callable(recompute) and recompute not in ("cheap", "none"):
            raise ValueError(
                f'recompute must be "cheap", "none" or a jax.checkpoint policy, got '
                f"{recompute!r}."
            )
        if min_bytes < 0:
            raise ValueError(
                f"min_bytes must be at least 0, got {min_bytes}: 0 encodes arrays of "
                "any size."
            )
        if lag < 0:
            raise ValueError(
                f"lag must be at least 0, got {lag}: 0 encodes between the layers, 1 "
                "beside the next one."
            )
        if prefetch and lag == 0:
            raise ValueError(
                "prefetch=True needs a lag of at least 1, got 0: decodes start lag "
                "layers before their use."
            )
        if ways < 1:
            raise ValueError(
                f"ways must be at least 1, got {ways}: 1 is for arrays that are split "
                "along their first axis alone."
            )
        object.__setattr__(self, "rules", tuple(rules))
        object.__setattr__(self, "recompute", recompute)
        object.__setattr__(self, "min_bytes", min_bytes)
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "lag", lag)
        object.__setattr__(self, "prefetch", prefetch)
        object.__setattr__(self, "ways", ways)

    def codec_for(self, residual: Residual) -> AbstractCodec:
        """The codec that the first matching rule gives; `Raw()` if none does."""
        for rule in self.rules:
            codec = rule.choose(residual)
            if codec is not None:
                return codec
        return Raw()


def check_policy(policy: Any) -> None:
    """Raises `TypeError` for what is neither a policy nor None."""
    if policy is not None and not isinstance(policy, Policy):
        raise TypeError(
            f"policy must be a Policy, got {policy!r}: for example "
            "epmc_jax.policies.balanced()."
        )


def pack_mask(residual: Residual) -> AbstractCodec | None:
    """One bit per boolean."""
    return BitMask() if residual.kind == "mask" else None


def pack_index(residual: Residual) -> AbstractCodec | None:
    """As many bits as the largest index needs; None where that is not known."""
    if residual.kind == "pool_index" and residual.pool is not None:
        pool = residual.pool
        return PoolIndex(window=pool.window, strides=pool.strides, padding=pool.padding)
    if residual.num_values is None:
        return None
    return IntPack(num_values=residual.num_values)
