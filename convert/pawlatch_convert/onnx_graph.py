"""An ONNX graph, asked for what its operators compute in and what that costs."""

from __future__ import annotations

from math import prod
from typing import Any

from pawlatch.errors import EngineError
from pawlatch_convert.heavy import heavy

CONVERSIONS = {"QuantizeLinear", "DequantizeLinear", "Constant", "Cast"}
_WEIGHTS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": 1, "QLinearConv": 3, "QLinearMatMul": 3}  # which input they are
_MAY_GIVE_FLOATS = {"Gemm", "MatMul"}  # for these ONNX Runtime has integer kernels with a float output
_CLAMPS = {"Relu", "Clip"}  # ONNX Runtime merges these into the QuantizeLinear behind them


def read_onnx(data: bytes, name: str = "this") -> Any:
    """The file as an `onnx.ModelProto`.

    Raises:
        EngineError: it is cut short, or is something else.
    """
    decode_error = heavy("google.protobuf.message").DecodeError
    try:
        model = heavy("onnx").ModelProto.FromString(data)
    except decode_error:
        model = None
    if model is None or not model.graph.input or not model.graph.output:
        raise EngineError(f"expected a whole .onnx file, but {name} is cut short or something else; copy or convert it again")
    return model


class OnnxGraph:
    """A graph of inferred shapes whose quantization is written as DequantizeLinear and QuantizeLinear around operators.

    ONNX Runtime takes its integer kernel for an operator that it finds between the two; by its own types it is of floats.
    """

    def __init__(self, graph: Any) -> None:
        onnx = heavy("onnx")
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._taken_by: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._taken_by.setdefault(name, []).append(node)
        self._shapes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        elements = {tensor.name: tensor.data_type for tensor in graph.initializer}
        for value in (*graph.value_info, *graph.input, *graph.output):
            tensor = value.type.tensor_type
            self._shapes[value.name] = tuple(dimension.dim_value or 1 for dimension in tensor.shape.dim)  # a free batch is 1
            elements[value.name] = tensor.elem_type
        named = onnx.helper.tensor_dtype_to_np_dtype
        self._types = {name: str(named(element).name) for name, element in elements.items() if element}

    def type_of(self, name: str) -> str:
        """The type in which a tensor is kept: behind a DequantizeLinear that of the integers before it. "" if unknown."""
        node = self._dequantize(name)
        if node is None:
            return self._types.get(name, "")
        return self._types.get(node.input[2] if len(node.input) > 2 else node.input[0], "uint8")  # that of the zero point

    def step(self, output: str) -> float | None:
        """The scale of the DequantizeLinear that gives this output; None where another operator does."""
        node = self._dequantize(output)
        if node is None or node.input[1] not in self._constants:
            return None
        return float(heavy("onnx").numpy_helper.to_array(self._constants[node.input[1]]).flat[0])

    def input_transposes(self) -> int:
        """Transposes between the input and the first convolutions or products."""
        reached, count = {self._graph.input[0].name}, 0
        for node in self._graph.node:  # they stand in the order in which they run
            if reached.isdisjoint(node.input) or node.op_type in _WEIGHTS:
                continue
            reached.update(node.output)
            count += node.op_type == "Transpose"
        return count

    def is_integer(self, node: Any) -> bool:
        """Whether ONNX Runtime finds it between DequantizeLinear and QuantizeLinear, and so may take its integer kernel."""
        inputs = [name for name in node.input if name and name not in self._constants]
        if node.op_type in _WEIGHTS:
            inputs = [node.input[0], node.input[_WEIGHTS[node.op_type]]]
        if any(self._dequantize(name) is None and self._names_floats(name) for name in inputs):
            return False
        return node.op_type in _MAY_GIVE_FLOATS or all(self._is_quantized(name) for name in node.output)

    def dtype(self, node: Any) -> str:
        """As in a census: "uint8", "uint8 x int8" of activations and weights, "float32 -> uint8" of a conversion."""
        source, given = (self._types.get(names[0], "") if names else "" for names in (node.input, node.output))
        if node.op_type in CONVERSIONS:
            return f"{source} -> {given}" if source else given
        activations = self.type_of(node.input[0]) if node.input and self.is_integer(node) else source
        weights = self.type_of(node.input[_WEIGHTS[node.op_type]]) if node.op_type in _WEIGHTS else activations
        return activations if activations == weights else f"{activations} x {weights}"

    def macs(self, node: Any) -> int:
        """Multiply-accumulates; 0 for all but convolutions and products.

        Raises:
            KeyError: a shape is unknown.
        """
        if node.op_type not in _WEIGHTS:
            return 0
        pixels, weights, output = (
            self._shapes[name] for name in (node.input[0], node.input[_WEIGHTS[node.op_type]], node.output[0])
        )
        kind = node.op_type.removeprefix("QLinear")
        if kind == "Conv":  # weights: (output channels, input channels / group, height, width)
            return prod(output) * prod(weights[1:])
        if kind == "ConvTranspose":  # weights: (input channels, output channels / group, height, width)
            return prod(pixels) * prod(weights[1:])
        if kind == "MatMul":
            return prod(output) * pixels[-1]
        return prod(pixels) * output[-1]  # Gemm: (m, k) by (k, n), either of them perhaps transposed

    def _is_quantized(self, name: str) -> bool:
        if not self._names_floats(name):
            return True
        takers = self._taken_by.get(name, [])
        return bool(takers) and all(
            taker.op_type == "QuantizeLinear" or (taker.op_type in _CLAMPS and self._is_quantized(taker.output[0]))
            for taker in takers
        )

    def _names_floats(self, name: str) -> bool:
        return "float" in self._types.get(name, "float")

    def _dequantize(self, name: str) -> Any:
        """The DequantizeLinear that gives this tensor, or None."""
        node = self._made_by.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None
