"""Fine-tuning with the rounding in sight: the rebuilt graph rounds as the integer file does, and learns to do without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pawlatch.image import fit
from pawlatch_convert.graph import Graph, Runner
from pawlatch_convert.heavy import heavy
from pawlatch_convert.qat import Student, fine_tune
from pawlatch_convert.ranges import Range, estimate, observe, quantize
from pawlatch_convert.recipes import ConversionError, with_extremes

SIZE_HW = (48, 48)
Made = Callable[[Any], Any]


def silent(line: str) -> None:
    """Nobody is told."""


def build_float(*, body: Made = lambda features: features, scores: str = "softmax") -> bytes:
    """A float .tflite file of random weights with every operator that fine-tuning knows, and what `body` adds."""
    tf = heavy("tensorflow")
    rng = np.random.default_rng(4)

    def kernel(*shape: int, gain: float = 2.0) -> Any:
        uneven = np.exp(rng.normal(0, 0.7, shape[-1]))  # or rounding would do no harm that could be undone
        return tf.constant((rng.normal(0, (gain / np.prod(shape[:-1])) ** 0.5, shape) * uneven).astype(np.float32))

    kernels = [kernel(3, 3, 3, 12), kernel(3, 3, 12, 1), kernel(1, 1, 12, 12), kernel(3, 3, 12, 16)]
    head = kernel(64, 3, gain=3.0)

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE_HW, 3), tf.float32, name="image")])
    def serve(image: Any) -> Any:
        first = tf.nn.relu6(tf.nn.conv2d(image / 127.5 - 1.0, kernels[0], 2, "SAME") + 0.1)
        wide = tf.nn.relu(tf.nn.depthwise_conv2d(first, kernels[1], (1, 1, 1, 1), "SAME") - 0.1)
        joined = tf.nn.conv2d(wide, kernels[2], 1, "SAME") + first
        padded = tf.nn.relu6(tf.pad(joined, ((0, 0), (0, 1), (0, 1), (0, 0))))
        features = tf.nn.relu6(body(tf.nn.conv2d(padded, kernels[3], 2, "VALID")) * 0.8)
        pooled = tf.nn.avg_pool2d(features, 6, 6, "VALID")
        embedding = tf.nn.relu(tf.reshape(pooled - 0.5 * tf.reduce_mean(features, (1, 2, 3), keepdims=True), (1, 64)))
        return {"class_scores": getattr(tf.nn, scores)(embedding @ head), "embedding": embedding}

    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], serve).convert())


@pytest.fixture(scope="session")
def float_file() -> bytes:
    return build_float()


@pytest.fixture(scope="session")
def photos() -> list[np.ndarray]:
    """Blobs before a noisy wall, as in conftest, of fewer colours."""
    rng = np.random.default_rng(5)
    walls = rng.normal(rng.uniform(80, 170, (48, 1, 1, 1)), 25, (48, 64, 80, 3))
    for wall in walls:
        top, left = rng.integers(0, 30, 2)
        wall[top: top + 30, left: left + 30, rng.integers(3)] += 90
    return with_extremes([fit(np.clip(wall, 0, 255).astype(np.uint8), SIZE_HW) for wall in walls])  # pixels scaled to -1..1


@pytest.fixture(scope="session")
def ranges(float_file: bytes, photos: list[np.ndarray]) -> dict[int, Range]:
    return estimate(observe(Graph(float_file), photos), "extremes")


@pytest.fixture(scope="session")
def narrow_ranges(ranges: dict[int, Range]) -> dict[int, Range]:
    """Too narrow: what they cut off does harm that weights and biases can make good in part."""
    return {tensor: (0.7 * low, 0.7 * high) for tensor, (low, high) in ranges.items()}


def file_scores(data: bytes, photos: list[np.ndarray]) -> np.ndarray:
    graph = Graph(data)
    run = Runner(data)
    dtype = graph.dtype(graph.inputs[0])
    rows = [run(photo[np.newaxis].astype(dtype)) for photo in photos]
    column = next(i for i, output in enumerate(rows[0]) if output.shape == (1, 3))
    return np.concatenate([row[column] for row in rows]).astype(np.float64)


def simulated_scores(data: bytes, ranges: dict[int, Range], photos: list[np.ndarray]) -> np.ndarray:
    student = Student(Graph(data), ranges)
    outputs, _ = student(heavy("tensorflow").constant(np.stack(photos).astype(np.float32)))
    return np.asarray(outputs[student.scores].numpy(), np.float64)


def test_simulated_rounding_is_that_of_the_integer_file(
    float_file: bytes, ranges: dict[int, Range], photos: list[np.ndarray]
) -> None:
    integer = file_scores(quantize(Graph(float_file), ranges), photos)
    off = np.abs(simulated_scores(float_file, ranges, photos) - integer)
    assert off.max() <= 2 / 256
    harm = np.abs(file_scores(float_file, photos) - integer)
    assert off.mean() < harm.mean() / 4  # or agreement would say nothing about rounding


def test_other_ranges_would_be_noticed(
    float_file: bytes, ranges: dict[int, Range], narrow_ranges: dict[int, Range], photos: list[np.ndarray]
) -> None:
    integer = file_scores(quantize(Graph(float_file), ranges), photos)
    assert np.abs(simulated_scores(float_file, narrow_ranges, photos) - integer).max() > 2 / 256


def test_fine_tuning_brings_the_rounded_scores_nearer_to_the_float_file(
    float_file: bytes, narrow_ranges: dict[int, Range], photos: list[np.ndarray]
) -> None:
    wanted = file_scores(float_file, photos)

    def divergence(graph: Graph) -> float:  # of scores before they become steps of 1/256, which would hide it
        _, log_scores = Student(graph, narrow_ranges)(heavy("tensorflow").constant(np.stack(photos).astype(np.float32)))
        return float((wanted * (np.log(wanted) - log_scores.numpy())).sum(1).mean())

    graph = Graph(float_file)
    before = divergence(graph)
    said: list[str] = []
    fine_tune(graph, narrow_ranges, photos, epochs=40, rate=0.01, progress=said.append)
    assert divergence(graph) < 0.9 * before
    assert len(said) == 1
    assert said[0].startswith("fine-tuning: 120 updates of ")


def test_the_same_seed_gives_the_same_bytes(float_file: bytes, ranges: dict[int, Range], photos: list[np.ndarray]) -> None:
    made = []
    for seed in (1, 1, 2):
        graph = Graph(float_file)
        fine_tune(graph, ranges, photos, epochs=1, seed=seed, progress=silent)
        made.append(graph.to_bytes())
    assert made[0] == made[1] != made[2]


def test_a_training_cut_short_leaves_the_graph_as_it_was(
    float_file: bytes, ranges: dict[int, Range], photos: list[np.ndarray]
) -> None:
    def refuse(line: str) -> None:
        raise TimeoutError(line)

    graph = Graph(float_file)
    untouched = graph.to_bytes()
    with pytest.raises(TimeoutError):
        fine_tune(graph, ranges, photos, progress=refuse)
    assert graph.to_bytes() == untouched


def test_fewer_photos_than_a_batch_are_enough(float_file: bytes, ranges: dict[int, Range], photos: list[np.ndarray]) -> None:
    graph = Graph(float_file)
    fine_tune(graph, ranges, photos[:3], epochs=1, progress=silent)
    assert graph.to_bytes() != Graph(float_file).to_bytes()


def test_an_unknown_operator_is_named(photos: list[np.ndarray]) -> None:
    graph = Graph(build_float(body=heavy("tensorflow").nn.elu))
    with pytest.raises(ConversionError, match="does not know the operator ELU; leave --qat out"):
        fine_tune(graph, estimate(observe(graph, photos[:2]), "extremes"), photos, progress=silent)


def test_scores_that_no_softmax_gives_are_refused(photos: list[np.ndarray]) -> None:
    graph = Graph(build_float(scores="sigmoid"))
    with pytest.raises(ConversionError, match="one output that a SOFTMAX gives, got 0"):
        fine_tune(graph, estimate(observe(graph, photos[:2]), "extremes"), photos, progress=silent)
