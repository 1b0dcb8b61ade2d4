"""Integer ONNX files, and how they come by the weights that were rounded with care for the TFLite file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch_convert.graph import Array, Graph
from pawlatch_convert.heavy import heavy

SAME = 1e-3  # of a kernel's largest weight: by how much the two converters' folding of batch norm may differ
_LAYOUTS = {  # from TFLite's kernels to those that ONNX may have
    "CONV_2D": ((0, 3, 1, 2),), "DEPTHWISE_CONV_2D": ((3, 0, 1, 2),), "FULLY_CONNECTED": ((1, 0), (0, 1)),
}

Batch = dict[str, NDArray[np.float32]]
Steps = Mapping[str, list[dict[str, Any]]]


def quantize_onnx(model: Any, batches: Iterable[Batch], path: Path, *, steps: Steps | None = None) -> bytes:
    """A float `onnx.ModelProto` in integers: QDQ, activations uint8, weights int8 per channel, the scores' softmax in float.

    Args:
        model: which is not altered.
        batches: calibration photos, each {input name: float32 (1, H, W, 3)}.
        path: of a file to be written on the way.
        steps: of weights, as `carry_over` gives them; ONNX Runtime's own where there are none.
    """
    onnx, quantization = heavy("onnx"), heavy("onnxruntime.quantization")
    types = quantization.QuantType
    quantization.quantize_static(
        onnx.ModelProto.FromString(model.SerializeToString()), str(path), _Reader(batches),  # a copy: it alters what it gets
        quant_format=quantization.QuantFormat.QDQ, per_channel=True, activation_type=types.QUInt8, weight_type=types.QInt8,
        nodes_to_exclude=[node.name for node in model.graph.node if node.op_type == "Softmax"],  # it costs nothing
        extra_options={"TensorQuantOverrides": dict(steps or {}), "QDQDisableWeightAdjustForInt32Bias": bool(steps)},
    )
    return path.read_bytes()


def carry_over(model: Any, unrounded: Graph, rounded: Graph) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """The float ONNX model with the weights and biases of an int8 .tflite file, and the steps that keep their integers.

    ONNX Runtime rounds each weight to the nearest step and knows neither equalization nor the sums that weights go into.

    Args:
        model: the float `onnx.ModelProto`, not altered.
        unrounded: the float .tflite file of the same SavedModel, before any rewrite: its kernels find their twins by value.
        rounded: the int8 file made of it; its convolutions stand in the same order.

    Raises:
        ValueError: a kernel has no twin, or several, or stayed float.
    """
    onnx = heavy("onnx")
    model = onnx.ModelProto.FromString(model.SerializeToString())
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm") and {*node.input[1:3]} <= tensors.keys()]
    steps: dict[str, list[dict[str, Any]]] = {}
    for real, integer in zip(unrounded.convolutions(), rounded.convolutions(), strict=True):
        kernel, bias = rounded.weights(integer)
        scales, bias_scales = (rounded.scale(tensor)[0].astype(np.float32) for tensor in integer.inputs[1:])
        node, layout = _twin(unrounded.weights(real)[0], _LAYOUTS[real.kind], nodes, tensors)
        if node is None or not len(scales):
            raise ValueError(f"the ONNX graph has no twin of {unrounded.name(real.outputs[0])}; its weights stay its own")
        nodes.remove(node)
        axis = 3 if real.kind == "DEPTHWISE_CONV_2D" else 0
        per_channel = np.broadcast_to(scales, kernel.shape[axis])
        values = np.moveaxis(np.moveaxis(kernel, axis, -1).astype(np.float32) * per_channel, -1, axis)
        given = {"kernel": values.transpose(layout), "bias": (bias * bias_scales).astype(np.float32)}
        node.input[1:3] = [f"{node.output[0]}/{name}" for name in given]  # its own: nodes may have shared their constants
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in zip(node.input[1:3], given.values(), strict=True)
        )
        steps[node.input[1]] = [
            {"scale": scale, "zero_point": np.int8(0), "axis": layout.index(axis)} for scale in per_channel
        ]
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
    return model, steps


class _Reader:
    """What ONNX Runtime asks for its calibration batches."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches: Iterator[Batch] = iter(batches)

    def get_next(self) -> Batch | None:
        return next(self._batches, None)


def _twin(kernel: Array, layouts: tuple[tuple[int, ...], ...], nodes: list[Any], tensors: dict[str, Any]) -> tuple[Any, Any]:
    """The only node with these weights, and how they are to be transposed for it; (None, None) where there is not just one."""
    array = heavy("onnx").numpy_helper.to_array
    found = [
        (node, layout) for layout in layouts for node in nodes
        if tuple(tensors[node.input[1]].dims) == tuple(kernel.shape[axis] for axis in layout)
        and np.abs(array(tensors[node.input[1]]) - kernel.transpose(layout)).max() <= SAME * np.abs(kernel).max()
    ]
    return found[0] if len(found) == 1 else (None, None)
