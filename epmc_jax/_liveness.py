"""Which bytes are alive at each step of a computation: an estimate from its text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from epmc_jax import _hlo
from epmc_jax._hlo import Instruction, Module

_NO_READERS = frozenset({"get-tuple-element", "tuple", "bitcast"})
_SAME_ARRAY = frozenset({"bitcast", "optimization-barrier", "while"})


def live_bytes(module: Module, computation: str) -> list[int]:
    """Bytes alive at each step, arguments and constants left out.

    A loop counts with the largest step of its body. XLA may place arrays in each
    other's memory where this count does not see it, and leaves gaps: its own figure
    for the whole is `memory_analysis().temp_size_in_bytes`.
    """
    found = _Lives()
    body = module.computations[computation]
    for step, instruction in enumerate(body):
        found.define(step, instruction)
    changes = [0] * (len(body) + 1)
    for name, born in found.born.items():
        changes[born] += found.nbytes[name]
        changes[min(found.last[name] + 1, len(body))] -= found.nbytes[name]
    totals, alive = [], 0
    for instruction, change in zip(body, changes, strict=False):
        alive += change
        inner = _inside(module, instruction) if instruction.opcode == "while" else 0
        totals.append(alive + inner)
    return totals


def _inside(module: Module, instruction: Instruction) -> int:
    bodies = (live_bytes(module, name) for name in instruction.called)
    return max((max(body, default=0) for body in bodies), default=0)


@dataclasses.dataclass
class _Lives:
    """Arrays by name: the step that makes them, the last that reads them.

    `values`: per instruction the arrays it stands for, nested as its tuples are.
    """

    values: dict[str, Any] = dataclasses.field(default_factory=dict)
    born: dict[str, int] = dataclasses.field(default_factory=dict)
    last: dict[str, int] = dataclasses.field(default_factory=dict)
    nbytes: dict[str, int] = dataclasses.field(default_factory=dict)

    def define(self, step: int, instruction: Instruction) -> None:
        operands = [self.values.get(o, ()) for o in instruction.operands]
        self.values[instruction.name] = self._value(step, instruction, operands)
        if instruction.opcode not in _NO_READERS or instruction.is_root:
            self._read(step, operands)
        if instruction.is_root:
            self._read(step, [self.values[instruction.name]])

    def _value(self, step: int, instruction: Instruction, operands: list[Any]) -> Any:
        opcode = instruction.opcode
        if opcode in ("parameter", "constant"):
            return ()
        if opcode == "tuple":
            return operands
        if opcode == "get-tuple-element":
            tuple_of = operands[0]
            return tuple_of[instruction.index] if isinstance(tuple_of, list) else ()
        if opcode in _SAME_ARRAY:
            return operands[0] if len(operands) == 1 else operands
        if opcode.endswith("-done"):
            return operands[0][1] if isinstance(operands[0], list) else operands[0]
        if opcode.endswith("-start"):
            shapes = list(_hlo.elements(instruction.shape))
            made = self._made(step, instruction.name, shapes[1 if shapes[1:] else 0])
            return [operands, made]
        return self._made(step, instruction.name, instruction.shape)

    def _made(self, step: int, name: str, shape: str) -> Any:
        if shape.startswith("("):
            shapes = enumerate(_hlo.elements(shape))
            return [self._made(step, f"{name}#{i}", s) for i, s in shapes]
        self.born[name] = self.last[name] = step
        self.nbytes[name] = _hlo.nbytes(shape)
        return (name,)

    def _read(self, step: int, values: Sequence[Any]) -> None:
        for name in _names(values):
            self.last[name] = step


def _names(values: Iterable[Any]) -> Iterable[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        else:
            yield from _names(value)
