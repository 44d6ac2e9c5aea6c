"""Rules for single layers: residuals replaced by smaller ones that say the same.

Three patterns need a rule, the minimum cut finds the others: the mask of a ReLU, the
position of a max-pool's maximum, and the mask of a ReLU in front of a max-pool. (What
`rows.py` replaces is a cotangent.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax

from epmc_jax import _jax_compat as compat
from epmc_jax._codec import AbstractCodec
from epmc_jax._partitioning import (
    block_shape,
    on_each_device,
    rows_spec,
    typed_sharding,
)
from epmc_jax.codecs import PoolIndex, max_pool, pool_gradient
from epmc_jax.passes.program import (
    Constant,
    Op,
    Program,
    Value,
    is_float,
    live_ops,
    producers,
)
from epmc_jax.passes.rows import placed_in_rows
from epmc_jax.passes.zeros import is_zero, zero_arrays
from epmc_jax.policy import PoolWindow

ChoosePool = Callable[[Op, PoolWindow], AbstractCodec]


def rewrite(program: Program, choose_pool: ChoosePool) -> Program:
    """Applies all rules. `choose_pool` gives the codec for a pool's index."""
    program = _mask_from_relu_output(program)
    program = _pool_gradient_from_index(program, choose_pool)
    program = _mask_after_pool(program)
    program = _relu_gradients(program)
    program = placed_in_rows(program)
    return _without_dead_ops(program)


def _relu_operand(op: Op, zeros: set[Value]) -> Value | None:
    """`z` where `op` is `max(z, 0)` on floats."""
    if op.name != "max" or not is_float(op.outputs[0]):
        return None
    for z, other in (op.inputs, op.inputs[::-1]):
        if isinstance(z, Value) and is_zero(other, zeros):
            return z
    return None


def _mask_from_relu_output(program: Program) -> Program:
    """`z > 0` becomes `max(z, 0) > 0`.

    The same bits, NaN included, of an array that the next layer reads anyway: the
    encoder takes the mask from it, and no array of booleans is written.
    """
    zeros = zero_arrays(program)
    relu_of: dict[Value, Value] = {}
    forward = []
    for op in program.forward:
        operand = _relu_operand(op, zeros)
        if operand is not None:
            relu_of[operand] = op.outputs[0]
        if op.name == "gt" and op.inputs[0] in relu_of and is_zero(op.inputs[1], zeros):
            op = dataclasses.replace(op, inputs=[relu_of[op.inputs[0]], op.inputs[1]])
        forward.append(op)
    return dataclasses.replace(program, forward=forward)


def pool_window(op: Op) -> PoolWindow:
    """The window of a `reduce_window_max` or `select_and_scatter_add` operation."""
    params = op.params
    return PoolWindow(
        window=tuple(params["window_dimensions"]),
        strides=tuple(params["window_strides"]),
        padding=tuple(tuple(p) for p in params["padding"]),
    )


def _pool_gradient_from_index(program: Program, choose_pool: ChoosePool) -> Program:
    """A max-pool keeps where its maxima are, instead of the array that it searched."""
    gradients: dict[tuple[Value, PoolWindow], Op] = {
        (op.values[-1], pool_window(op)): op
        for op in program.backward
        if op.name == "select_and_scatter_add"
        and str(op.params["select_prim"]) == "ge"
        and op.inputs[1] in set(_forward_values(program))
        and is_float(op.inputs[1])
    }
    indices: dict[Op, Value] = {}
    forward = []
    for op in program.forward:
        if (
            op.name == "reduce_window_max"
            and _is_undilated(op)
            and _pools_within_blocks(op)
        ):
            gradient = gradients.get((op.values[0], pool_window(op)))
            codec = choose_pool(op, pool_window(op)) if gradient else None
            if gradient and isinstance(codec, PoolIndex):
                op = _indexed_pool(op, codec)
                indices[gradient] = op.outputs[1]
        forward.append(op)
    backward = [
        _scatter_by_index(op, indices[op]) if op in indices else op
        for op in program.backward
    ]
    return dataclasses.replace(program, forward=forward, backward=backward)


def _is_undilated(op: Op) -> bool:
    return all(
        d == 1 for d in (*op.params["base_dilation"], *op.params["window_dilation"])
    )


def _forward_values(program: Program) -> list[Value]:
    return [*program.arguments, *(out for op in program.forward for out in op.outputs)]


def _pools_within_blocks(op: Op) -> bool:
    """True where no window reaches over to what another device has."""
    split = typed_sharding(op.values[0].aval)
    if split is None:
        return True
    window = pool_window(op)
    axes = zip(split.spec, window.window, window.strides, window.padding, strict=True)
    return all(
        names is None or (size, stride, padding) == (1, 1, (0, 0))
        for names, size, stride, padding in axes
    )


def _indexed_pool(op: Op, codec: PoolIndex) -> Op:
    (operand,) = op.values
    split = typed_sharding(operand.aval)
    results = split and (split.spec, rows_spec(split))

    def call(x):
        return list(on_each_device(lambda x: max_pool(codec, x), (x,), split, results))

    _, rows = compat.result_avals(call, operand.aval)
    return dataclasses.replace(
        op,
        name="max_pool",
        outputs=[*op.outputs, Value(rows)],
        params={"codec": codec, "operand": operand.aval},
        call=call,
    )


def _scatter_by_index(op: Op, rows: Value) -> Op:
    ct, operand = op.values
    window = pool_window(op)
    codec = PoolIndex(
        window=window.window, strides=window.strides, padding=window.padding
    )
    split = typed_sharding(operand.aval)
    block = block_shape(split, operand.shape)

    def call(*operands):
        scatter = lambda rows, ct: pool_gradient(codec, rows, ct, block)  # noqa: E731
        return [on_each_device(scatter, operands, split, split and split.spec)]

    return dataclasses.replace(
        op,
        name="pool_gradient",
        inputs=[rows, ct],
        params={"codec": codec, "operand_shape": operand.shape},
        call=call,
    )


def _mask_after_pool(program: Program) -> Program:
    """The mask of a ReLU in front of a max-pool, taken at the pool's output.

    The gradient reaches only the positions of the maxima, and there the ReLU let
    pass what the pool gave on: one bit per pooled element is enough.
    """
    relu_outputs = _masked_by(program)
    pools = {op.outputs[1]: op for op in program.forward if op.name == "max_pool"}
    readers: dict[Value, list[Op]] = {}
    for op in program.backward:
        for value in op.values:
            readers.setdefault(value, []).append(op)

    masks: dict[Value, Op] = {}
    replaced: dict[Op, list[Op]] = {}
    for op in program.backward:
        if op.name != "pool_gradient" or op.outputs[0] in program.gradients:
            continue
        pool, (ct,) = pools[op.values[0]], op.values[1:]
        mask_readers = readers.get(op.outputs[0], [])
        if [relu_outputs.get(r) for r in mask_readers] != [pool.inputs[0]]:
            continue
        (select,) = mask_readers
        pooled = pool.outputs[0]
        mask = masks.setdefault(pooled, _positive(pooled, op))
        masked = _relu_gradient(mask.outputs[0], ct, select)
        masked.outputs = [Value(ct.aval)]
        inputs: list[Value | Constant] = [op.values[0], masked.outputs[0]]
        scatter = dataclasses.replace(op, inputs=inputs, outputs=select.outputs)
        replaced[op], replaced[select] = [masked, scatter], []
    backward = [new for op in program.backward for new in replaced.get(op, [op])]
    forward = []
    for op in program.forward:
        forward.append(op)
        forward += [masks[out] for out in op.outputs if out in masks]
    return dataclasses.replace(program, forward=forward, backward=backward)


def _masked_by(program: Program) -> dict[Op, Value | Constant]:
    """For each `select_n(y > 0, zeros, ct)` of the backward pass, its `y`."""
    zeros = zero_arrays(program)
    made_by = producers(program.forward)
    found = {}
    for op in program.backward:
        if op.name != "select_n" or len(op.inputs) != 3:
            continue
        maker = made_by.get(op.values[0])
        is_masked = maker is not None and maker.name == "gt"
        if is_masked and maker and is_zero(op.inputs[1], zeros):
            y, threshold = maker.inputs
            if is_zero(threshold, zeros):
                found[op] = y
    return found


def _positive(value: Value, like: Op) -> Op:
    return Op(
        name="gt",
        inputs=[value, Constant(np.zeros((), value.dtype))],
        outputs=[Value(compat.aval_like(value.aval, np.bool_))],
        params={},
        call=lambda x, zero: [x > zero],
        path=like.path,
        made_for=like,
    )


def _relu_gradients(program: Program) -> Program:
    """`select_n(mask, zeros, ct)` as one operation, which can read the mask's bits."""
    zeros = zero_arrays(program)
    forward = set(_forward_values(program))
    backward = []
    for op in program.backward:
        mask = op.inputs[0] if op.name == "select_n" else None
        if (
            mask in forward
            and mask.shape == op.outputs[0].shape
            and len(op.inputs) == 3
            and is_zero(op.inputs[1], zeros)
        ):
            op = _relu_gradient(mask, op.inputs[2], op)
        backward.append(op)
    return dataclasses.replace(program, backward=backward)


def _relu_gradient(mask: Value, ct: Value | Constant, like: Op) -> Op:
    return dataclasses.replace(
        like,
        name="relu_gradient",
        inputs=[mask, ct],
        call=lambda mask, ct: [lax.select(mask, ct, jnp.zeros_like(ct))],
    )


def _without_dead_ops(program: Program) -> Program:
    backward = live_ops(program.backward, program.gradients)
    read = [v for op in backward for v in op.values]
    forward = live_ops(program.forward, [*program.outputs, *program.gradients, *read])
    return dataclasses.replace(program, forward=forward, backward=backward)
