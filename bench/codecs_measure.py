"""The measurements of `python -m bench codecs`: size, error, time against memcpy.

In a time is what a user of the call waits for: dispatch, the allocation of the result
(from memory that the process keeps), the work, and freeing it. memcpy copies the same
array between two that exist, in the same turns and with as many threads.
"""

import importlib.metadata
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from bench import codecs_data, codecs_others, codecs_ours, record
from bench.codecs_process import Configuration, Copier, page_faults, xla_threads
from bench.codecs_subject import Calls, Subject
from bench.measure import interleaved_ms
from epmc_jax.codecs import Csr

SUBJECTS = codecs_ours.SUBJECTS + codecs_others.SUBJECTS
MEMCPY = "memcpy"
ROUNDS = (5, 61)
"""Least and most turns: as many as the seconds of a row allow."""


def messages(configuration: Configuration) -> Iterator[dict[str, Any]]:
    """For each subject that is to be measured: that it is started, and its row.

    A row is recorded as soon as it is there.
    """
    tensors = codecs_data.load(pathlib.Path(configuration.data), configuration.nbytes)
    for subject in filter(configuration.wants, SUBJECTS):
        yield {"started": subject.name}
        x = tensors.make(subject.data, configuration.dtype)
        row = measure(subject, x, configuration)
        record.append("codecs", [row])
        yield row


def measure(
    subject: Subject, x: np.ndarray, configuration: Configuration
) -> dict[str, Any]:
    """One row; with `missing`, the package to install, if it is not there."""
    row: dict[str, Any] = {
        "codec": subject.name,
        "data": subject.data,
        "threads": configuration.threads,
        "isa": configuration.isa,
        "dtype": configuration.dtype,
        "raw_nbytes": x.nbytes,
        "density": float(np.count_nonzero(x)) / x.size,
        "csr_nbytes": Csr.wide_nbytes(len(x), int(np.count_nonzero(x))),
    }
    try:
        calls = subject.make(x, configuration.threads)
    except ImportError:
        return row | {"missing": subject.package}
    if subject.package:
        name = subject.package.partition("==")[0]
        row["package"] = f"{name} {importlib.metadata.version(name)}"
    row |= size_and_error(calls, x)
    copier = Copier(x, configuration.threads)
    return row | times(calls, copier, configuration.seconds)


def size_and_error(calls: Calls, x: np.ndarray) -> dict[str, Any]:
    """What one encode and decode give; they also compile what is timed later."""
    encoded = jax.block_until_ready(calls.encode())
    decoded = np.asarray(calls.decode(encoded))
    nbytes = calls.nbytes(encoded)
    return {
        "encoded_nbytes": nbytes,
        "rate": 8 * nbytes / x.size,
        "relative_error": relative_error(decoded, calls.expected),
        "decoded_nbytes": decoded.nbytes,
        "note": calls.note,
    }


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """`|found - expected| / |expected|` in the 2-norm; 0 if all is equal."""
    if found.shape != expected.shape:
        raise ValueError(f"decoded {found.shape}, expected {expected.shape}.")
    reference = expected.astype(np.float64)
    difference = np.linalg.norm(found.astype(np.float64) - reference)
    return float(difference / np.linalg.norm(reference)) if difference != 0 else 0.0


def times(calls: Calls, copier: Callable[[], None], seconds: float) -> dict[str, Any]:
    """Times of encode, decode and the rivals, in turns with memcpy.

    `busy_cores` is the processor time that the process had per second: less than its
    threads, and other processes disturbed it (or a call has one thread always).
    """
    encoded = jax.block_until_ready(calls.encode())
    timed: dict[str, Callable[[], Any]] = {
        MEMCPY: copier,
        "encode": calls.encode,
        "decode": lambda: calls.decode(encoded),
    }
    timed |= {f"rival_{name}": call for name, call in calls.rivals.items()}
    trial = interleaved_ms(timed, rounds=1, warm_up=0)
    turn_ms = sum(found[0] for found in trial.values())
    least, most = ROUNDS
    rounds = min(most, max(least, round(1e3 * seconds / turn_ms)))
    faults, wall_s, busy_s = page_faults(), time.perf_counter(), time.process_time()
    found = interleaved_ms(timed, rounds=rounds, warm_up=0)
    wall_s, busy_s = time.perf_counter() - wall_s, time.process_time() - busy_s
    return summary(found) | {
        "rounds": rounds,
        "xla_threads": xla_threads(),
        "page_faults_per_call": (page_faults() - faults) / (rounds * len(timed)),
        "busy_cores": busy_s / wall_s,
    }


def summary(found: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, fastest times, and quartiles of ratios to memcpy, or to the rival.

    Ratios are taken turn by turn. `<call>_per_memcpy` is a throughput: memcpy's time
    over the call's. `<call>_per_rival` is a time: the call's over its rival's.
    """
    row: dict[str, Any] = {}
    for name, taken in found.items():
        row |= {
            f"{name}_ms": statistics.median(taken),
            f"{name}_fastest_ms": min(taken),
        }
    for call in ("encode", "decode"):
        row[f"{call}_per_memcpy"] = _quartiles(found[MEMCPY], found[call])
        if f"rival_{call}" in found:
            row[f"{call}_per_rival"] = _quartiles(found[call], found[f"rival_{call}"])
    return row


def _quartiles(above: list[float], below: list[float]) -> list[float]:
    ratios = [a / b for a, b in zip(above, below, strict=True)]
    return [float(q) for q in np.quantile(ratios, (0.25, 0.5, 0.75))]
