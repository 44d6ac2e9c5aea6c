"""`plan`: what a compressed function will store, without running it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from epmc_jax import report
from epmc_jax.codecs import Raw
from epmc_jax.machines import Machine
from epmc_jax.passes.hiding import Hiding, hiding
from epmc_jax.passes.regions import PlannedRegion
from epmc_jax.passes.stored import Stored
from epmc_jax.policy import Policy, check_policy
from epmc_jax.transform import (
    compress_function,
    is_compressed,
    watch_regions,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One stored residual.

    `site`: module path. `kind`: see `Residual`. `producer`: primitive. `codec`: with
    its parameters. `dense_bytes`, `encoded_bytes`: before and after. `why`: the reason.

    Where the plan has a machine, an estimate for one step: `hidden_us` and `exposed_us`
    of the encode, microseconds that the step does not feel and that it does; `beside`:
    the layer that hides most of it.
    """

    site: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    producer: str
    codec: str
    dense_bytes: int
    encoded_bytes: int
    why: str
    beside: str | None = None
    hidden_us: float | None = None
    exposed_us: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The residuals that a function stores for its gradient; `print` shows a table.

    `regions`: compressed functions in it. `plain_bytes`: what JAX alone would keep,
    arguments not counted. `notes`: what could not be entered, and why. `machine`: that
    the times of the rows are estimated for; None if there are none.
    """

    rows: tuple[PlanRow, ...]
    regions: int
    plain_bytes: int
    notes: tuple[str, ...] = ()
    machine: Machine | None = None

    @property
    def dense_bytes(self) -> int:
        """Bytes of the stored residuals if they were kept as arrays."""
        return sum(row.dense_bytes for row in self.rows)

    @property
    def stored_bytes(self) -> int:
        """Bytes of the stored residuals, encoded."""
        return sum(row.encoded_bytes for row in self.rows)

    @property
    def ratio(self) -> float:
        """`dense_bytes / stored_bytes`, above 1 is better."""
        return self.dense_bytes / max(1, self.stored_bytes)

    def __str__(self) -> str:
        return report.table(self)

    def to_json(self) -> str:
        """The plan as a JSON object: `rows`, and the sums in bytes."""
        return report.to_json(self)

    def plot(self, path: str | None = None) -> Any:
        """Draws the bytes of each residual before and after; returns the figure."""
        return report.plot(self, path)


def plan(
    fun: Callable[..., Any],
    *args: Any,
    policy: Policy | None = None,
    machine: Machine | None = None,
) -> Plan:
    """What the gradient of `fun(*args)` with respect to `args[0]` stores. Runs nothing.

    `fun` returns a scalar, or a tuple that begins with one. If `fun` is compressed, or
    calls compressed functions and modules, these are shown with their own policies;
    otherwise `fun` is planned as a whole, as by `compress(fun, policy=policy)`.
    `args`: arrays or `jax.ShapeDtypeStruct`. `machine`: of `epmc_jax.machines`; the
    plan then says behind which layer each encode hides there, an estimate.

    Raises: `ValueError` if `policy` is given for a function that has one already, or
    if `args[0]` holds no floats; `TypeError` if `policy` is not one.
    """
    check_policy(policy)
    _check_differentiable(args)
    if not is_compressed(fun):
        found = _regions(fun, args)
        if found and policy is None:
            return _plan(found, machine)
        fun = compress_function(fun, policy=policy)
    elif policy is not None:
        raise ValueError(
            "policy= is given, but the function is compressed already: its own policy "
            "holds. Plan the function that was compressed, or leave policy= out."
        )
    return _plan(_regions(fun, args), machine)


def _check_differentiable(args: tuple[Any, ...]) -> None:
    shapes = jax.eval_shape(lambda first: first, args[:1])
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(shapes)]
    if not any(jax.dtypes.issubdtype(dtype, np.inexact) for dtype in dtypes):
        found = ", ".join(sorted({str(dtype) for dtype in dtypes})) or "no array"
        raise ValueError(
            f"plan differentiates with respect to its first argument after the "
            f"function, which holds {found}: give the parameters, as floats, first."
        )


def _regions(fun: Callable[..., Any], args: tuple[Any, ...]) -> list[PlannedRegion]:
    found: list[PlannedRegion] = []

    def scalar(*args):
        out = fun(*args)
        return jax.tree.leaves(out)[0]

    def pull_back(*args):
        return jax.vjp(lambda first: scalar(first, *args[1:]), args[0])[1]

    with watch_regions(found.append):
        jax.eval_shape(lambda *a: jax.tree.leaves(pull_back(*a)), *args)
    # jax's caches keep the context, and so the list, but need not keep the regions.
    regions = list(found)
    found.clear()
    return regions


def _plan(regions: list[PlannedRegion], machine: Machine | None) -> Plan:
    notes = (note for r in regions for note in _notes(r))
    return Plan(
        rows=tuple(row for r in regions for row in _rows(r, machine)),
        regions=len(regions),
        plain_bytes=sum(r.plain_bytes for r in regions),
        notes=tuple(dict.fromkeys(notes)),
        machine=machine,
    )


def _rows(region: PlannedRegion, machine: Machine | None) -> list[PlanRow]:
    if region.gains:
        found = hiding(region.selection, machine) if machine else {}
        return [_row(stored, found.get(stored)) for stored in region.selection.stored]
    return [_row_as_written(region)] if region.plain_bytes else []


def _notes(region: PlannedRegion) -> list[str]:
    if region.gains:
        return region.selection.notes
    stored = sum(s.encoded_bytes for s in region.selection.stored)
    return [
        f"nothing to gain, the function runs as written: JAX alone keeps "
        f"{region.plain_bytes} bytes, the plan would store {stored}"
    ]


def _row_as_written(region: PlannedRegion) -> PlanRow:
    """One row for all that JAX keeps of a region that runs as written."""
    return PlanRow(
        site="all",
        kind="dense",
        shape=(region.plain_bytes,),
        dtype="uint8",
        producer="jax.vjp",
        codec="Raw",
        dense_bytes=region.plain_bytes,
        encoded_bytes=region.plain_bytes,
        why="nothing to gain: the function runs as written",
    )


def _row(stored: Stored, hides: Hiding | None) -> PlanRow:
    residual = stored.residual
    return PlanRow(
        site=residual.path,
        kind=residual.kind,
        shape=tuple(residual.shape),
        dtype=_short_dtype(residual.dtype),
        producer=residual.primitive,
        codec=_codec_name(stored),
        dense_bytes=stored.dense_bytes,
        encoded_bytes=stored.encoded_bytes,
        why=stored.reason,
        beside=hides.beside if hides else None,
        hidden_us=1e6 * hides.hidden_s if hides else None,
        exposed_us=1e6 * hides.exposed_s if hides else None,
    )


def _short_dtype(dtype: Any) -> str:
    return (
        np.dtype(dtype).name
        if not jax.dtypes.issubdtype(dtype, jax.dtypes.extended)
        else "key"
    )


def _codec_name(stored: Stored) -> str:
    codec = stored.nested.codec if stored.nested else stored.codec
    if isinstance(codec, Raw):
        return "PoolIndex" if stored.residual.kind == "pool_index" else "Raw"
    bits = getattr(codec, "bit_width", None)
    return type(codec).__name__ + (f"({bits})" if bits else "")
