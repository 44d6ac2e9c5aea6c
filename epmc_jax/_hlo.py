"""Reads the text of a compiled program: instructions in the order of their launch."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

_ITEMSIZES = {"pred": 1, "token": 0, "opaque": 0, "s4": 1, "u4": 1}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")
_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) .*-> .*\{$")
_RESULT = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_CALLED = re.compile(
    r"(?:to_apply|calls|body|condition|(?:true|false)_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: `name = shape opcode(operands), attributes`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    attributes: str
    is_root: bool

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that it runs."""
        branches = _BRANCHES.search(self.attributes)
        names = re.findall(r"[\w.\-]+", branches.group(1)) if branches else ()
        return *_CALLED.findall(self.attributes), *names

    @property
    def iterations(self) -> int:
        """How often a `while` runs its body; 1 where the program does not tell."""
        found = re.search(r'known_trip_count":\{"n":"(\d+)"', self.attributes)
        return int(found.group(1)) if found else 1

    @property
    def stream(self) -> str:
        """The CUDA stream that a call is to run on; empty for that of the layers."""
        found = re.search(r'_xla_stream_annotation="(\d+)"', self.attributes)
        return found.group(1) if found else ""

    @property
    def index(self) -> int:
        """Which element a `get-tuple-element` takes."""
        found = re.search(r"index=(\d+)", self.attributes)
        return int(found.group(1)) if found else 0

    @property
    def target(self) -> str:
        """The name under which a custom call is registered; empty for others."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found.group(1) if found else ""


@dataclasses.dataclass(frozen=True)
class Module:
    """The computations of a program by name; `entry` is the name of the first."""

    computations: dict[str, list[Instruction]]
    entry: str


def parse(text: str) -> Module:
    """Raises: `ValueError` if `text` is not a program in the order of its launch."""
    if "is_scheduled=true" not in text.partition("\n")[0]:
        raise ValueError(
            "this is no compiled program: its first line does not say "
            "is_scheduled=true. Give jax.jit(fun).lower(...).compile(), or its text."
        )
    computations: dict[str, list[Instruction]] = {}
    entry, body = "", None
    for line in text.splitlines():
        if header := _HEADER.match(line):
            body = computations[header.group(2)] = []
            entry = header.group(2) if header.group(1) else entry
        elif body is not None and (result := _RESULT.match(line)):
            body.append(_instruction(line, result))
    return Module(computations, entry)


def _instruction(line: str, result: re.Match[str]) -> Instruction:
    start = result.end()
    end = _closing(line, start) if line[start] == "(" else line.index(" ", start)
    opened = line.index("(", end)
    closed = _closing(line, opened)
    return Instruction(
        name=result.group(2),
        shape=line[start:end],
        opcode=line[end + 1 : opened],
        operands=tuple(re.findall(r"%([\w.\-]+)", line[opened:closed])),
        attributes=line[closed:],
        is_root=bool(result.group(1)),
    )


def _closing(line: str, start: int) -> int:
    """The place behind the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(line)):
        depth += (line[place] == "(") - (line[place] == ")")
        if depth == 0:
            return place + 1
    raise ValueError(
        f"a parenthesis is never closed: {line[start : start + 80]!r}. Lines were cut "
        "off: give the whole text of the program."
    )


def nbytes(shape: str) -> int:
    """Bytes of all arrays in `shape`, as the program writes it."""
    return sum(
        _itemsize(dtype) * math.prod(int(n) for n in sizes.split(",") if n)
        for dtype, sizes in _ARRAY.findall(shape)
    )


def _itemsize(dtype: str) -> int:
    if dtype in _ITEMSIZES:
        return _ITEMSIZES[dtype]
    bits = re.search(r"\d+", dtype)
    return int(bits.group()) // 8 if bits else 0


def elements(shape: str) -> Iterator[str]:
    """The shapes that a tuple has; of an array, itself."""
    if not shape.startswith("("):
        yield shape
        return
    depth, start = 0, 1
    for place in range(1, len(shape)):
        depth += (shape[place] in "({[") - (shape[place] in ")}]")
        if depth < 0 or (depth == 0 and shape[place] == ","):
            yield shape[start:place].strip()
            start = place + 1
