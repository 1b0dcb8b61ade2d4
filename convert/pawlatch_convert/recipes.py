"""How each variant is made. A recipe's name is its specification, and this table is where it is decoded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
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
from pawlatch_convert.graph import Graph
from pawlatch_convert.heavy import heavy
from pawlatch_convert.onnx_files import carry_over, quantize_onnx
from pawlatch_convert.ranges import estimate, observe, quantize
from pawlatch_convert.savedmodel import SavedModel

Precision = Literal["float32", "float16", "int8_dynamic", "int8", "int8+float", "int16x8"]
ONNX_OPSET = 17  # the newest that tf2onnx and the ONNX Runtime of older boards both know
WIDE_PHOTOS = 20  # int16 has range to spare, and TFLite's calibrator is slow


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
        return self.precision in ("int8", "int16x8")

    @property
    def takes_bytes(self) -> bool:
        """Whether it takes the camera's bytes as they are: uint8, scale 1, zero point 0."""
        return self.precision in ("int8", "int8+float") and self.format == "tflite"


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("float32", "tflite", "float32", "TFLite as trained; the reference conversion, always made"),
        Recipe("float16", "tflite", "float16", "TFLite with weights of half the size"),
        Recipe("int8_dynamic", "tflite", "int8_dynamic", "TFLite with int8 weights and float activations"),
        Recipe("int8", "tflite", "int8", "TFLite in integers from the camera's bytes to the scores"),
        Recipe("int16x8", "tflite", "int16x8", "TFLite with int8 weights and int16 activations; exact, slow"),
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
        return guarded(recipe.name, lambda: self._made(recipe))

    @cached_property
    def float_tflite(self) -> bytes:
        """The float32 file: the reference conversion, and what the integer files are made of."""
        return self._tflite(RECIPES[REFERENCE])

    def integer_onnx(self, rounded: bytes | None = None) -> bytes:
        """The int8 ONNX file; with the integers of a .tflite file that was `rounded` with care, where there is one."""
        model, steps = self._float_onnx, None
        if rounded is not None:
            model, steps = carry_over(model, Graph(self.float_tflite), Graph(rounded))
        return quantize_onnx(model, self._batches(), self._scratch / "int8.onnx", steps=steps)

    def _made(self, recipe: Recipe) -> bytes:
        if recipe.format == "onnx":
            return bytes(self._float_onnx.SerializeToString()) if recipe.precision == "float32" else self.integer_onnx()
        if recipe.precision == "float32":
            return self.float_tflite
        if recipe.precision == "int8":
            graph = Graph(self.float_tflite)
            return quantize(graph, estimate(observe(graph, self._calibration), "extremes"))
        return self._tflite(recipe)

    def _tflite(self, recipe: Recipe) -> bytes:
        tf = heavy("tensorflow")
        lite = tf.lite
        converter = lite.TFLiteConverter.from_saved_model(str(self._static_folder))
        if recipe.precision != "float32":
            converter.optimizations = [lite.Optimize.DEFAULT]
        if recipe.precision == "float16":
            converter.target_spec.supported_types = [tf.float16]  # NumPy's would be passed over in silence
        if recipe.precision == "int16x8":
            converter.representative_dataset = lambda: self._batches(WIDE_PHOTOS)
            converter.target_spec.supported_ops = [lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8]
        return bytes(converter.convert())

    def _batches(self, most: int | None = None) -> Iterator[dict[str, NDArray[np.float32]]]:
        for pixels in self._calibration[:most]:
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


def guarded(name: str, make: Callable[[], bytes]) -> bytes:
    """What `make` returns, in silence.

    Raises:
        ConversionError: it refuses the graph.
        OSError: the disk refuses.
    """
    try:
        with quiet():
            return make()
    except (OSError, MemoryError, PawlatchError):
        raise
    except Exception as error:  # MLIR, tf2onnx and ONNX Runtime each raise what they like
        raise ConversionError(f"{name} cannot be made of this graph: {_gist(error)}") from error


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
