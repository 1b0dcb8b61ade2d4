"""Quantization-aware fine-tuning: weights learn to be rounded to the nearest, from photos without labels.

The float file is rebuilt in TensorFlow with every rounding that its integer file will do, and its weights are moved until its
scores and embedding are again those that the untouched weights gave. Batch norm is folded in a .tflite file and ranges come
calibrated, so nothing is left that would have to warm up.

Sources: B. Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(CVPR 2018), 3, the simulated rounding; Y. Bengio, N. Léonard and A. Courville, "Estimating or Propagating Gradients Through
Stochastic Neurons" (arXiv:1308.3432), the gradient straight through it; G. Hinton, O. Vinyals and J. Dean, "Distilling the
Knowledge in a Neural Network" (arXiv:1503.02531), the float file as teacher; D. Kingma and J. Ba, "Adam" (ICLR 2015).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image
from pawlatch_convert.graph import CONVOLUTIONS, Array, Graph, Operator, Runner
from pawlatch_convert.heavy import heavy
from pawlatch_convert.ranges import Range
from pawlatch_convert.recipes import ConversionError

RATE = 0.003  # of a quantization step, about what a weight moves in one update: one number for all layers and models
LOOKS = 10.0  # weight of the embedding's cosine against the scores' KL, which alone is soon learned by heart
HIGHEST = 127  # int8 weights are symmetric, -127..127
_FORGET = (0.9, 0.999)  # Adam's, of the gradient's mean and of its square's
_SAME_SCALE = ("RESHAPE", "PAD", "AVERAGE_POOL_2D")  # give their input's integers on, or the mean of some
_ACTIVATIONS = {0: "identity", 1: "relu", 3: "relu6"}  # schema.fbs: ActivationFunctionType
_PADDINGS = ("SAME", "VALID")  # schema.fbs: Padding


@dataclass
class _Weights:
    """A kernel or bias in steps of the integer grid that it is going to be rounded to."""

    steps: Any  # tf.Variable, of the constant's own shape
    step: NDArray[np.float32]  # what one step is worth, to be broadcast against it
    free: NDArray[np.float32]  # 1 where it may move; the largest weight of a channel is 0, for the step is derived from it
    is_rounded: bool

    def values(self) -> Any:
        """What the integer file will multiply by, or add; its gradient passes straight through the rounding."""
        tf = heavy("tensorflow")
        if not self.is_rounded:
            return self.steps * self.step
        kept = tf.clip_by_value(self.steps, -HIGHEST, HIGHEST)
        return (kept + tf.stop_gradient(tf.round(kept) - kept)) * self.step


class Student:
    """A float graph in TensorFlow, rounding everything as the integer file of the same ranges does.

    Raises:
        ConversionError: an operator or an activation it does not know, or scores that no softmax gives.
    """

    def __init__(self, graph: Graph, ranges: Mapping[int, Range]) -> None:
        self._graph, self._ranges = graph, ranges
        makers = {operator.outputs[0]: operator for operator in graph.operators}
        softmaxes = [makers[tensor] for tensor in graph.outputs if tensor in makers and makers[tensor].kind == "SOFTMAX"]
        if len(softmaxes) != 1:
            raise ConversionError(f"fine-tuning needs one output that a SOFTMAX gives, got {len(softmaxes)}; leave --qat out")
        self._softmax = softmaxes[0]
        self.scores = graph.outputs.index(self._softmax.outputs[0])
        self.weights: dict[int, _Weights] = {}
        for operator in graph.operators:
            if operator.kind in CONVOLUTIONS:
                self._take(operator)
        pixels = heavy("tensorflow").zeros(graph.shape(graph.inputs[0]))
        self(pixels)  # an operator that is unknown is better known now than after the teacher's work

    def __call__(self, pixels: Any) -> tuple[list[Any], Any]:
        """From pixels (n, h, w, 3) to the file's outputs, each (n, ...), and the logarithms of the scores, unrounded."""
        tf = heavy("tensorflow")
        made: dict[int, Any] = {self._graph.inputs[0]: pixels}
        grids: dict[int, Range] = {}
        for operator in self._graph.operators:
            tensor = operator.outputs[0]
            output = self._run(operator, made)
            if operator.kind in _SAME_SCALE and operator.inputs[0] in grids:
                grids[tensor] = grids[operator.inputs[0]]
            else:
                grids[tensor] = (0.0, 255 / 256) if operator.kind == "SOFTMAX" else self._ranges[tensor]
            made[tensor] = _rounded(output, grids[tensor])
        logits = made[self._softmax.inputs[0]] * self._softmax.options.beta
        return [made[tensor] for tensor in self._graph.outputs], tf.nn.log_softmax(logits)

    def write(self) -> None:
        """Put the weights as they are by now into the graph."""
        for tensor, weights in self.weights.items():
            self._graph.set_constant(tensor, (weights.steps.numpy() * weights.step).astype(np.float32))

    def _take(self, operator: Operator) -> None:
        tf = heavy("tensorflow")
        kernel = self._constant(operator, 1)
        axes = (0, 1, 2) if operator.kind == "DEPTHWISE_CONV_2D" else tuple(range(1, kernel.ndim))
        largest = np.abs(kernel).max(axis=axes, keepdims=True)
        step = np.maximum(largest / HIGHEST, np.float32(1e-12))
        self.weights[operator.inputs[1]] = _Weights(
            tf.Variable(kernel / step), step, (np.abs(kernel) < largest).astype(np.float32), is_rounded=True
        )
        if len(operator.inputs) > 2:
            bias = self._constant(operator, 2)
            low, high = self._ranges[operator.outputs[0]]
            per_step = np.full(1, max(high - low, 1e-6) / 255, np.float32)  # as fine as 32 bits, moved by steps of the output
            self.weights[operator.inputs[2]] = _Weights(
                tf.Variable(bias / per_step), per_step, np.ones_like(bias), is_rounded=False
            )

    def _constant(self, operator: Operator, place: int) -> Array:
        values = self._graph.constant(operator.inputs[place]) if place < len(operator.inputs) else None
        if values is None:
            raise ConversionError(f"fine-tuning takes {operator.kind} with constants only, got one computed; leave --qat out")
        return values

    def _run(self, operator: Operator, made: Mapping[int, Any]) -> Any:
        """The operator's output, not yet rounded."""
        tf = heavy("tensorflow")
        options, shape = operator.options, self._graph.shape(operator.outputs[0])
        pixels = self._operand(operator.inputs[0], made)
        match operator.kind:
            case "CONV_2D":
                kernel, bias = self._kernel(operator)
                output = tf.nn.conv2d(
                    pixels, tf.transpose(kernel, (1, 2, 3, 0)), (options.strideH, options.strideW), _PADDINGS[options.padding],
                    dilations=(options.dilationHFactor, options.dilationWFactor),
                ) + bias
            case "DEPTHWISE_CONV_2D":
                kernel, bias = self._kernel(operator)
                output = tf.nn.depthwise_conv2d(
                    pixels, tf.reshape(kernel, (*kernel.shape[1:3], pixels.shape[-1], -1)),
                    (1, options.strideH, options.strideW, 1), _PADDINGS[options.padding],
                    dilations=(options.dilationHFactor, options.dilationWFactor),
                ) + bias
            case "FULLY_CONNECTED":
                kernel, bias = self._kernel(operator)
                output = tf.reshape(pixels, (-1, kernel.shape[1])) @ tf.transpose(kernel) + bias
            case "ADD":
                output = pixels + self._operand(operator.inputs[1], made)
            case "SUB":
                output = pixels - self._operand(operator.inputs[1], made)
            case "MUL":
                output = pixels * self._operand(operator.inputs[1], made)
            case "MEAN":
                output = tf.reduce_mean(pixels, self._constant(operator, 1).reshape(-1), keepdims=options.keepDims)
            case "RESHAPE":
                output = tf.reshape(pixels, (-1, *shape[1:]))
            case "PAD":
                output = tf.pad(pixels, self._constant(operator, 1))
            case "AVERAGE_POOL_2D":
                output = tf.nn.avg_pool2d(
                    pixels, (options.filterHeight, options.filterWidth), (options.strideH, options.strideW),
                    _PADDINGS[options.padding],
                )
            case "RELU":
                output = tf.nn.relu(pixels)
            case "RELU6":
                output = tf.nn.relu6(pixels)
            case "SOFTMAX":
                output = tf.nn.softmax(pixels * options.beta)
            case kind:
                raise ConversionError(f"fine-tuning does not know the operator {kind}; leave --qat out")
        return self._activated(output, operator)

    def _operand(self, tensor: int, made: Mapping[int, Any]) -> Any:
        """What an earlier operator made, or a constant, which the integer file rounds as well."""
        if tensor in made:
            return made[tensor]
        values = self._graph.constant(tensor)
        assert values is not None
        return _rounded(heavy("tensorflow").constant(values), (float(values.min()), float(values.max())))

    def _kernel(self, operator: Operator) -> tuple[Any, Any]:
        values = [self.weights[tensor].values() for tensor in operator.inputs[1:]]
        return values[0], values[1] if len(values) > 1 else 0.0

    def _activated(self, output: Any, operator: Operator) -> Any:
        number = 0 if operator.is_linear else operator.options.fusedActivationFunction
        if number not in _ACTIVATIONS:
            raise ConversionError(f"fine-tuning does not know activation {number} of a {operator.kind}; leave --qat out")
        tf = heavy("tensorflow")
        return {"identity": tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}[_ACTIVATIONS[number]](output)


def fine_tune(graph: Graph, ranges: Mapping[int, Range], photos: Sequence[Image], *, epochs: int = 6, rate: float = RATE,
              batch: int = 16, seed: int = 0, progress: Callable[[str], None]) -> None:
    """Move the weights of a float graph until it says, when rounded to the nearest, what it says now.

    Rounding of another kind undoes it: after `rounding.round_weights` a file is worse than without fine-tuning.

    Args:
        graph: a float file; its kernels and biases are replaced when all is done, and not touched before.
        ranges: of every activation, as `ranges.quantize` will be given them.
        photos: fitted, uint8 (H, W, 3); no labels. Others than those the result is judged by.
        epochs: times each photo is seen.
        rate: of a quantization step, how far an update may move a weight at first; it falls to nothing along a line.
        batch: photos for each update.
        seed: of the order of the photos.
        progress: is told after the second update what all of them will take; what it raises ends the training.

    Raises:
        ConversionError: the graph holds an operator that cannot be rebuilt.
    """
    tf = heavy("tensorflow")
    student = Student(graph, ranges)
    teacher = _outputs(graph, photos)
    train = _trainer(student)
    order = np.random.default_rng(seed)
    batch = min(batch, len(photos))
    chosen = [rows for _ in range(epochs) for rows in _batches(order.permutation(len(photos)), batch)]
    start = time.monotonic()
    for i, rows in enumerate(chosen):
        pixels = np.stack([photos[row] for row in rows]).astype(np.float32)
        train(tf.constant(pixels), [tf.constant(output[rows]) for output in teacher], tf.constant(rate * (1 - i / len(chosen))))
        if i == 0:
            start = time.monotonic()  # the first one is traced, and takes longer
        elif i == 1:
            seconds = time.monotonic() - start
            progress(f"fine-tuning: {len(chosen)} updates of {seconds:.1f} s, about {seconds * len(chosen):.0f} s")
    student.write()


def _trainer(student: Student) -> Callable[..., Any]:
    """One update by Adam, as a function of pixels, the teacher's outputs and the rate; it returns the loss."""
    tf = heavy("tensorflow")
    weights = list(student.weights.values())
    variables = [kept.steps for kept in weights]
    means, squares = ([tf.Variable(tf.zeros_like(variable)) for variable in variables] for _ in range(2))
    updates = tf.Variable(0.0)

    def train(pixels: Any, teacher: list[Any], rate: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs, log_scores = student(pixels)
            loss = _divergence(teacher[student.scores], log_scores)
            for i, (wanted, given) in enumerate(zip(teacher, outputs, strict=True)):
                if i != student.scores:
                    loss += LOOKS * _angle(wanted, given)
        updates.assign_add(1.0)
        for kept, mean, square, slope in zip(weights, means, squares, tape.gradient(loss, variables), strict=True):
            slope = slope * kept.free
            mean.assign(_FORGET[0] * mean + (1 - _FORGET[0]) * slope)
            square.assign(_FORGET[1] * square + (1 - _FORGET[1]) * slope**2)
            unbiased = mean / (1 - _FORGET[0] ** updates), square / (1 - _FORGET[1] ** updates)
            kept.steps.assign_sub(rate * unbiased[0] / (tf.sqrt(unbiased[1]) + 1e-12))
        return loss

    compiled: Callable[..., Any] = tf.function(train, autograph=False)
    return compiled


def _rounded(values: Any, grid: Range) -> Any:
    """On the 256 levels that TFLite's quantizer takes for a range; the gradient is 1 within and 0 beyond."""
    low, high = min(grid[0], 0.0), max(grid[1], 0.0)
    scale = max(high - low, 1e-9) / 255
    above = floor(high / scale + 0.5)  # levels over 0; TensorFlow would round those below, which differs for -1..1
    return heavy("tensorflow").quantization.fake_quant_with_min_max_args(values, (above - 255) * scale, above * scale)


def _divergence(wanted: Any, log_given: Any) -> Any:
    """KL(wanted ‖ given), the mean over a batch (n, classes)."""
    tf = heavy("tensorflow")
    return tf.reduce_mean(tf.reduce_sum(wanted * (tf.math.log(tf.maximum(wanted, 1e-9)) - log_given), axis=-1))


def _angle(wanted: Any, given: Any) -> Any:
    """One minus the cosine, the mean over a batch (n, features)."""
    tf = heavy("tensorflow")
    wanted, given = (tf.math.l2_normalize(tf.reshape(rows, (rows.shape[0], -1)), axis=-1) for rows in (wanted, given))
    return 1 - tf.reduce_mean(tf.reduce_sum(wanted * given, axis=-1))


def _outputs(graph: Graph, photos: Sequence[Image]) -> list[NDArray[np.float32]]:
    """The graph's outputs, each (n, ...)."""
    run = Runner(graph.part(0, len(graph.operators), graph.inputs, graph.outputs))
    rows = [run(photo[np.newaxis].astype(np.float32)) for photo in photos]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _batches(order: NDArray[np.int64], batch: int) -> list[NDArray[np.int64]]:
    """Whole batches; what is left over is left out."""
    return [order[i: i + batch] for i in range(0, len(order) - batch + 1, batch)]
