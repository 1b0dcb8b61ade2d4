"""What a converted file really computes: which operators, in which types, read from the file itself.

A file named int8 may hold float operators between its integer ones, or nothing else; size and name do not tell.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from pawlatch.errors import EngineError
from pawlatch_convert.heavy import heavy
from pawlatch_convert.onnx_graph import CONVERSIONS, OnnxGraph, read_onnx


@dataclass(frozen=True)
class OperatorCount:
    """Operators of one kind. `dtype` is int8, or "int16 x int8" (activations, weights), or "uint8 -> int8" (in, out)."""

    name: str
    dtype: str
    count: int
    macs: int  # of all of them together


@dataclass(frozen=True)
class Census:
    """Multiply-accumulates (MACs) of one inference, what computes them, and the types at both ends."""

    macs: int
    integer_macs: int
    float_operators: tuple[str, ...]  # TFLite only: those that compute in float, conversions apart
    input_type: str
    input_scale: float | None = None
    input_zero_point: int | None = None
    operators: tuple[OperatorCount, ...] = ()  # the costliest first
    float_islands: tuple[str, ...] = ()  # what float operators give in a file that also computes in integers: tensors by name
    scores_step: float | None = None  # of the scores' quantization, 1/256 for int8; None where they are floats
    opset: int | None = None  # ONNX only
    input_transposes: int = 0  # ONNX only: Transposes between the pixels and the first convolution

    @property
    def integer_share(self) -> float:
        """Share of MACs whose activations and weights are both integers, 0..1; int16 by int8 are, float by int8 are not."""
        return self.integer_macs / self.macs if self.macs else 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "integer_share": self.integer_share}


class _Operator(NamedTuple):
    name: str
    dtype: str
    macs: int
    is_integer: bool
    outputs: tuple[str, ...]


def take_census(path: Path, *, scores: str = "class_scores") -> Census:
    """Count a .tflite or .onnx file's operators and MACs (of convolutions and matrix products; all else is small).

    Args:
        path: the file.
        scores: the name of the output whose step is wanted.

    Raises:
        EngineError: the file is cut short, or is something else.
    """
    data = path.read_bytes()
    census = _census_onnx if path.suffix == ".onnx" else _census_tflite
    return census(data, path.name, scores)


def _counts(operators: Iterable[_Operator]) -> tuple[OperatorCount, ...]:
    found: dict[tuple[str, str], list[int]] = {}
    for operator in operators:
        found.setdefault((operator.name, operator.dtype), []).append(operator.macs)
    counts = (OperatorCount(name, dtype, len(macs), sum(macs)) for (name, dtype), macs in found.items())
    return tuple(sorted(counts, key=lambda entry: -entry.macs))


def _islands(operators: Iterable[_Operator], integer_macs: int) -> tuple[str, ...]:
    """Where nothing is of integers there is no sea for an island to lie in."""
    return tuple(name for operator in operators if not operator.is_integer for name in operator.outputs) if integer_macs else ()


# ------------------------------------------------------------------------------------------------------ TFLite


_TFLITE_CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}


def read_tflite(data: bytes, name: str = "this") -> Any:
    """The file as a `ModelT` of the flatbuffer's schema, which can be altered and packed again.

    Raises:
        EngineError: it is cut short, or is something else.
    """
    schema = heavy("ai_edge_litert.schema_py_generated")
    try:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0)) if data[4:8] == b"TFL3" else None
    except (struct.error, IndexError, ValueError, TypeError):  # an offset or a vector that leaves the file
        model = None
    if model is None or not model.subgraphs:
        raise EngineError(f"expected a whole .tflite file, but {name} is cut short or something else; copy or convert it again")
    return model


def _census_tflite(data: bytes, name: str, scores: str) -> Census:
    model = read_tflite(data, name)
    types = _by_value(heavy("ai_edge_litert.schema_py_generated").TensorType)
    operators = list(_tflite_operators(model, types))
    integer_macs = sum(operator.macs for operator in operators if operator.is_integer)
    computing = [operator for operator in operators if operator.name not in _TFLITE_CONVERSIONS]
    graph = model.subgraphs[0]
    pixels = graph.tensors[graph.inputs[0]]
    scale, zero_point = _quantization(pixels)
    return Census(
        macs=sum(operator.macs for operator in operators),
        integer_macs=integer_macs,
        float_operators=tuple(sorted({operator.name for operator in computing if not operator.is_integer})),
        input_type=types[pixels.type].lower(),
        input_scale=scale,
        input_zero_point=zero_point,
        operators=_counts(operators),
        float_islands=_islands(computing, integer_macs),
        scores_step=_tflite_scores_step(model, scores),
    )


def _tflite_operators(model: Any, types: dict[int, str]) -> Iterator[_Operator]:
    for graph in model.subgraphs:
        for operator in graph.operators:
            name = operator_name(model, operator)
            inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
            outputs = [graph.tensors[index] for index in operator.outputs]
            kinds = [types[tensor.type].lower() for tensor in (*inputs, *outputs)]
            macs = _tflite_macs(name, [_shape(tensor) for tensor in (*inputs, *outputs)], len(outputs))
            yield _Operator(
                name, _tflite_dtype(name, kinds[: len(inputs)], kinds[len(inputs) :], has_weights=macs > 0), macs,
                is_integer=not any("float" in kind for kind in kinds), outputs=tuple(_text(tensor.name) for tensor in outputs),
            )


def operator_name(model: Any, operator: Any) -> str:
    """The operator's name in TFLite's schema, such as CONV_2D; a custom one's own name."""
    code = model.operatorCodes[operator.opcodeIndex]
    if code.customCode:
        return _text(code.customCode)
    names = _by_value(heavy("ai_edge_litert.schema_py_generated").BuiltinOperator)
    return names[max(code.builtinCode, code.deprecatedBuiltinCode)]  # old files use the second field


def _tflite_dtype(name: str, inputs: list[str], outputs: list[str], *, has_weights: bool) -> str:
    if not inputs or not outputs:
        return (inputs or outputs or [""])[0]
    activations = inputs[2 if name == "TRANSPOSE_CONV" else 0]
    if has_weights and inputs[1] != activations:
        return f"{activations} x {inputs[1]}"
    return activations if activations == outputs[0] else f"{activations} -> {outputs[0]}"


def _tflite_macs(name: str, shapes: list[tuple[int, ...]], n_outputs: int) -> int:
    """MACs of an operator whose tensors are inputs, then outputs."""
    output = prod(shapes[-n_outputs]) if n_outputs else 0
    if name in {"CONV_2D", "FULLY_CONNECTED"}:  # weights: output channels first
        return output * prod(shapes[1][1:])
    if name == "DEPTHWISE_CONV_2D":  # weights: (1, height, width, channels)
        return output * prod(shapes[1][1:3])
    if name == "TRANSPOSE_CONV":  # inputs: output shape, weights, pixels; each pixel meets all the weights
        return prod(shapes[2][:-1]) * prod(shapes[1])
    if name == "BATCH_MATMUL":
        return output * shapes[0][-1]
    return 0


def _tflite_scores_step(model: Any, scores: str) -> float | None:
    graph = model.subgraphs[0]
    outputs = [entry for signature in model.signatureDefs or () for entry in signature.outputs]
    index = next((entry.tensorIndex for entry in outputs if _text(entry.name) == scores), None)
    if index is None:
        return None
    made_by = {output: operator for operator in graph.operators for output in operator.outputs}
    if index in made_by and operator_name(model, made_by[index]) == "DEQUANTIZE":
        index = made_by[index].inputs[0]
    return _quantization(graph.tensors[index])[0]


def _quantization(tensor: Any) -> tuple[float, int] | tuple[None, None]:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None, None
    return float(quantization.scale[0]), int(quantization.zeroPoint[0])


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in tensor.shape) if tensor.shape is not None else ()


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


# -------------------------------------------------------------------------------------------------------- ONNX


def _census_onnx(data: bytes, name: str, scores: str) -> Census:
    model = heavy("onnx").shape_inference.infer_shapes(read_onnx(data, name))
    graph = OnnxGraph(model.graph)
    try:
        operators = [
            _Operator(node.op_type, graph.dtype(node), graph.macs(node), graph.is_integer(node), tuple(node.output))
            for node in model.graph.node
        ]
    except KeyError as error:
        raise EngineError(f"{name} does not tell the shape of {error}; export it with fixed shapes") from error
    integer_macs = sum(operator.macs for operator in operators if operator.is_integer)
    computing = [operator for operator in operators if operator.name not in CONVERSIONS]
    return Census(
        macs=sum(operator.macs for operator in operators),
        integer_macs=integer_macs,
        float_operators=(),
        input_type=graph.type_of(model.graph.input[0].name),
        operators=_counts(operators),
        float_islands=_islands(computing, integer_macs),
        scores_step=graph.step(scores),
        opset=next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), None),
        input_transposes=graph.input_transposes(),
    )
