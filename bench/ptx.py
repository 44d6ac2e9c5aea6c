"""Runs PTX, the assembly that nvcc makes of a kernel, and counts the memory it touches.

All threads of a launch are one NumPy vector. Those at the lowest program counter run
first, so they meet again behind a branch, as they do on a GPU. Only the instructions
that the kernels of this project need are here; another one raises `PtxError`. What is
counted are sectors, the 32 bytes that GPU memory is read and written in: once per
instruction of a warp, so nothing is assumed of caches. Times are not modelled.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bench.ptx_code import UNSIGNED, Instruction, Kernel, PtxError

WARP = 32
SECTOR_BYTES = 32
# Above the offset in an allocation, an address holds the allocation's number.
_OFFSET_BITS = 40
_SPECIAL = {"%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x"}


@dataclasses.dataclass
class Counts:
    """What a launch did."""

    instructions: int = 0  # of all threads
    load_sectors: int = 0
    store_sectors: int = 0


def _dtype(kind: str) -> Any:
    """The NumPy type of a PTX type: s32, u8, b64, f32, pred."""
    if kind == "pred":
        return np.bool_
    letter = {"s": "i", "u": "u", "b": "u", "f": "f"}[kind[0]]
    return np.dtype(f"{letter}{int(kind[1:]) // 8}").type


def _shift_left(x: Any, count: Any) -> Any:
    width = x.dtype.itemsize * 8
    moved = x << np.minimum(count, width - 1).astype(x.dtype)
    return np.where(count < width, moved, 0).astype(x.dtype)


def _shift_right(x: Any, count: Any) -> Any:
    width = x.dtype.itemsize * 8
    moved = x >> np.minimum(count, width - 1).astype(x.dtype)
    if x.dtype.kind == "i":
        return moved
    return np.where(count < width, moved, 0).astype(x.dtype)


def _divide(x: Any, y: Any) -> Any:
    # Of numbers that are not negative, as sizes are; PTX rounds towards zero.
    return x // np.where(y == 0, 1, y)


def _remainder(x: Any, y: Any) -> Any:
    return x % np.where(y == 0, 1, y)


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "div": _divide,
    "rem": _remainder,
}
_UNARY: dict[str, Callable[[Any], Any]] = {
    "mov": lambda x: x,
    "cvta": lambda x: x,
    "neg": np.negative,
    "not": np.invert,
    "popc": np.bitwise_count,
}
_SHIFTS = {"shl": _shift_left, "shr": _shift_right}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    # True of NaN too: the u is for unordered.
    "ltu": lambda x, y: ~(x >= y),
    "gtu": lambda x, y: ~(x <= y),
    "num": lambda x, y: (x == x) & (y == y),  # neither is NaN
    "neu": lambda x, y: x != y,
}


class Launch:
    """Runs `kernel` over `blocks` blocks; `counts` says what that took.

    `arguments` has an integer for each scalar parameter, an array for each pointer
    (written in place), the bytes of each struct.
    """

    def __init__(
        self, kernel: Kernel, blocks: int, threads: int, arguments: Sequence[Any]
    ):
        self.kernel, self.counts = kernel, Counts()
        count = blocks * threads
        self._count, self._threads = count, threads
        index = np.arange(count, dtype=np.uint32)
        self._block, self._warp = index // threads, index // WARP
        self._special = {
            "%tid.x": index % np.uint32(threads),
            "%ctaid.x": self._block,
            "%ntid.x": np.full(count, threads, np.uint32),
            "%nctaid.x": np.full(count, blocks, np.uint32),
        }
        self._registers = {
            name: np.zeros(count, dtype) for name, dtype in kernel.registers.items()
        }
        self._memory = [np.zeros(blocks * kernel.shared_nbytes, np.uint8)]
        self._parameters = {
            name: self._parameter(argument)
            for name, argument in zip(kernel.parameters, arguments, strict=True)
        }
        with np.errstate(all="ignore"):
            self._run()

    def _parameter(self, argument: Any) -> bytes:
        if isinstance(argument, np.ndarray):
            self._memory.append(argument.reshape(-1).view(np.uint8))
            argument = (len(self._memory) - 1) << _OFFSET_BITS
        if isinstance(argument, bytes):
            return argument
        return int(argument).to_bytes(8, "little")

    def _run(self) -> None:
        at = np.zeros(self._count, np.int64)
        end = len(self.kernel.code)
        waits = np.zeros(self._count, np.bool_)
        while True:
            can_run = (at < end) & ~waits
            if not can_run.any():
                if not waits.any():
                    return
                self._check_barrier(at, waits, end)
                waits[:] = False
                continue
            position = int(np.min(at[can_run]))
            active = can_run & (at == position)
            instruction = self.kernel.code[position]
            at[active] = position + 1
            enabled = active & self._predicate(instruction)
            self.counts.instructions += int(enabled.sum())
            if instruction.name[0] == "bra":
                at[enabled] = self.kernel.labels[instruction.operands[0]]
            elif instruction.name[0] == "ret":
                at[enabled] = end
            elif instruction.name[0] == "bar":
                waits |= enabled
            elif enabled.any():
                self._execute(instruction, enabled)

    def _check_barrier(self, at: Any, waits: Any, end: int) -> None:
        is_alive = at < end
        if (is_alive & ~waits).any() or len(np.unique(at[is_alive])) > 1:
            raise PtxError("a barrier is not reached by all threads of a block")

    def _predicate(self, instruction: Instruction) -> Any:
        if not instruction.predicate:
            return True
        return self._registers[instruction.predicate] ^ instruction.is_negated

    def _execute(self, instruction: Instruction, enabled: Any) -> None:
        name, operands = instruction.name, instruction.operands
        if name[0] in ("ld", "st"):
            return self._access(instruction, enabled)
        if name[0] in ("shfl", "redux", "vote"):
            return self._exchange(instruction, enabled)
        if operands[0].startswith("{"):
            return self._split(name, operands, enabled)
        result = self._compute(name, operands)
        if result is None:
            raise PtxError(f"not implemented: {'.'.join(name)} {operands}")
        return self._write(operands[0], result, enabled)

    def _compute(self, name: tuple[str, ...], operands: tuple[str, ...]) -> Any:
        """The result of an instruction without memory or other threads."""
        op, dtype = name[0], _dtype(name[-1])
        if op == "cvt":
            return self._convert(name, operands)
        if op == "selp":
            choice = self._read(operands[3], np.bool_)
            yes, no = (self._read(x, dtype) for x in operands[1:3])
            return np.where(choice, yes, no)
        if op == "mov" and operands[1].startswith("{"):
            return self._join(dtype, operands[1])
        if op in _UNARY:
            return _UNARY[op](self._read(operands[1], dtype))
        if op in _SHIFTS:
            count = self._read(operands[2], np.uint32)
            return _SHIFTS[op](self._read(operands[1], dtype), count)
        if op == "setp":
            left, right = (self._read(x, dtype) for x in operands[1:3])
            return _COMPARE[name[1]](left, right)
        if op in ("mul", "mad") and name[1] == "wide":
            wide = np.dtype(
                f"{np.dtype(dtype).kind}{np.dtype(dtype).itemsize * 2}"
            ).type
            left, right = (self._read(x, dtype).astype(wide) for x in operands[1:3])
            return left * right + (self._read(operands[3], wide) if op == "mad" else 0)
        if op == "mad":
            left, right, more = (self._read(x, dtype) for x in operands[1:])
            return left * right + more
        if op in _BINARY:
            return _BINARY[op](*(self._read(x, dtype) for x in operands[1:3]))
        return self._rearrange(op, operands)

    def _join(self, dtype: Any, parts: str) -> Any:
        """One register of the parts' bits, the first lowest."""
        names = [x.strip() for x in parts.strip("{}").split(",")]
        part = UNSIGNED[np.dtype(dtype).itemsize // len(names)]
        values = [np.broadcast_to(self._read(x, part), self._count) for x in names]
        return np.ascontiguousarray(np.stack(values, axis=1)).view(dtype)[:, 0]

    def _split(
        self, name: tuple[str, ...], operands: tuple[str, ...], enabled: Any
    ) -> None:
        names = [x.strip() for x in operands[0].strip("{}").split(",")]
        dtype = _dtype(name[-1])
        part = UNSIGNED[np.dtype(dtype).itemsize // len(names)]
        whole = np.broadcast_to(self._read(operands[1], dtype), self._count)
        parts = np.ascontiguousarray(whole).view(part).reshape(self._count, -1)
        for k, register in enumerate(names):
            if register != "_":
                self._write(register, parts[:, k], enabled)

    def _rearrange(self, op: str, operands: tuple[str, ...]) -> Any:
        """Funnel shift, bit field insert, byte permutation: all of 32 bits."""
        values = [self._read(x, np.uint32).astype(np.uint64) for x in operands[1:]]
        mask = np.uint64(0xFFFFFFFF)
        if op == "shf":  # .l.wrap
            low, high, count = values
            both = high << np.uint64(32) | low
            moved = both << (count & np.uint64(31))
            return (moved >> np.uint64(32)).astype(np.uint32)
        if op == "bfi":
            source, base, start, length = values
            field = (np.uint64(1) << length) - np.uint64(1)
            field = field << start & mask
            return (source << start & field | base & ~field).astype(np.uint32)
        if op == "prmt":
            low, high, selector = values
            both = high << np.uint64(32) | low
            result = np.zeros(self._count, np.uint64)
            for i in range(4):
                byte = selector >> np.uint64(4 * i) & np.uint64(7)
                value = both >> (byte * np.uint64(8)) & np.uint64(255)
                result |= value << np.uint64(8 * i)
            return result.astype(np.uint32)
        return None

    def _convert(self, name: tuple[str, ...], operands: tuple[str, ...]) -> Any:
        to, source = _dtype(name[-2]), _dtype(name[-1])
        value = self._read(operands[1], source)
        if source is np.float32 and np.dtype(to).kind in "iu":
            limits = np.iinfo(to)  # a GPU saturates, and makes 0 of NaN
            whole = np.nan_to_num(np.trunc(value.astype(np.float64)), nan=0.0)
            return np.clip(whole, limits.min, limits.max).astype(to)
        return value.astype(to)

    def _exchange(self, instruction: Instruction, enabled: Any) -> None:
        name, operands = instruction.name, instruction.operands
        if not enabled.reshape(-1, WARP).all(1)[self._warp[enabled]].all():
            raise PtxError(f"not all lanes of a warp are at {'.'.join(name)}")
        is_vote = name[0] == "vote"
        dtype = np.bool_ if is_vote else _dtype(name[-1])
        values = np.broadcast_to(self._read(operands[1], dtype), self._count)
        lanes = values.reshape(-1, WARP)
        if is_vote:
            ballot = lanes @ (np.uint64(1) << np.arange(WARP, dtype=np.uint64))
            result = np.repeat(ballot.astype(np.uint32), WARP)
        elif name[0] == "redux":
            reduce = {"min": np.min, "max": np.max}[name[2]]
            result = np.repeat(reduce(lanes, axis=1), WARP)
        else:
            other = self._read(operands[2], np.uint32)
            own = np.arange(self._count) % WARP
            source = other if name[2] == "idx" else own ^ other
            result = values[self._warp * WARP + source % WARP]
        self._write(operands[0].partition("|")[0], result, enabled)

    def _access(self, instruction: Instruction, enabled: Any) -> None:
        name, operands = instruction.name, instruction.operands
        is_load = name[0] == "ld"
        registers, place = operands if is_load else operands[::-1]
        names = [x.strip() for x in registers.strip("{}").split(",")]
        dtype = np.dtype(_dtype(name[-1]))
        found = re.match(r"\[([^\]+]+)(?:\+(-?\d+))?\]", place)
        if found is None:
            raise PtxError(f"not an address: {place}")
        base, offset = found[1], int(found[2] or 0)
        if name[1] == "param":
            data = self._parameters[base][offset : offset + dtype.itemsize]
            return self._write(names[0], np.frombuffer(data, dtype), enabled)
        nbytes = dtype.itemsize * len(names)
        space = "shared" if name[1] == "shared" else "global"
        memory, start = self._locate(space, base, offset, nbytes, enabled)
        if space == "global":
            self._count_sectors(is_load, start, enabled)
        elements = memory[: memory.size // dtype.itemsize * dtype.itemsize].view(dtype)
        for k, register in enumerate(names):
            index = start // dtype.itemsize + k
            if is_load:
                value = np.zeros(self._count, dtype)
                value[enabled] = elements[index]
                self._write(register, value, enabled)
            else:
                value = np.broadcast_to(self._read(register, dtype.type), self._count)
                elements[index] = value[enabled]
        return None

    def _locate(
        self, space: str, base: str, offset: int, nbytes: int, enabled: Any
    ) -> tuple[Any, Any]:
        """The allocation, and where each enabled thread accesses it."""
        if base in self.kernel.shared:
            address = np.full(self._count, self.kernel.shared[base], np.int64)
        elif space == "shared":
            address = self._read(base, np.uint32).astype(np.int64)
        else:
            address = self._read(base, np.int64)
        address = address[enabled] + offset
        number = 0 if space == "shared" else int(address[0]) >> _OFFSET_BITS
        memory, start = self._memory[number], address - (number << _OFFSET_BITS)
        limit = self.kernel.shared_nbytes if space == "shared" else memory.size
        if (start < 0).any() or (start + nbytes > limit).any():
            raise PtxError(f"{space} access out of bounds")
        if (start % nbytes).any():
            raise PtxError(f"misaligned {space} access of {nbytes} bytes")
        if space == "shared":
            start = start + self._block[enabled].astype(np.int64) * limit
        return memory, start

    def _count_sectors(self, is_load: bool, start: Any, enabled: Any) -> None:
        # An access is aligned and at most 16 bytes: it is never in two sectors.
        warp = self._warp[enabled].astype(np.int64)
        sectors = len(np.unique(warp << _OFFSET_BITS | start // SECTOR_BYTES))
        if is_load:
            self.counts.load_sectors += sectors
        else:
            self.counts.store_sectors += sectors

    def _read(self, operand: str, dtype: Any) -> Any:
        if operand in self._registers or operand in _SPECIAL:
            special = self._special.get(operand)
            value = self._registers[operand] if special is None else special
            size = np.dtype(dtype).itemsize
            if dtype is np.bool_ or value.dtype.itemsize == size:
                return value.view(dtype)
            return value.astype(UNSIGNED[size]).view(dtype)
        if operand in self.kernel.shared:
            return np.array([self.kernel.shared[operand]]).astype(dtype)
        if operand.startswith("0f"):
            return np.array([int(operand[2:], 16)], np.uint32).view(np.float32)
        if dtype is np.bool_:
            return np.array([int(operand) != 0])
        size = np.dtype(dtype).itemsize
        number = int(operand.rstrip("U"), 0) & ((1 << 8 * size) - 1)
        return np.array([number], np.uint64).astype(UNSIGNED[size]).view(dtype)

    def _write(self, register: str, value: Any, enabled: Any) -> None:
        target = self._registers[register]
        value = np.broadcast_to(value, self._count)
        if target.dtype != np.bool_:
            size = target.dtype.itemsize
            if value.dtype.kind == "f":
                value = np.ascontiguousarray(value).view(np.uint32)
            elif value.dtype.kind == "i":
                value = value.astype(f"i{size}")
            value = value.astype(target.dtype)
        np.copyto(target, value, where=enabled)
