"""Runs PTX, the assembly that nvcc makes of a kernel, and counts the memory it touches.

All threads of a launch are one NumPy vector. Those at the lowest program counter run
first, so they meet again behind a branch, as they do on a GPU. Only the instructions
that the kernels of this project need are here; another one raises `PtxError`. What is
counted are sectors, the 32 bytes that GPU memory is read and written in: once per
instruction of a warp, so nothing is assumed of caches. Times are not modelled.
"""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.ptx_arithmetic import (
    BINARY,
    COMPARE,
    REARRANGE,
    SHIFTS,
    UNARY,
    dtype_of,
    flushed,
    multiply_high,
)
from bench.ptx_code import UNSIGNED, Instruction, Kernel, PtxError

WARP = 32
SECTOR_BYTES = 32
# Above the offset in an allocation, an address holds the allocation's number.
_OFFSET_BITS = 40
_POISON = 0xCB  # fills shared memory that nothing wrote
_ALL_LANES = 0xFFFFFFFF
_REDUCE = {"min": np.min, "max": np.max, "add": np.sum}
_SPECIAL = {"%tid.x", "%ctaid.x", "%ntid.x", "%nctaid.x"}


@dataclasses.dataclass
class Counts:
    """What a launch did."""

    instructions: int = 0  # of all threads
    load_sectors: int = 0
    store_sectors: int = 0


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
        self._memory = [np.full(blocks * kernel.shared_nbytes, _POISON, np.uint8)]
        self._writers = [np.zeros(0, np.int32)]
        self._parameters = {
            name: self._parameter(argument)
            for name, argument in zip(kernel.parameters, arguments, strict=True)
        }
        with np.errstate(all="ignore"):
            self._run()

    def _parameter(self, argument: Any) -> bytes:
        if isinstance(argument, np.ndarray):
            self._memory.append(argument.reshape(-1).view(np.uint8))
            self._writers.append(np.full(argument.nbytes, -1, np.int32))
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
            elif instruction.name[:2] == ("bar", "warp"):
                self._check_warps(instruction, enabled)
            elif instruction.name[0] in ("bar", "barrier"):
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
        op, dtype = name[0], dtype_of(name[-1])
        if op == "cvt":
            return self._convert(name, operands)
        if op == "selp":
            choice = self._read(operands[3], np.bool_)
            yes, no = (self._read(x, dtype) for x in operands[1:3])
            return np.where(choice, yes, no)
        if op == "mov" and operands[1].startswith("{"):
            return self._join(dtype, operands[1])
        if op == "mul" and name[1] == "hi" and np.dtype(dtype).itemsize == 4:
            return multiply_high(*(self._read(x, dtype) for x in operands[1:3]))
        if "hi" in name:
            return None
        if op in UNARY:
            return UNARY[op](self._read(operands[1], dtype))
        if op in SHIFTS:
            count = self._read(operands[2], np.uint32)
            return SHIFTS[op](self._read(operands[1], dtype), count)
        if op == "setp":
            left, right = (self._read(x, dtype) for x in operands[1:3])
            return COMPARE[name[1]](left, right)
        if op in ("mul", "mad") and name[1] == "wide":
            wide = np.dtype(
                f"{np.dtype(dtype).kind}{np.dtype(dtype).itemsize * 2}"
            ).type
            left, right = (self._read(x, dtype).astype(wide) for x in operands[1:3])
            return left * right + (self._read(operands[3], wide) if op == "mad" else 0)
        if op == "mad":
            left, right, more = (self._read(x, dtype) for x in operands[1:])
            return left * right + more
        if op in BINARY:
            left, right = (self._read(x, dtype) for x in operands[1:3])
            if "ftz" in name:
                return flushed(BINARY[op](flushed(left), flushed(right)))
            return BINARY[op](left, right)
        rearrange = REARRANGE.get((op, name[1]))
        if rearrange is None:
            return None
        values = [self._read(x, np.uint32).astype(np.uint64) for x in operands[1:]]
        return rearrange(*values).astype(np.uint32)

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
        dtype = dtype_of(name[-1])
        part = UNSIGNED[np.dtype(dtype).itemsize // len(names)]
        whole = np.broadcast_to(self._read(operands[1], dtype), self._count)
        parts = np.ascontiguousarray(whole).view(part).reshape(self._count, -1)
        for k, register in enumerate(names):
            if register != "_":
                self._write(register, parts[:, k], enabled)

    def _convert(self, name: tuple[str, ...], operands: tuple[str, ...]) -> Any:
        to, source = dtype_of(name[-2]), dtype_of(name[-1])
        value = self._read(operands[1], source)
        if source is np.float32 and np.dtype(to).kind in "iu":
            limits = np.iinfo(to)  # a GPU saturates, and makes 0 of NaN
            whole = np.nan_to_num(np.trunc(value.astype(np.float64)), nan=0.0)
            return np.clip(whole, limits.min, limits.max).astype(to)
        return value.astype(to)

    def _check_warps(self, instruction: Instruction, enabled: Any) -> None:
        """All lanes of a warp, and a mask that names all: nothing else is done here."""
        name = ".".join(instruction.name)
        if not enabled.reshape(-1, WARP).all(1)[self._warp[enabled]].all():
            raise PtxError(f"not all lanes of a warp are at {name}")
        masks = self._read(instruction.operands[-1], np.uint32)
        masks = np.broadcast_to(masks, self._count)[enabled]
        if (masks != _ALL_LANES).any():
            raise PtxError(f"{name} has mask 0x{masks.min():08x}, not all lanes")

    def _exchange(self, instruction: Instruction, enabled: Any) -> None:
        name, operands = instruction.name, instruction.operands
        self._check_warps(instruction, enabled)
        register, _, predicate = operands[0].partition("|")
        if name[0] == "vote":
            return self._vote(register, instruction, enabled)
        dtype = dtype_of(name[-1])
        values = np.broadcast_to(self._read(operands[1], dtype), self._count)
        if name[0] == "redux":
            reduce: Any = _REDUCE[name[2]]
            result = np.repeat(reduce(values.reshape(-1, WARP), axis=1), WARP)
            return self._write(register, result.astype(dtype), enabled)
        source, is_inside = self._source_lane(name[2], operands, enabled)
        result = values[self._warp * WARP + source]
        if predicate:
            self._write(predicate, is_inside, enabled)
        return self._write(register, result, enabled)

    def _source_lane(
        self, kind: str, operands: tuple[str, ...], enabled: Any
    ) -> tuple[Any, Any]:
        """Where a shuffle reads, and whether that is a lane: if not, its own."""
        bounds = np.broadcast_to(self._read(operands[3], np.uint32), self._count)
        if (bounds[enabled] != (0 if kind == "up" else WARP - 1)).any():
            raise PtxError(f"not implemented: shfl of less than {WARP} lanes")
        own = np.arange(self._count) % WARP
        other = self._read(operands[2], np.uint32).astype(np.int64)
        lane = {
            "idx": other % WARP,
            "bfly": own ^ other,
            "up": own - other,
            "down": own + other,
        }[kind]
        lane = np.broadcast_to(lane, self._count)
        is_inside = (lane >= 0) & (lane < WARP)
        return np.where(is_inside, lane, own), is_inside

    def _vote(self, register: str, instruction: Instruction, enabled: Any) -> None:
        operand = instruction.operands[1]
        votes = self._read(operand.removeprefix("!"), np.bool_)
        votes = np.broadcast_to(votes, self._count) ^ operand.startswith("!")
        lanes = votes.reshape(-1, WARP)
        words: Any
        if instruction.name[2] == "ballot":
            words = np.packbits(lanes, axis=1, bitorder="little").view(np.uint32)[:, 0]
        else:
            words = lanes.any(1) if instruction.name[2] == "any" else lanes.all(1)
        self._write(register, np.repeat(words, WARP), enabled)

    def _access(self, instruction: Instruction, enabled: Any) -> None:
        name, operands = instruction.name, instruction.operands
        is_load = name[0] == "ld"
        registers, place = operands if is_load else operands[::-1]
        names = [x.strip() for x in registers.strip("{}").split(",")]
        dtype = np.dtype(dtype_of(name[-1]))
        found = re.match(r"\[([^\]+]+)(?:\+(-?\d+))?\]", place)
        if found is None:
            raise PtxError(f"not an address: {place}")
        base, offset = found[1], int(found[2] or 0)
        if name[1] == "param":
            data = self._parameters[base][offset:]
            for k, value in enumerate(np.frombuffer(data, dtype, len(names))):
                self._write(names[k], value, enabled)
            return None
        nbytes = dtype.itemsize * len(names)
        space = "shared" if name[1] == "shared" else "global"
        number, start = self._locate(space, base, offset, nbytes, enabled)
        if space == "global":
            self._count_sectors(is_load, start, enabled)
        if space == "global" and not is_load:
            self._check_writers(number, start, nbytes, enabled)
        memory = self._memory[number]
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
    ) -> tuple[int, Any]:
        """The number of the allocation, and where each enabled thread accesses it."""
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
        return number, start

    def _check_writers(
        self, number: int, start: Any, nbytes: int, enabled: Any
    ) -> None:
        """No byte may be written by two blocks: which comes last is open."""
        writers, block = self._writers[number], self._block[enabled].astype(np.int32)
        for place in range(nbytes):
            before = writers[start + place]
            writers[start + place] = block
            is_other = (before >= 0) & (before != block)
            if is_other.any() or (writers[start + place] != block).any():
                raise PtxError("two blocks write the same byte")

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
