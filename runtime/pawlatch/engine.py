"""LiteRT and ONNX Runtime behind one tiny protocol: pixels in, named float32 outputs out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import EngineError

T = TypeVar("T")
Outputs = dict[str, NDArray[np.float32]]


class Engine(Protocol):
    """Runs one converted file. `input_dtype` is uint8 for full-integer files, float32 for all others."""

    input_dtype: np.dtype[Any]
    input_shape: tuple[int, ...]

    def __call__(self, batch: NDArray[Any]) -> Outputs:
        """Run on RGB pixels (1, H, W, 3), values 0..255; outputs by their signature names, float32 (1, n)."""
        ...


class LiteRTEngine:
    """A .tflite file in LiteRT's interpreter. Its tensors are found by the names in its signature, never by their order.

    The signature's own runner would resize and allocate before each inference; here the pixels go straight to the input tensor.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        try:
            # Not by its path: that maps the file, and who writes over it then kills this process.
            self._interpreter = _interpreter_class()(model_content=path.read_bytes(), num_threads=threads)
            self._interpreter.allocate_tensors()
            signature = self._interpreter.get_signature_runner()
            inputs, outputs = signature.get_input_details(), signature.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"LiteRT cannot load {path} ({_first_line(error)}); convert the model again") from error
        _, details = _only(inputs.items(), path)
        self._input = details["index"]
        self._outputs = {name: output["index"] for name, output in outputs.items()}
        if not {*self._outputs.values()} <= {output["index"] for output in self._interpreter.get_output_details()}:
            raise EngineError(f"the signature of {path} is not that of its main graph; convert the model again")
        self.input_dtype = np.dtype(details["dtype"])
        self.input_shape = tuple(int(side) for side in details["shape"])

    def __call__(self, batch: NDArray[Any]) -> Outputs:
        try:
            self._interpreter.set_tensor(self._input, batch)
            self._interpreter.invoke()
            return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}  # copies
        except (ValueError, RuntimeError) as error:
            raise EngineError(f"inference failed ({_first_line(error)})") from error


class OnnxEngine:
    """An .onnx file in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        try:
            import onnxruntime  # heavy, and only for those who chose ONNX
        except ImportError as error:
            raise EngineError(f'{path.name} needs ONNX Runtime; type: pip install "pawlatch[onnx]"') from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own exception types share no public root
            raise EngineError(f"ONNX Runtime cannot load {path} ({_first_line(error)}); convert the model again") from error
        inputs = _only(self._session.get_inputs(), path)
        self._input_name = inputs.name
        self._output_names = [output.name for output in self._session.get_outputs()]
        self.input_dtype = np.dtype(np.uint8 if "uint8" in inputs.type else np.float32)
        self.input_shape = tuple(side if isinstance(side, int) else 1 for side in inputs.shape)

    def __call__(self, batch: NDArray[Any]) -> Outputs:
        try:
            outputs = self._session.run(self._output_names, {self._input_name: batch})
        except Exception as error:
            raise EngineError(f"inference failed ({_first_line(error)})") from error
        return dict(zip(self._output_names, outputs, strict=True))


def open_engine(path: Path, *, threads: int = 1) -> Engine:
    """The engine for a file, by its suffix.

    Raises:
        EngineError: the engine is not installed, or it cannot load the file.
    """
    return OnnxEngine(path, threads=threads) if path.suffix == ".onnx" else LiteRTEngine(path, threads=threads)


def _interpreter_class() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter
        except ImportError as error:
            raise EngineError(
                "no TFLite interpreter is installed; type: pip install ai-edge-litert (or, on Python 3.11 and older "
                "boards, tflite-runtime)"
            ) from error
    return Interpreter


def _only(inputs: Iterable[T], path: Path) -> T:
    first, *others = inputs
    if others:
        raise EngineError(f"a model must have one input, the pixels, but {path} has {1 + len(others)}; convert it again")
    return first


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
