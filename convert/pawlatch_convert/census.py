"""What a converted file really computes: how many of its multiplications are of integers, read from the file itself.

A file named int8 may hold float operators between its integer ones, or nothing else; size and name do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from pawlatch_convert.heavy import heavy


@dataclass(frozen=True)
class Census:
    """Multiply-accumulates (MACs) of one inference, and the type of the input."""

    macs: int
    integer_macs: int
    float_operators: tuple[str, ...]  # TFLite only: those that compute in float, conversions apart
    input_type: str
    input_scale: float | None = None
    input_zero_point: int | None = None

    @property
    def integer_share(self) -> float:
        """Share of MACs whose activations and weights are both integers, 0..1."""
        return self.integer_macs / self.macs if self.macs else 0.0


def take_census(path: Path) -> Census:
    """Count a .tflite or .onnx file's MACs (convolutions and matrix products; all else is small)."""
    return _census_onnx(path) if path.suffix == ".onnx" else _census_tflite(path)


# ------------------------------------------------------------------------------------------------------ TFLite


def _census_tflite(path: Path) -> Census:
    schema = heavy("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    names, types = _by_value(schema.BuiltinOperator), _by_value(schema.TensorType)
    macs = integer_macs = 0
    float_operators: set[str] = set()
    for graph in model.subgraphs:
        for operator in graph.operators:
            code = model.operatorCodes[operator.opcodeIndex]
            name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]  # old files use the second field
            tensors = [graph.tensors[index] for index in (*operator.inputs, *operator.outputs) if index >= 0]
            kinds = [types[tensor.type] for tensor in tensors]
            computes_in_float = any(kind.startswith("FLOAT") for kind in kinds)
            count = _tflite_macs(name, [_shape(tensor) for tensor in tensors], len(operator.outputs))
            macs += count
            integer_macs += 0 if computes_in_float else count
            if computes_in_float and name not in {"QUANTIZE", "DEQUANTIZE"}:
                float_operators.add(name)
    graph = model.subgraphs[0]
    pixels = graph.tensors[graph.inputs[0]]
    quantization: Any = pixels.quantization
    is_quantized = quantization is not None and quantization.scale is not None
    return Census(
        macs, integer_macs, tuple(sorted(float_operators)), types[pixels.type].lower(),
        float(quantization.scale[0]) if is_quantized else None,
        int(quantization.zeroPoint[0]) if is_quantized else None,
    )


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


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in tensor.shape) if tensor.shape is not None else ()


def _by_value(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


# -------------------------------------------------------------------------------------------------------- ONNX


def _census_onnx(path: Path) -> Census:
    onnx = heavy("onnx")
    graph = onnx.shape_inference.infer_shapes(onnx.load(str(path))).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
    dequantized = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    macs = integer_macs = 0
    for node, count in _onnx_macs(graph, shapes):
        macs += count
        integer_macs += count if set(node.input[:2]) <= dequantized else 0
    element = graph.input[0].type.tensor_type.elem_type
    return Census(macs, integer_macs, (), onnx.helper.tensor_dtype_to_np_dtype(element).name)


def _onnx_macs(graph: Any, shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[Any, int]]:
    for node in graph.node:
        if node.op_type == "Conv":  # weights: (output channels, input channels / group, height, width)
            yield node, prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":  # weights: (input channels, output channels / group, height, width)
            yield node, prod(shapes[node.input[0]]) * prod(shapes[node.input[1]][1:])
        elif node.op_type == "MatMul":
            yield node, prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        elif node.op_type == "Gemm":  # (m, k) by (k, n), either of them perhaps transposed
            yield node, prod(shapes[node.input[0]]) * shapes[node.output[0]][-1]
