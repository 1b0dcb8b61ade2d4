"""Calibration: the range of every activation, from photos run through the float file, and from it the integer file.

TFLite's own calibrator runs the reference kernels and takes twelve times as long for the same ranges.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image
from pawlatch.quiet import quiet
from pawlatch_convert.graph import Graph, Runner
from pawlatch_convert.heavy import heavy

Estimator = Literal["extremes", "percentile"]
TAIL = 10.0  # percent of the photos whose extremes a percentile leaves out, at either end
PIXELS = (0.0, 255.0)

Range = tuple[float, float]


def observe(graph: Graph, photos: Sequence[Image]) -> dict[int, NDArray[np.float64]]:
    """The lowest and the highest value (photos, 2) of every float tensor that an operator makes."""
    made_by_operators = (tensor for operator in graph.operators for tensor in operator.outputs)
    tensors = [tensor for tensor in made_by_operators if graph.dtype(tensor) is np.float32]
    run = Runner(graph.part(0, len(graph.operators), graph.inputs, tensors))
    rows = [[(made.min(), made.max()) for made in run(photo[np.newaxis].astype(np.float32))] for photo in photos]
    seen = np.asarray(rows, np.float64)
    return {tensor: seen[:, i] for i, tensor in enumerate(tensors)}


def estimate(seen: dict[int, NDArray[np.float64]], estimator: Estimator) -> dict[int, Range]:
    """A range for each tensor: from the lowest to the highest value of all photos, or of all but the wildest tenth."""
    low, high = (0.0, 100.0) if estimator == "extremes" else (TAIL, 100 - TAIL)
    return {
        tensor: (float(np.percentile(rows[:, 0], low)), float(np.percentile(rows[:, 1], high)))
        for tensor, rows in seen.items()
    }


def quantize(graph: Graph, ranges: dict[int, Range], *, keep_float: Sequence[str] = ()) -> bytes:
    """The file in integers: uint8 pixels in, float32 scores out, int8 between. What makes a tensor of `keep_float` stays.

    The pixels' range is 0..255 by contract, so that the camera's bytes need no arithmetic.
    """
    tf = heavy("tensorflow")
    convert: Any = heavy("tensorflow.lite.python.convert")  # what TFLiteConverter calls after its own calibration
    (pixels,) = graph.inputs
    with quiet():
        return bytes(convert.mlir_quantize(
            graph.with_ranges({**ranges, pixels: PIXELS}), input_data_type=tf.uint8, output_data_type=tf.float32,
            denylisted_nodes=list(keep_float) or None,
        ))
