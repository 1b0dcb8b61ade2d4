"""Rewrites of the float graph that change nothing it computes, and let integers compute it better.

The linear bottlenecks of MobileNetV2 are streams: tensors without activation that convolutions write, additions join and
other convolutions read. A channel of a stream may be scaled at all its writers and scaled back at all its readers. Where all
channels span the same range, one scale for the whole tensor fits each of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image
from pawlatch_convert.graph import CONVOLUTIONS, Graph, Operator, Runner

EVENNESS = 0.75  # of the way, in logarithms, to channels of one range: the readers' weights grow uneven instead
MOST = 32.0  # times a channel is scaled


@dataclass(frozen=True)
class Stream:
    """Tensors (1, h, w, c) that share their channels, the convolutions that write them, and those that read them."""

    tensors: tuple[int, ...]
    writers: tuple[Operator, ...]
    readers: tuple[Operator, ...]


def equalize(graph: Graph, photos: Sequence[Image]) -> int:
    """Bring the channels of every stream nearer to one range, as seen on `photos`. Returns how many streams there were.

    Sources: M. Nagel, M. van Baalen, T. Blankevoort and M. Welling, "Data-Free Quantization Through Weight Equalization and
    Bias Correction" (ICCV 2019), 4.1, here over whole residual streams and from activations instead of weights.
    """
    streams = list(find_streams(graph))
    tensors = [tensor for stream in streams for tensor in stream.tensors]
    if not tensors:
        return 0
    run = Runner(graph.part(0, len(graph.operators), graph.inputs, tensors))
    spans: dict[int, NDArray[np.float32]] = {}
    for photo in photos:
        for tensor, made in zip(tensors, run(photo[np.newaxis].astype(np.float32)), strict=True):
            span = np.abs(made).max(axis=(0, 1, 2))
            spans[tensor] = np.maximum(spans.get(tensor, span), span)
    for stream in streams:
        span = np.max([spans[tensor] for tensor in stream.tensors], axis=0).astype(np.float64)
        _scale(graph, stream, np.minimum((span.max() / np.maximum(span, 1e-6)) ** EVENNESS, MOST))
    return len(streams)


def find_streams(graph: Graph) -> Iterator[Stream]:
    """The streams whose every writer and reader is a convolution or an addition within the stream."""
    writer = {tensor: operator for operator in graph.operators for tensor in operator.outputs}
    readers: dict[int, list[Operator]] = defaultdict(list)
    for operator in graph.operators:
        for tensor in operator.inputs:
            readers[tensor].append(operator)
    for tensors in _joined(graph):
        written = [writer[tensor] for tensor in tensors if tensor in writer]
        read = [operator for tensor in tensors for operator in readers[tensor]]
        is_closed = (
            len(written) == len(tensors) and not set(tensors) & set(graph.outputs)
            and all(operator.is_linear and operator.kind in (*CONVOLUTIONS, "ADD") for operator in written)
            and all(operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D") or operator.outputs[0] in tensors for operator in read)
        )
        ends = [operator for operator in (*written, *read) if operator.kind in CONVOLUTIONS]
        if is_closed and all(operator in graph.convolutions() for operator in ends):
            yield Stream(tensors, tuple(o for o in written if o.kind != "ADD"), tuple(o for o in read if o.kind != "ADD"))


def _joined(graph: Graph) -> list[tuple[int, ...]]:
    """Maps (1, h, w, c) in sets that additions of two maps join."""
    sets: dict[int, set[int]] = {
        tensor: {tensor} for operator in graph.operators for tensor in operator.outputs if len(graph.shape(tensor)) == 4
    }
    for operator in graph.operators:
        if operator.kind == "ADD" and all(tensor in sets for tensor in operator.inputs):
            whole = set().union(*(sets[tensor] for tensor in (*operator.inputs, *operator.outputs)))
            sets.update(dict.fromkeys(whole, whole))
    return sorted({tuple(sorted(whole)) for whole in sets.values()})


def _scale(graph: Graph, stream: Stream, scales: NDArray[np.float64]) -> None:
    """Multiply the channels of a stream by `scales` (c,) where they are written, and divide where they are read."""
    scales = scales.astype(np.float32)
    for operator in stream.writers:
        kernel, bias = graph.weights(operator)
        per_output = scales if operator.kind == "DEPTHWISE_CONV_2D" else scales.reshape(-1, *[1] * (kernel.ndim - 1))
        graph.set_constant(operator.inputs[1], kernel * per_output)
        graph.set_constant(operator.inputs[2], bias * scales)
    for operator in stream.readers:
        graph.set_constant(operator.inputs[1], graph.weights(operator)[0] / scales)  # their last axis is the channels read
