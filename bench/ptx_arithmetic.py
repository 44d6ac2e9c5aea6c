"""What single PTX instructions compute: integers, floats, bits; no memory, no lanes."""

from collections.abc import Callable
from typing import Any

import numpy as np


def dtype_of(kind: str) -> Any:
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


def multiply_high(x: Any, y: Any) -> Any:
    """The upper 32 bits of a product of 32-bit integers."""
    wide = np.int64 if x.dtype.kind == "i" else np.uint64
    return (x.astype(wide) * y.astype(wide) >> wide(32)).astype(x.dtype)


def flushed(x: Any) -> Any:
    """Floats, those below the smallest normal number as zero of their sign."""
    is_subnormal = np.abs(x) < np.finfo(x.dtype).tiny
    return np.where(is_subnormal, np.copysign(x.dtype.type(0), x), x)


def _bits_of(x: Any) -> Any:
    """bool[threads, width], the lowest bit first."""
    return np.unpackbits(
        np.ascontiguousarray(np.atleast_1d(x)).view(np.uint8).reshape(-1, x.itemsize),
        axis=1,
        bitorder="little",
    )


def _count_ones(x: Any) -> Any:
    return _bits_of(x).sum(axis=1).astype(np.uint32)


def _leading_zeros(x: Any) -> Any:
    bits = _bits_of(x)[:, ::-1]
    return np.where(bits.any(1), bits.argmax(1), bits.shape[1]).astype(np.uint32)


def _reverse_bits(x: Any) -> Any:
    packed = np.packbits(_bits_of(x)[:, ::-1], axis=1, bitorder="little")
    return np.ascontiguousarray(packed).view(x.dtype)[:, 0]


BINARY: dict[str, Callable[[Any, Any], Any]] = {
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
UNARY: dict[str, Callable[[Any], Any]] = {
    "mov": lambda x: x,
    "cvta": lambda x: x,
    "neg": np.negative,
    "not": np.invert,
    "abs": np.abs,
    "popc": _count_ones,
    "clz": _leading_zeros,
    "brev": _reverse_bits,
}
SHIFTS = {"shl": _shift_left, "shr": _shift_right}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
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


def _funnel_shift_left(low: Any, high: Any, count: Any) -> Any:  # shf.l.wrap
    moved = (high << np.uint64(32) | low) << (count & np.uint64(31))
    return moved >> np.uint64(32)


def _insert_field(source: Any, base: Any, start: Any, length: Any) -> Any:
    ones = (np.uint64(1) << length) - np.uint64(1)
    field = ones << start & np.uint64(0xFFFFFFFF)
    return source << start & field | base & ~field


def _extract_field(source: Any, start: Any, length: Any) -> Any:  # bfe.u32
    return source >> start & ((np.uint64(1) << length) - np.uint64(1))


def _permute_bytes(low: Any, high: Any, selector: Any) -> Any:
    both = high << np.uint64(32) | low
    result = np.zeros_like(both)
    for i in range(4):
        byte = selector >> np.uint64(4 * i) & np.uint64(7)
        value = both >> (byte * np.uint64(8)) & np.uint64(255)
        result = result | value << np.uint64(8 * i)
    return result


def _logic_of_three(a: Any, b: Any, c: Any, table: Any) -> Any:
    result = np.zeros_like(a | b | c)
    for i in range(8):
        terms = [x if i >> k & 1 else ~x for x, k in ((a, 2), (b, 1), (c, 0))]
        chosen = np.where(table >> np.uint64(i) & np.uint64(1), ~np.uint64(0), 0)
        result = result | terms[0] & terms[1] & terms[2] & chosen.astype(np.uint64)
    return result


# Of 32 bits, given and returned in uint64; what is above the 32 does not count.
REARRANGE: dict[tuple[str, str], Callable[..., Any]] = {
    ("shf", "l"): _funnel_shift_left,
    ("bfi", "b32"): _insert_field,
    ("bfe", "u32"): _extract_field,
    ("prmt", "b32"): _permute_bytes,
    ("lop3", "b32"): _logic_of_three,
}
