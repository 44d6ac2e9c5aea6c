"""What `python -m bench codecs` measures: an encode, a decode, and their bar."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

FLOATS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Bar:
    """The least throughput relative to memcpy, and the most time relative to a rival.

    Set for float32 arrays beyond the caches, whatever the number of threads (memcpy has
    as many), and for the best instruction set; see `codecs_tables.bar_of`. Of sparse
    arrays also: how many times smaller than CSR, and how many times below the error of
    4 dense bits.
    """

    encode: float | None = None
    decode: float | None = None
    encode_per_rival: float | None = None
    decode_per_rival: float | None = None
    csr_per_size: float | None = None
    dense_per_error: float | None = None


@dataclasses.dataclass(frozen=True)
class Calls:
    """The two calls that are timed, for one array.

    `encode()` gives what `decode` takes, `nbytes` its size. `expected` is what decode
    gives if nothing is lost. `rivals` are calls timed in the same turns: what XLA does
    in place of `encode` or `decode`, by that name. `note` is for the reader.
    """

    encode: Callable[[], Any]
    decode: Callable[[Any], Any]
    nbytes: Callable[[Any], int]
    expected: np.ndarray
    rivals: dict[str, Callable[[], Any]] = dataclasses.field(default_factory=dict)
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Subject:
    """One row of the table: `make(x, threads)` prepares the calls for the array `x`.

    `data` is a kind of `codecs_data`. `make` raises `ImportError` if the `package`, as
    pip knows it, is not installed.
    """

    name: str
    data: str
    make: Callable[[np.ndarray, int], Calls]
    dtypes: tuple[str, ...] = FLOATS
    package: str = ""
    bar: Bar = Bar()
