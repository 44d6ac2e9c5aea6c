"""`python -m bench models`: temp bytes of many small networks, none above plain's.

One row per kind of network of `bench.kinds` and API. Exits with 1 if any policy takes
more than the plain model; with `--h100` compiled for an H100, which need not be there.
"""

import argparse
import sys

from rich.console import Console

from bench import deviceless, methods, record
from bench.kinds.table import APIS, KINDS, problem
from bench.measure import compile_gradient, temp_bytes
from bench.tables import show

METHODS = (methods.PLAIN, *methods.POLICIES)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what `run` reads from the command line."""
    parser.add_argument("--only", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--apis", nargs="+", choices=[*APIS], default=[*APIS])
    parser.add_argument("--h100", action="store_true", help="compile for an H100")


def run(options: argparse.Namespace, console: Console) -> None:
    """Compiles every network in every way; shows a table and records it."""
    if options.h100:
        deviceless.require()
    rows = []
    for name in options.only:
        for api in options.apis:
            with console.status(f"{name}, {api}"):
                sizes = measure(name, api, h100=options.h100)
            rows.append({"kind": name, "api": api, **sizes})
    device = "H100 (compiled, not run)" if options.h100 else "this machine"
    ratios = (f"{method.name} / plain" for method in methods.POLICIES)
    header = ("network", "API", "plain", *ratios)
    show(console, f"Temp bytes of the gradient, {device}", header, _cells(rows))
    path = record.append("models", [row | {"device": device} for row in rows])
    console.print(f"recorded in {path}")
    above = [row["kind"] for row in rows if max(_ratios(row)) > 1]
    if above:
        console.print(f"more than plain: {', '.join(above)}")
        sys.exit(1)


def measure(name: str, api: str, *, h100: bool) -> dict[str, int]:
    """Temp bytes by method."""
    compile_for = deviceless.compile_gradient if h100 else compile_gradient
    wanted = problem(name, api)
    args = wanted.avals()
    return {m.name: temp_bytes(compile_for(wanted.loss(m), args)) for m in METHODS}


def _ratios(row: dict) -> list[float]:
    return [row[m.name] / row[methods.PLAIN.name] for m in methods.POLICIES]


def _cells(rows: list[dict]) -> list[tuple[str, ...]]:
    return [
        (
            row["kind"],
            row["api"],
            f"{row[methods.PLAIN.name] / 1e6:.2f} MB",
            *(f"{ratio:.2f}" for ratio in _ratios(row)),
        )
        for row in rows
    ]
