"""What each instruction of a compiled program needs: bytes, flops, instructions.

Counted from the text. Bytes are those of operands and results: of an operand that is
only sliced, the slices; of a result that takes the place of an operand, the update. The
instructions of a fused computation are its elementwise operations, each for every
element; those of the codecs' kernels are counted in their machine code.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator

from epmc_jax import _hlo
from epmc_jax._hlo import Instruction, Module
from epmc_jax.machines import Cost, kernel_instructions

_FREE = frozenset(
    """after-all bitcast constant get-tuple-element iota opt-barrier
    optimization-barrier parameter partition-id replica-id tuple""".split()
)
_MOVES = _FREE | frozenset(
    "broadcast concatenate copy dynamic-slice dynamic-update-slice gather pad reshape "
    "reverse slice transpose".split()
)
_SLICES = frozenset({"dynamic-slice", "gather", "slice"})
# Several instructions each, or a slower unit.
_SLOW = frozenset(
    """atan2 cbrt cosine divide erf exponential exponential-minus-one log log-plus-one
    logistic power remainder rsqrt sine sqrt tan tanh""".split()
)
_SLOW_INSTRUCTIONS = 8
_WORKSPACE = re.compile(r"[su]8\[\d+\]")
_CODEC_SCOPE = re.compile(r'op_name="[^"]*epmc_(?:en|de)code')


class Costs:
    """The costs of the instructions of one program."""

    def __init__(self, module: Module):
        self.module = module
        self.shapes = {
            name: {i.name: i.shape for i in body}
            for name, body in module.computations.items()
        }

    def cost(
        self, computation: str, instruction: Instruction, *, codecs: bool = True
    ) -> Cost:
        """`codecs`: whether the arithmetic of codecs that XLA compiles counts."""
        opcode = instruction.opcode
        if opcode in _FREE or opcode.endswith("-done"):
            return Cost()
        if not codecs and self._is_codec(instruction):
            return Cost()
        if opcode in ("fusion", "fusion-start"):
            return self._fusion(instruction, codecs)
        if opcode in ("call", "call-start", "async-start"):
            return self._called(instruction)
        operands = self._operands(computation, instruction)
        if opcode == "custom-call":
            return self._custom_call(instruction, operands)
        if opcode == "dynamic-update-slice":
            return Cost(nbytes=2 * _hlo.nbytes(operands[1]))
        if opcode in _SLICES:
            return Cost(nbytes=2 * _hlo.nbytes(instruction.shape))
        nbytes = sum(map(_hlo.nbytes, [*operands, instruction.shape]))
        return Cost(
            nbytes=nbytes,
            flops=_product_flops(instruction, operands),
            dtype=_dtype(operands),
            instructions=_instructions(instruction, operands),
        )

    def _operands(self, computation: str, instruction: Instruction) -> list[str]:
        shapes = self.shapes[computation]
        return [shapes.get(name, "") for name in instruction.operands]

    def _called(self, instruction: Instruction) -> Cost:
        total = Cost()
        for name in instruction.called:
            for inner in self.module.computations[name]:
                total += self.cost(name, inner)
        return total

    def _custom_call(self, instruction: Instruction, operands: list[str]) -> Cost:
        target = instruction.target
        results = _results(instruction)
        if target.startswith("epmc_"):
            # `pin` and barriers hand on their operand.
            if target == "epmc_pin":
                return Cost()
            results = list(_hlo.elements(instruction.shape))
            dense = max(map(_elements, [*operands, *results]))
            return Cost(
                nbytes=sum(map(_hlo.nbytes, [*operands, *results])),
                instructions=kernel_instructions(target, dense),
            )
        flops = 0.0
        if "gemm" in instruction.attributes:
            flops = _gemm_flops(instruction, operands, results)
        elif "conv" in target:
            flops = _convolution_flops(instruction, [*operands[:2], *results[:1]])
        return Cost(
            nbytes=sum(map(_hlo.nbytes, [*operands, *results])),
            flops=flops,
            dtype=_dtype(operands),
        )

    def _is_codec(self, instruction: Instruction) -> bool:
        """True where `instruction` does nothing but encode or decode."""
        inner = [
            i
            for name in instruction.called
            for i in self.module.computations[name]
            if i.opcode not in _FREE
        ]
        return all(_CODEC_SCOPE.search(i.attributes) for i in inner or [instruction])

    def _fusion(self, instruction: Instruction, codecs: bool) -> Cost:
        (name,) = instruction.called
        body = self.module.computations[name]
        total = Cost(nbytes=self._fusion_bytes(name, body))
        for inner in body:
            if inner.opcode in _MOVES:
                continue
            if not codecs and _CODEC_SCOPE.search(inner.attributes):
                continue
            operands = self._operands(name, inner)
            if inner.opcode == "custom-call":
                # A call of a library, whose operands are slices.
                called = self._custom_call(inner, operands)
                total += dataclasses.replace(called, nbytes=0)
                continue
            total += Cost(
                flops=_product_flops(inner, operands),
                dtype=_dtype(operands),
                instructions=_instructions(inner, operands),
            )
        return total

    def _fusion_bytes(self, name: str, body: list[Instruction]) -> int:
        readers: dict[str, list[Instruction]] = {}
        for inner in body:
            for operand in inner.operands:
                readers.setdefault(operand, []).append(inner)
        total = 0
        for inner in body:
            if inner.opcode == "parameter":
                total += _read_bytes(inner, readers)
            if inner.is_root:
                total += self._written_bytes(name, inner)
        return total

    def _written_bytes(self, name: str, root: Instruction) -> int:
        by_name = {i.name: i for i in self.module.computations[name]}

        def written(inner: Instruction) -> int:
            while inner.opcode == "bitcast":
                inner = by_name[inner.operands[0]]
            if inner.opcode == "dynamic-update-slice":
                return _hlo.nbytes(self.shapes[name][inner.operands[1]])
            return sum(map(_hlo.nbytes, _results(inner)))

        if root.opcode == "tuple":
            return sum(written(by_name[o]) for o in root.operands)
        return written(root)


def _results(instruction: Instruction) -> list[str]:
    """The shapes of what it makes, without the workspace of a library."""
    shapes = list(_hlo.elements(instruction.shape))
    if instruction.opcode != "custom-call":
        return shapes
    return [shape for shape in shapes if not _WORKSPACE.match(shape)]


def _read_bytes(array: Instruction, readers: dict[str, list[Instruction]]) -> int:
    """Bytes that a fused computation reads of its parameter."""
    whole = _hlo.nbytes(array.shape)
    return min(whole, sum(_parts_read(array, readers, whole)))


def _parts_read(
    array: Instruction, readers: dict[str, list[Instruction]], whole: int
) -> Iterator[int]:
    for reader in readers.get(array.name, ()):
        is_operand = reader.operands[0] == array.name
        if reader.opcode == "bitcast":
            yield from _parts_read(reader, readers, whole)
        elif reader.opcode in _SLICES and is_operand:
            yield _hlo.nbytes(reader.shape)
        elif not (reader.opcode == "dynamic-update-slice" and is_operand):
            yield whole


def _sizes(shape: str) -> list[int]:
    """The lengths of the axes of an array."""
    found = re.search(r"\[([\d,]*)\]", shape)
    return [int(n) for n in found.group(1).split(",") if n] if found else []


def _elements(shape: str) -> int:
    return math.prod(_sizes(shape))


def _dtype(operands: list[str]) -> str:
    dtypes = {s.partition("[")[0] for s in operands}
    if not dtypes or "f32" in dtypes:
        return "float32"
    return {"bf16": "bfloat16", "f16": "float16"}.get(min(dtypes), "float32")


def _instructions(instruction: Instruction, operands: list[str]) -> int:
    opcode = instruction.opcode
    if opcode in _MOVES or opcode in ("convolution", "dot"):
        return 0
    if opcode.startswith("reduce") or opcode == "scatter":
        return sum(map(_elements, operands[: len(operands) // 2]))
    elements = _elements(next(_hlo.elements(instruction.shape)))
    return elements * (_SLOW_INSTRUCTIONS if opcode in _SLOW else 1)


def _product_flops(instruction: Instruction, operands: list[str]) -> float:
    if instruction.opcode == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        return _matrix_flops(axes, operands[0], instruction.shape)
    if instruction.opcode == "convolution":
        return _convolution_flops(instruction, [*operands, instruction.shape])
    return 0


def _gemm_flops(
    instruction: Instruction, operands: list[str], results: list[str]
) -> float:
    axes = re.search(
        r'"lhs_contracting_dimensions":\[([^\]]*)\]', instruction.attributes
    )
    return _matrix_flops(axes, operands[0], results[0])


def _matrix_flops(axes: re.Match[str] | None, lhs: str, result: str) -> float:
    if axes is None:
        return 0
    sizes = _sizes(lhs)
    contracted = [sizes[int(n)] for n in re.findall(r"\d+", axes.group(1))]
    return 2 * _elements(result) * math.prod(contracted)


def _convolution_flops(instruction: Instruction, arrays: list[str]) -> float:
    """Of a convolution or one of its gradients: `arrays` are two operands and a result.

    All three have the same products: one per element of what the convolution makes,
    place of the window and channel that it reads.
    """
    labels = re.search(r"dim_labels=\w+_(\w+)->\w+", instruction.attributes)
    if labels is None:
        return 0
    target = instruction.target
    if "BackwardFilter" in target:
        _, made, kernel = arrays
    elif "BackwardInput" in target:
        made, kernel, _ = arrays
    else:
        _, kernel, made = arrays
    features = _sizes(kernel)[labels.group(1).index("o")]
    return 2 * _elements(made) * _elements(kernel) / features
