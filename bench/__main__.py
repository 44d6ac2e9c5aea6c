"""`python -m bench COMMAND`: the demo and the measurements behind the README."""

import argparse
import sys

from bench import environment


def main() -> int:
    """Parses the command line, fixes the environment, runs one command."""
    environment.fix(deviceless="--h100" in sys.argv or "overlap" in sys.argv[1:2])
    # After the environment is fixed: these import jax, which reads it once.
    from rich.console import Console

    from bench import (
        codecs,
        compile_time,
        cuda,
        demo,
        fidelity,
        memory,
        models,
        noise,
        overlap,
        results,
        sparse,
        step_time,
        train,
    )

    commands = {
        "demo": demo,
        "memory": memory,
        "models": models,
        "sparse": sparse,
        "fidelity": fidelity,
        "noise": noise,
        "step": step_time,
        "train": train,
        "results": results,
        "compile": compile_time,
        "cuda": cuda,
        "codecs": codecs,
        "overlap": overlap,
    }
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name, module in commands.items():
        summary = (module.__doc__ or "").partition(": ")[2].partition("\n")[0]
        module.add_arguments(subparsers.add_parser(name, help=summary))
    options = parser.parse_args()
    console = Console()
    console.print(environment.one_line(), style="dim")
    commands[options.command].run(options, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
