"""What an operation needs of a machine, and an encode: an estimate from shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from epmc_jax import _jax_compat as compat
from epmc_jax._codec import AbstractCodec
from epmc_jax.machines import Cost, kernel_instructions
from epmc_jax.passes.program import Op, itemsize

# Loops and calls whose bodies are what takes time.
_BODIES = ("jaxpr", "call_jaxpr", "body_jaxpr")


def op_cost(op: Op) -> Cost:
    """Of an operation of a program; of a loop, of all its iterations."""
    avals = [x.aval if hasattr(x, "aval") else x.array for x in op.inputs]
    return _cost(op.name, op.params, avals, [v.aval for v in op.outputs])


def encode_cost(codec: AbstractCodec, shape: Sequence[int], dtype: Any) -> Cost:
    """Of one array of `shape`: it is read, and its encoded bytes are written."""
    elements = math.prod(shape)
    kernel = codec.encode_kernel(dtype)
    instructions = kernel_instructions(kernel.target, elements) if kernel else 0
    encoded = codec.encoded_nbytes(tuple(shape), dtype)
    return Cost(nbytes=elements * itemsize(dtype) + encoded, instructions=instructions)


def _cost(
    name: str, params: Any, inputs: Sequence[Any], outputs: Sequence[Any]
) -> Cost:
    body = next((params[key] for key in _BODIES if key in params), None)
    if body is not None:
        return _body_cost(body).times(params.get("length", 1))
    made = math.prod(outputs[0].shape) if outputs else 0
    flops = 0.0
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        flops = 2 * made * math.prod(inputs[0].shape[axis] for axis in contracted)
    elif name == "conv_general_dilated":
        kernel = inputs[1].shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]
        flops = 2 * made * math.prod(kernel) / features
    return Cost(
        nbytes=sum(map(_nbytes, [*inputs, *outputs])),
        flops=flops,
        dtype=str(inputs[0].dtype) if flops else "float32",
    )


def _body_cost(body: Any) -> Cost:
    """Products and moves of a body; what is elementwise is fused with these."""
    total = Cost()
    for eqn in compat.equations(body):
        inputs = [v.aval for v in eqn.invars]
        cost = _cost(
            eqn.primitive.name, eqn.params, inputs, [v.aval for v in eqn.outvars]
        )
        if cost.flops:
            total += cost
    return total


def _nbytes(x: Any) -> int:
    return math.prod(x.shape) * itemsize(x.dtype) if hasattr(x, "dtype") else 0
