"""Reads PTX, the assembly that nvcc makes of a kernel: `parse` gives its kernels."""

import dataclasses
import re
from typing import Any

import numpy as np

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class PtxError(RuntimeError):
    """A kernel does what it must not, or what is not implemented here."""


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`@predicate name operands`, the name split at its dots."""

    predicate: str
    is_negated: bool
    name: tuple[str, ...]
    operands: tuple[str, ...]


@dataclasses.dataclass
class Kernel:
    """One `.entry` of a PTX file."""

    name: str
    parameters: list[str]
    code: list[Instruction] = dataclasses.field(default_factory=list)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    registers: dict[str, Any] = dataclasses.field(default_factory=dict)
    shared: dict[str, int] = dataclasses.field(default_factory=dict)
    shared_nbytes: int = 0


def parse(text: str) -> list[Kernel]:
    """The kernels of a PTX file."""
    text = re.sub(r"//[^\n]*", "", text)
    entry = r"\.entry (\w+)\((.*?)\)\s*(?:\.\w+[^\n{]*\s*)*\{(.*?)\n\}"
    kernels = [
        _parse_kernel(*match.groups()) for match in re.finditer(entry, text, re.S)
    ]
    shared = r"\.shared \.align \d+ \.b8 (\w+)\[(\d+)\]"
    for name, nbytes in re.findall(shared, text):
        for kernel in kernels:
            if any(name in one.operands for one in kernel.code):
                kernel.shared[name] = kernel.shared_nbytes
                kernel.shared_nbytes += -(-int(nbytes) // 16) * 16
    return kernels


def _parse_kernel(name: str, parameters: str, body: str) -> Kernel:
    kernel = Kernel(name, re.findall(r"(\w+)(?:\[\d+\])?\s*(?:,|$)", parameters))
    for line in re.split(r";|\n", body):
        statement = line.strip()
        if label := re.match(r"(\$?\w+):$", statement):
            kernel.labels[label[1]] = len(kernel.code)
        elif statement.startswith(".reg"):
            _declare_registers(kernel, statement)
        elif statement and statement[0] not in ".{}":
            kernel.code.append(_parse_instruction(statement))
    return kernel


def _declare_registers(kernel: Kernel, statement: str) -> None:
    _, kind, names = statement.split(None, 2)
    dtype = np.bool_ if kind == ".pred" else UNSIGNED[int(kind[2:]) // 8]
    for name in names.split(","):
        numbered = re.match(r"(\S+)<(\d+)>", name.strip())
        if numbered:
            many = [f"{numbered[1]}{i}" for i in range(int(numbered[2]))]
        else:
            many = [name.strip()]
        kernel.registers.update(dict.fromkeys(many, dtype))


def _parse_instruction(statement: str) -> Instruction:
    parts = re.match(r"(?:@(!?)(%\w+)\s+)?([\w.:]+)\s*(.*)$", statement, re.S)
    if parts is None:
        raise PtxError(f"not understood: {statement}")
    negation, predicate, name, rest = parts.groups()
    operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*", rest)
    return Instruction(
        predicate or "",
        negation == "!",
        tuple(name.split(".")),
        tuple(operand.strip() for operand in operands),
    )
