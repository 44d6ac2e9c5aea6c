"""What stands beside each encode and decode in a compiled program."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any, Literal

from epmc_jax import _hlo, _liveness
from epmc_jax._hlo import Instruction, Module
from epmc_jax.machines import H100, Machine

if TYPE_CHECKING:
    from epmc_jax.simulating import Simulation

# A mask that the bytes of an array tell is decoded, too.
_CODEC = re.compile(r"epmc_\w*_(encode|decode|mask)$")
# Kernels that take long: what another one can hide beside.
_LONG_TARGET = re.compile(r"cublas|cudnn|gemm|conv|fmha|attention|triton|mosaic", re.I)
_LONG_OPCODES = frozenset({"conditional", "convolution", "dot", "while"})

Lane = Literal["layer", "codec", "other"]


@dataclasses.dataclass(frozen=True)
class CodecCall:
    """One call of an encoder or decoder.

    `computation`: the part of the program it stands in: the whole, or the body of a
    loop. `start`, `done`: steps of it; the same where the call is synchronous.
    `beside`: the matrix products, convolutions and loops between the two. `layer`: how
    many of these stand before it. `dense_bytes`: of what it encodes or decodes.
    """

    direction: Literal["encode", "decode"]
    target: str
    computation: str
    start: int
    done: int
    beside: tuple[str, ...]
    layer: int
    dense_bytes: int

    @property
    def is_asynchronous(self) -> bool:
        return self.done > self.start

    @property
    def is_hidden(self) -> bool:
        """True if something that takes long runs meanwhile."""
        return bool(self.beside)


@dataclasses.dataclass(frozen=True)
class Step:
    """One kernel, or one loop, of the program: where it stands and what it is."""

    name: str
    lane: Lane


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The order in which a program launches its kernels.

    `calls`: of codecs. What XLA computes inside other kernels (decodes on GPUs, unless
    `Policy(prefetch=True)`) is no call. `steps`, `live_bytes`: of the whole program,
    whose name is `computation`, a loop being one step; bytes are an estimate, without
    arguments.
    """

    computation: str
    calls: tuple[CodecCall, ...]
    steps: tuple[Step, ...]
    live_bytes: tuple[int, ...]
    module: Module = dataclasses.field(repr=False, compare=False)

    def hidden_fraction(self, direction: str | None = None) -> float:
        """Calls that are hidden, of all calls or of those in `direction`; 1 if there
        are none."""
        found = [c for c in self.calls if direction in (None, c.direction)]
        return sum(c.is_hidden for c in found) / len(found) if found else 1.0

    def simulate(self, machine: Machine = H100) -> Simulation:
        """How long a run takes on a model of `machine`, and the codecs in it.

        An estimate from bytes, operations and the order of launch, not a measurement.
        """
        from epmc_jax import simulating

        return simulating.simulate(self.module, machine)

    def __str__(self) -> str:
        from epmc_jax import lanes

        return lanes.table(self)

    def plot(self, path: str | None = None) -> Any:
        """Draws two lanes, layers and codecs, above the live bytes; returns the figure.

        `path`: a file to write it to. Raises `ImportError` without matplotlib
        (`pip install epmc_jax[plot]`).
        """
        from epmc_jax import lanes

        return lanes.plot(self, path)


def schedule(compiled: Any) -> Schedule:
    """The order of a compiled program: `jax.jit(fun).lower(...).compile()`, or its
    text.

    Needs no device: it reads what XLA has decided. Raises: `ValueError` for text that
    is no compiled program.
    """
    module = _hlo.parse(compiled if isinstance(compiled, str) else compiled.as_text())
    used = _launched(module, module.entry)
    calls = [call for name in used for call in _calls(module, name)]
    return Schedule(
        computation=module.entry,
        calls=tuple(calls),
        steps=tuple(_step(module, i) for i in module.computations[module.entry]),
        live_bytes=tuple(_liveness.live_bytes(module, module.entry)),
        module=module,
    )


def _launched(module: Module, name: str) -> list[str]:
    """The computation `name` and the bodies of loops and branches in it."""
    found = [name]
    for instruction in module.computations[name]:
        if instruction.opcode in ("while", "conditional"):
            for called in instruction.called:
                found += _launched(module, called)
    return found


def _calls(module: Module, computation: str) -> list[CodecCall]:
    body = module.computations[computation]
    shapes = {i.name: i.shape for i in body}
    done = {
        i.operands[0]: at for at, i in enumerate(body) if i.opcode.endswith("-done")
    }
    found, layer = [], 0
    for start, instruction in enumerate(body):
        layer += _takes_long(module, instruction)
        target = codec_target(module, instruction)
        kind = _CODEC.match(target)
        if kind is None or instruction.opcode.endswith("-done"):
            continue
        end = done.get(instruction.name, start)
        beside = (i.name for i in body[start + 1 : end] if _takes_long(module, i))
        arrays = [shapes.get(o, "") for o in instruction.operands]
        arrays += _hlo.elements(instruction.shape)
        found.append(
            CodecCall(
                direction="encode" if kind.group(1) == "encode" else "decode",
                target=target,
                computation=computation,
                start=start,
                done=end,
                beside=tuple(beside),
                layer=layer,
                dense_bytes=max(map(_hlo.nbytes, arrays)),
            )
        )
    return found


def codec_target(module: Module, instruction: Instruction) -> str:
    """The codec's target that `instruction` calls, itself or in a computation."""
    if instruction.opcode == "custom-call":
        return instruction.target if _CODEC.match(instruction.target) else ""
    if instruction.opcode not in ("call", "call-start", "async-start"):
        return ""
    inner = (i for name in instruction.called for i in module.computations[name])
    return next(filter(None, (codec_target(module, i) for i in inner)), "")


def _takes_long(module: Module, instruction: Instruction) -> bool:
    if instruction.opcode in _LONG_OPCODES:
        return True
    if instruction.opcode == "custom-call":
        return bool(_LONG_TARGET.search(instruction.target))
    if instruction.opcode != "fusion":
        return False
    # jax 0.12: in loops XLA has the call of a library, and slices, as one fusion.
    inner = (i for name in instruction.called for i in module.computations[name])
    return any(_takes_long(module, i) for i in inner if i.opcode != "while")


def _step(module: Module, instruction: Instruction) -> Step:
    if codec_target(module, instruction):
        return Step(instruction.name, "codec")
    is_layer = _takes_long(module, instruction)
    return Step(instruction.name, "layer" if is_layer else "other")
