"""What ptxas makes of the CUDA kernels: registers, stacks, instructions."""

import collections
import dataclasses
import functools
import pathlib
import re
import shutil
import site
import subprocess
import tempfile

from bench.cuda import FLAGS, source_of

# What the wheels are built for: A100, H100, B200, RTX 50.
ARCHITECTURES = (80, 90, 100, 120)


@dataclasses.dataclass(frozen=True)
class Machine:
    """One kernel on one architecture; bytes are those of a thread."""

    architecture: str
    kernel: str  # mangled name
    registers: int
    stack_nbytes: int
    local_nbytes: int
    instructions: collections.Counter[str]  # names with suffixes: LDG.E.128.CONSTANT

    def count(self, pattern: str) -> int:
        """Instructions whose name starts with the regular expression `pattern`."""
        found = (n for name, n in self.instructions.items() if re.match(pattern, name))
        return sum(found)


def find_cuobjdump() -> str | None:
    """The disassembler: in PATH, or where `nvidia-cuda-cuobjdump` put it."""
    beside = (
        path
        for folder in site.getsitepackages()
        for path in pathlib.Path(folder).glob("nvidia/*/bin/cuobjdump")
    )
    return shutil.which("cuobjdump") or next(map(str, beside), None)


@functools.cache
def machines(folder: str) -> tuple[Machine, ...]:
    """The kernels of `xla_ffi/<folder>` on every architecture.

    Raises: `FileNotFoundError` without nvcc or cuobjdump.
    """
    nvcc, cuobjdump = shutil.which("nvcc"), find_cuobjdump()
    if nvcc is None or cuobjdump is None:
        missing = "nvcc" if nvcc is None else "cuobjdump"
        raise FileNotFoundError(f"no {missing}: pip install nvidia-cuda-{missing}.")
    with tempfile.TemporaryDirectory() as temporary:
        target = pathlib.Path(temporary) / "kernels.fatbin"
        # One call for all architectures: 9 s for GroupQuant, with two threads.
        codes = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in ARCHITECTURES]
        command = [nvcc, "-fatbin", "--threads=0", *codes, *FLAGS, "-o", str(target)]
        subprocess.run([*command, str(source_of(folder))], check=True)
        resources = _output(cuobjdump, "--dump-resource-usage", str(target))
        return tuple(_parse(resources, _output(cuobjdump, "-sass", str(target))))


def _output(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


def _sections(text: str) -> list[tuple[str, str]]:
    """Each architecture of a listing, and what is said of it."""
    parts = re.split(r"^arch = (\w+)$", text, flags=re.M)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def _parse(resources: str, listing: str) -> list[Machine]:
    instructions = {}
    for architecture, section in _sections(listing):
        names = re.split(r"^\s*Function : (\S+)$", section, flags=re.M)
        for kernel, code in zip(names[1::2], names[2::2], strict=True):
            found = re.findall(r"/\*[0-9a-f]+\*/\s+(?:@!?\w+ )?([A-Z][\w.]*)", code)
            instructions[architecture, kernel] = collections.Counter(found)
    usage = r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)"
    return [
        Machine(
            architecture,
            kernel,
            int(registers),
            int(stack),
            int(local),
            instructions[architecture, kernel],
        )
        for architecture, section in _sections(resources)
        for kernel, registers, stack, local in re.findall(usage, section)
    ]
