"""How each variant is made. A recipe's name is its specification, and this table is where it is decoded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import Format
from pawlatch.errors import PawlatchError
from pawlatch.image import Image
from pawlatch.quiet import quiet
from pawlatch_convert.heavy import heavy
from pawlatch_convert.savedmodel import SavedModel

Precision = Literal["float32", "float16", "int8_dynamic", "int8"]
ONNX_OPSET = 17  # the newest that tf2onnx and the ONNX Runtime of older boards both know


class ConversionError(PawlatchError, RuntimeError):
    """A converter that refuses a graph."""


@dataclass(frozen=True)
class Recipe:
    """One kind of converted file."""

    name: str
    format: Format
    precision: Precision
    help: str

    @property
    def flag(self) -> str:
        """What asks for it on the command line; `--onnx` alone is ONNX as trained."""
        return "--" + self.name.replace("onnx_float32", "onnx").replace("_", "-")

    @property
    def is_integer(self) -> bool:
        """Whether its every multiplication must be one of integers."""
        return self.precision == "int8"

    @property
    def takes_bytes(self) -> bool:
        """Whether it takes the camera's bytes as they are: uint8, scale 1, zero point 0."""
        return self.is_integer and self.format == "tflite"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "tflite", "float32", "TFLite as trained; the reference conversion, always made"),
        Recipe("float16", "tflite", "float16", "TFLite with weights of half the size"),
        Recipe("int8_dynamic", "tflite", "int8_dynamic", "TFLite with int8 weights and float activations"),
        Recipe("int8", "tflite", "int8", "TFLite in integers from the camera's bytes to the scores"),
        Recipe("onnx_float32", "onnx", "float32", "ONNX as trained"),
        Recipe("onnx_int8", "onnx", "int8", "ONNX in integers (QDQ, per channel)"),
    )
}
REFERENCE = "float32"


class Converter:
    """Makes the files of one SavedModel. What several recipes need is made once.

    Args:
        model: the SavedModel.
        calibration: fitted photos, uint8 (H, W, 3), from which the ranges of activations are taken.
        scratch: an empty folder for intermediate files.
    """

    def __init__(self, model: SavedModel, calibration: Sequence[Image], scratch: Path) -> None:
        self._model = model
        self._calibration = with_extremes(calibration)
        self._scratch = scratch

    def convert(self, recipe: Recipe) -> bytes:
        """The file's bytes.

        Raises:
            ConversionError: the converter refuses the graph.
            OSError: the disk refuses.
        """
        make = self._tflite if recipe.format == "tflite" else self._onnx
        try:
            with quiet():
                return make(recipe)
        except (OSError, MemoryError, PawlatchError):
            raise
        except Exception as error:  # MLIR, tf2onnx and ONNX Runtime each raise what they like
            raise ConversionError(f"{recipe.name} cannot be made of this graph: {_gist(error)}") from error

    def _tflite(self, recipe: Recipe) -> bytes:
        tf = heavy("tensorflow")
        lite = tf.lite
        converter = lite.TFLiteConverter.from_saved_model(str(self._static_folder))
        if recipe.precision != "float32":
            converter.optimizations = [lite.Optimize.DEFAULT]
        if recipe.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]  # NumPy's would be passed over in silence
        if recipe.precision == "int8":
            converter.representative_dataset = self._batches
            converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
        return bytes(converter.convert())

    def _onnx(self, recipe: Recipe) -> bytes:
        return bytes(self._float_onnx.SerializeToString()) if recipe.precision == "float32" else self._quantized_onnx()

    def _quantized_onnx(self) -> bytes:
        onnx, quantization = heavy("onnx"), heavy("onnxruntime.quantization")
        types = quantization.QuantType
        path = self._scratch / "int8.onnx"
        model = onnx.ModelProto.FromString(self._float_onnx.SerializeToString())  # quantize_static alters what it gets
        quantization.quantize_static(
            model, str(path), _Reader(self._batches()), quant_format=quantization.QuantFormat.QDQ, per_channel=True,
            activation_type=types.QUInt8, weight_type=types.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "Softmax"],  # it costs nothing
        )
        return path.read_bytes()

    def _batches(self) -> Iterator[dict[str, NDArray[np.float32]]]:
        for pixels in self._calibration:
            yield {self._model.input_name: pixels[np.newaxis].astype(np.float32)}

    @cached_property
    def _static_folder(self) -> Path:
        return self._model.save_static(self._scratch / "static")

    @cached_property
    def _float_onnx(self) -> Any:
        function = self._model.function
        model, _ = heavy("tf2onnx").convert.from_function(
            function, input_signature=function.input_signature, opset=ONNX_OPSET
        )
        return model


class _Reader:
    """What ONNX Runtime asks for its calibration batches."""

    def __init__(self, batches: Iterator[dict[str, NDArray[np.float32]]]) -> None:
        self._batches = batches

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


def with_extremes(calibration: Sequence[Image]) -> list[Image]:
    """The photos, with a black and a white pixel in the first one's corners.

    Then the input's range is 0..255, its scale 1 and its zero point 0, and the camera's bytes need no arithmetic.
    """
    first = calibration[0].copy()
    first[0, 0], first[-1, -1] = 0, 255
    return [first, *calibration[1:]]


def _gist(error: Exception) -> str:
    """What MLIR found no operator for, else the first line that says something."""
    if operators := sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error)))):
        return f"it has no operator for {', '.join(operators)}"
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]
