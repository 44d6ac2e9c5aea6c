"""How long a compiled program takes on a machine: simulated, in the order of launch."""

from __future__ import annotations

import dataclasses
import math

from epmc_jax._hlo import Instruction, Module
from epmc_jax._hlo_costs import Costs
from epmc_jax.machines import Load, Machine, slowdown
from epmc_jax.scheduling import codec_target


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """Seconds of one run of a program. Nothing was measured.

    `step_s`: the whole. `without_codecs_s`: the same order if codecs took no time.
    `codec_s`: all codecs by themselves, one after the other.
    """

    machine: Machine
    step_s: float
    without_codecs_s: float
    codec_s: float

    @property
    def exposed_s(self) -> float:
        """By what the codecs make the program longer."""
        return self.step_s - self.without_codecs_s

    @property
    def exposed_fraction(self) -> float:
        """`exposed_s / step_s`."""
        return self.exposed_s / self.step_s if self.step_s else 0.0

    def __str__(self) -> str:
        hidden = 1 - self.exposed_s / self.codec_s if self.codec_s else 1
        return (
            f"{self.machine.name}, simulated: {1e3 * self.step_s:.2f} ms, codecs "
            f"{1e3 * self.codec_s:.2f} ms of which {hidden:.0%} hidden; exposed "
            f"{1e3 * self.exposed_s:.2f} ms ({self.exposed_fraction:.1%} of the step)"
        )


def simulate(module: Module, machine: Machine) -> Simulation:
    """Runs `module` on a model of `machine`.

    Layers are launched in order on one stream, asynchronous calls on others: such a
    call begins when what was launched before it is done, and its `-done` waits for it.
    Kernels that run at once share the machine (`machines.slowdown`).
    """
    costs = Costs(module)
    runs = {codecs: _Run(costs, machine, codecs=codecs) for codecs in (True, False)}
    for run in runs.values():
        run.run(module.entry)
    return Simulation(
        machine=machine,
        step_s=runs[True].lanes.now,
        without_codecs_s=runs[False].lanes.now,
        codec_s=runs[True].codec_s,
    )


class _Lanes:
    """The stream of the layers, and others beside it, each with a queue."""

    def __init__(self) -> None:
        self.now = 0.0
        self.queues: dict[str, list[_Running]] = {}

    def start(self, stream: str, name: str, load: Load) -> None:
        if load.seconds:
            running = _Running(name, load, load.seconds)
            self.queues.setdefault(stream, []).append(running)

    def run(self, load: Load) -> None:
        """Runs a layer, and meanwhile what is queued."""
        layer = _Running("", load, load.seconds)
        while layer.left > 0:
            self._advance(layer)

    def wait(self, name: str) -> None:
        """Nothing more is launched before the call `name` is done."""
        while any(r.name == name for queue in self.queues.values() for r in queue):
            self._advance()

    def _advance(self, *layer: _Running) -> None:
        """Goes on until one of those that run is done."""
        running = [*layer, *(queue[0] for queue in self.queues.values() if queue)]
        slow = slowdown(*(r.load for r in running))
        passed = min(r.left for r in running)
        self.now += passed * slow
        for r in running:
            # The shortest is done, whatever rounding leaves of it.
            r.left = r.left - passed if r.left > passed else 0.0
        self.queues = {s: [r for r in q if r.left] for s, q in self.queues.items()}


@dataclasses.dataclass
class _Running:
    name: str
    load: Load
    left: float


class _Run:
    """One run; `codecs`: whether they take time."""

    def __init__(self, costs: Costs, machine: Machine, *, codecs: bool):
        self.costs = costs
        self.machine = machine
        self.codecs = codecs
        self.lanes = _Lanes()
        self.codec_s = 0.0
        self.loads: dict[tuple[str, str, bool], Load] = {}

    def run(self, computation: str) -> None:
        body = self.costs.module.computations[computation]
        for instruction in body:
            self._launch(computation, instruction)
        for instruction in body:
            self.lanes.wait(instruction.name)

    def _launch(self, computation: str, instruction: Instruction) -> None:
        opcode = instruction.opcode
        if opcode == "while":
            for _ in range(instruction.iterations):
                self.run(instruction.called[-1])
        elif opcode == "conditional":
            self.run(max(instruction.called, key=self._alone))
        elif opcode.endswith("-done"):
            self.lanes.wait(instruction.operands[0])
        elif codec_target(self.costs.module, instruction):
            self._call(computation, instruction)
        else:
            load = self._load(computation, instruction, self.codecs)
            if self.codecs:
                without = self._load(computation, instruction, False)
                self.codec_s += load.seconds - without.seconds
            self.lanes.run(load)

    def _call(self, computation: str, instruction: Instruction) -> None:
        if not self.codecs:
            return
        load = self._load(computation, instruction, True)
        self.codec_s += load.seconds
        if instruction.opcode.endswith("-start"):
            self.lanes.start(instruction.stream, instruction.name, load)
        else:
            self.lanes.run(load)

    def _load(self, computation: str, instruction: Instruction, codecs: bool) -> Load:
        key = computation, instruction.name, codecs
        if key not in self.loads:
            cost = self.costs.cost(computation, instruction, codecs=codecs)
            is_kernel = cost.nbytes or cost.flops or cost.instructions
            self.loads[key] = self.machine.load(cost) if is_kernel else Load()
        return self.loads[key]

    def _alone(self, computation: str) -> float:
        body = self.costs.module.computations[computation]
        loads = (self._load(computation, i, self.codecs) for i in body)
        return math.fsum(load.seconds for load in loads)
