"""What `jax.export` has to be told about the native calls of this package."""

from __future__ import annotations

from jax import export

from epmc_jax import _kernels


def export_checks() -> list[export.DisabledSafetyCheck]:
    """The `disabled_checks=` of `jax.export.export` for compressed functions.

    `jax.export` refuses calls whose bytes it does not know to be stable; the formats of
    the codecs are. The native kernels are registered too: call this once in the
    process that loads an exported function, before the function is called.
    """
    targets = _kernels.register_kernels()
    return [export.DisabledSafetyCheck.custom_call(target) for target in targets]
