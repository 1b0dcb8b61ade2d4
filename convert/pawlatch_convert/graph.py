"""A .tflite file as a list of operators whose constants can be read and replaced, and which can be run in parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch_convert.heavy import heavy

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
THREADS = 2
_DTYPES: dict[str, type[np.generic]] = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16, "INT32": np.int32,
    "INT64": np.int64, "BOOL": np.bool_,
}

Array = NDArray[Any]


@dataclass(frozen=True)
class Operator:
    """One operator; `index` is its place in the order of running, tensors are numbers within the graph."""

    index: int
    kind: str  # "CONV_2D", "ADD", ...
    inputs: tuple[int, ...]  # without optional ones that are absent
    outputs: tuple[int, ...]
    options: Any

    @property
    def is_linear(self) -> bool:
        """Whether no activation function is fused to it."""
        return getattr(self.options, "fusedActivationFunction", 0) == 0


class Graph:
    """The first (for our models the only) graph of a .tflite file. Constants are changed in place; `to_bytes` is the file."""

    def __init__(self, data: bytes) -> None:
        self._schema = heavy("ai_edge_litert.schema_py_generated")
        self._model = self._schema.ModelT.InitFromObj(self._schema.Model.GetRootAs(data, 0))
        self._graph = self._model.subgraphs[0]
        kinds = {value: name for name, value in vars(self._schema.BuiltinOperator).items() if isinstance(value, int)}
        types = {value: name for name, value in vars(self._schema.TensorType).items() if isinstance(value, int)}
        codes = [kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in self._model.operatorCodes]
        self.operators = [
            Operator(index, codes[raw.opcodeIndex], _tensors(raw.inputs), _tensors(raw.outputs), raw.builtinOptions)
            for index, raw in enumerate(self._graph.operators)
        ]
        self.inputs, self.outputs = _tensors(self._graph.inputs), _tensors(self._graph.outputs)
        self._sharing = Counter(tensor.buffer for graph in self._model.subgraphs for tensor in graph.tensors)
        self._dtypes = [_DTYPES.get(types[tensor.type]) for tensor in self._graph.tensors]

    def to_bytes(self) -> bytes:
        """The file."""
        import flatbuffers

        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def convolutions(self) -> list[Operator]:
        """What multiplies by weights, in the order of running: the same in a float file and in what it was quantized to."""
        return [
            operator for operator in self.operators
            if operator.kind in CONVOLUTIONS and len(operator.inputs) == 3
            and all(self.constant(tensor) is not None for tensor in operator.inputs[1:])
        ]

    def name(self, tensor: int) -> str:
        """Its name, which Netron shows too."""
        name: bytes = self._graph.tensors[tensor].name
        return name.decode()

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Its shape, () for a scalar."""
        shape = self._graph.tensors[tensor].shape
        return () if shape is None else tuple(int(side) for side in shape)

    def dtype(self, tensor: int) -> type[np.generic] | None:
        """NumPy's type of its values, None where it has none."""
        return self._dtypes[tensor]

    def constant(self, tensor: int) -> Array | None:
        """A copy of its values, None where it is no constant."""
        raw, dtype = self._model.buffers[self._graph.tensors[tensor].buffer].data, self._dtypes[tensor]
        if raw is None or not len(raw) or dtype is None:
            return None
        return np.frombuffer(bytes(raw), dtype).reshape(self.shape(tensor)).copy()

    def weights(self, operator: Operator) -> tuple[Array, Array]:
        """Kernel and bias of one of `convolutions`."""
        kernel, bias = (self.constant(tensor) for tensor in operator.inputs[1:])
        assert kernel is not None
        assert bias is not None
        return kernel, bias

    def set_constant(self, tensor: int, values: Array) -> None:
        """Replace its values by others of the same shape and type."""
        assert values.shape == self.shape(tensor)
        assert values.dtype == self._dtypes[tensor]
        owner = self._graph.tensors[tensor]
        if self._sharing[owner.buffer] > 1:
            self._sharing[owner.buffer] -= 1
            owner.buffer = len(self._model.buffers)
            self._sharing[owner.buffer] = 1
            self._model.buffers.append(self._schema.BufferT())
        self._model.buffers[owner.buffer].data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)

    def scale(self, tensor: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scales and zero points, one each or one for each channel; both empty for floats."""
        kept = self._graph.tensors[tensor].quantization
        if kept is None or kept.scale is None:
            return np.zeros(0), np.zeros(0, np.int64)
        return np.asarray(kept.scale, np.float64), np.asarray(kept.zeroPoint, np.int64)

    def real(self, tensor: int, values: Array) -> NDArray[np.float32]:
        """What quantized values of an activation stand for; floats as they are."""
        scale, zero = self.scale(tensor)
        if not len(scale):
            return np.asarray(values, np.float32)
        return (values.astype(np.float32) - np.float32(zero[0])) * np.float32(scale[0])

    def with_ranges(self, ranges: Mapping[int, tuple[float, float]]) -> bytes:
        """The file with the lowest and the highest value of these tensors noted, as quantizers expect it."""
        for tensor, (low, high) in ranges.items():
            noted = self._schema.QuantizationParametersT()
            noted.min, noted.max = [low], [high]
            self._graph.tensors[tensor].quantization = noted
        data = self.to_bytes()
        for tensor in ranges:
            self._graph.tensors[tensor].quantization = None
        return data

    def part(self, start: int, stop: int, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """A file of the operators from `start` up to `stop`, with these tensors as its inputs and outputs."""
        graph, model = self._graph, self._model
        kept = graph.operators, graph.inputs, graph.outputs, model.signatureDefs
        graph.operators, graph.inputs, graph.outputs, model.signatureDefs = (
            graph.operators[start:stop], list(inputs), list(outputs), []
        )
        data = self.to_bytes()
        graph.operators, graph.inputs, graph.outputs, model.signatureDefs = kept
        return data


class Stage:
    """Photos on their way through a graph: run up to an operator, then on, with whatever its constants are by then."""

    def __init__(self, graph: Graph, photos: Sequence[NDArray[np.uint8]]) -> None:
        self._graph, self._at = graph, 0
        (tensor,) = graph.inputs
        dtype = graph.dtype(tensor)
        self._live: list[dict[int, Array]] = [{tensor: photo[np.newaxis].astype(dtype)} for photo in photos]

    def advance(self, operator: Operator) -> Iterator[NDArray[np.float32]]:
        """Run to just before `operator`; its first input, as real numbers, for each photo."""
        self._run(operator.index)
        tensor = operator.inputs[0]
        for live in self._live:
            yield self._graph.real(tensor, live[tensor])

    def _run(self, stop: int) -> None:
        if stop == self._at:
            return
        rest = self._graph.operators[self._at:]
        done, later = rest[: stop - self._at], rest[stop - self._at:]
        known = set(self._live[0])
        inputs = sorted(known & {tensor for operator in done for tensor in operator.inputs})
        needed = {tensor for operator in later for tensor in operator.inputs}
        outputs = sorted(needed & {tensor for operator in done for tensor in operator.outputs})
        run = Runner(self._graph.part(self._at, stop, inputs, outputs))
        for live in self._live:
            made = run(*(live[tensor] for tensor in inputs))
            for tensor in known - needed:
                del live[tensor]
            live.update(zip(outputs, made, strict=True))
        self._at = stop


class Runner:
    """A file in LiteRT's interpreter, its inputs and outputs by their order."""

    def __init__(self, data: bytes) -> None:
        self._interpreter = heavy("ai_edge_litert.interpreter").Interpreter(model_content=data, num_threads=THREADS)
        self._interpreter.allocate_tensors()
        self._inputs = [detail["index"] for detail in self._interpreter.get_input_details()]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def __call__(self, *arrays: Array) -> list[Array]:
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


def _tensors(indices: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(int(index) for index in (() if indices is None else indices) if index >= 0)
