"""An ONNX file that takes over the integers of a TFLite file."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawlatch_convert.graph import Graph, Runner
from pawlatch_convert.heavy import heavy
from pawlatch_convert.onnx_files import carry_over, quantize_onnx
from pawlatch_convert.ranges import estimate, observe, quantize
from pawlatch_convert.rewrite import equalize
from pawlatch_convert.rounding import round_weights

SIZE_HW = (32, 32)


def build(seed: int) -> tuple[Any, Graph]:
    """The same random weights as ONNX and as .tflite, float: a convolution, a linear bottleneck, a depthwise one, a head."""
    tf = heavy("tensorflow")
    rng = np.random.default_rng(seed)
    kernels = [
        (rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape) * np.exp(rng.normal(0, 1, shape[-1]))).astype(np.float32)
        for shape in ((3, 3, 3, 16), (1, 1, 16, 8), (1, 1, 8, 16), (3, 3, 16, 1), (16, 3))
    ]

    def shift(channels: int) -> Any:
        return tf.fill([channels], 0.1)  # one for each: at a scalar tf2onnx gives up merging transposes

    @tf.function(input_signature=[tf.TensorSpec((1, *SIZE_HW, 3), tf.float32, name="image")], autograph=False)
    def serve(image: Any) -> Any:
        features = tf.nn.relu6(tf.nn.conv2d(image / 127.5 - 1.0, kernels[0], 2, "SAME") + shift(16))
        bottleneck = tf.nn.conv2d(features, kernels[1], 1, "SAME") + shift(8)
        features = tf.nn.relu6(tf.nn.conv2d(bottleneck, kernels[2], 1, "SAME") + shift(16))
        features = tf.nn.relu6(tf.nn.depthwise_conv2d(features, kernels[3], (1, 1, 1, 1), "SAME") + shift(16))
        embedding = tf.reduce_mean(features, (1, 2))
        return {"class_scores": tf.nn.softmax(embedding @ kernels[4] + shift(3)), "embedding": embedding}

    model, _ = heavy("tf2onnx").convert.from_function(serve, input_signature=serve.input_signature, opset=17)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], serve)
    return model, Graph(bytes(converter.convert()))


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
    return [photo.repeat(4, 0).repeat(4, 1) for photo in coarse]


@pytest.fixture(scope="module")
def both() -> tuple[Any, Graph]:
    return build(1)


@pytest.fixture(scope="module")
def rounded(both: tuple[Any, Graph], photos: list[np.ndarray]) -> Graph:
    """The int8 file at the end of equalization and rounding."""
    unrounded = Graph(both[1].to_bytes())
    assert equalize(unrounded, photos) == 1
    integer = Graph(quantize(unrounded, estimate(observe(unrounded, photos), "extremes")))
    round_weights(unrounded, integer, photos)
    return integer


def onnx_scores(data: bytes, photos: list[np.ndarray]) -> np.ndarray:
    session = heavy("onnxruntime").InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.concatenate([
        session.run(["class_scores"], {"image": photo[np.newaxis].astype(np.float32)})[0] for photo in photos
    ])


def tflite_scores(graph: Graph, photos: list[np.ndarray]) -> np.ndarray:
    run = Runner(graph.to_bytes())
    made = chain.from_iterable(run(photo[np.newaxis]) for photo in photos)
    return np.concatenate([output for output in made if output.shape == (1, 3)])


def test_carried_weights_are_the_integers_of_the_tflite_file(
    both: tuple[Any, Graph], rounded: Graph, photos: list[np.ndarray], tmp_path: Path
) -> None:
    onnx = heavy("onnx")
    model, unrounded = both
    untouched = model.SerializeToString()
    carried, steps = carry_over(model, unrounded, rounded)
    batches = [{"image": photo[np.newaxis].astype(np.float32)} for photo in photos]
    data = quantize_onnx(carried, batches, tmp_path / "carried.onnx", steps=steps)
    assert model.SerializeToString() == untouched

    kept = [
        onnx.numpy_helper.to_array(tensor) for tensor in onnx.ModelProto.FromString(data).graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    expected = [rounded.weights(operator)[0] for operator in rounded.convolutions()]
    assert sorted(np.sort(array, axis=None).tolist() for array in kept) == sorted(
        np.sort(array, axis=None).tolist() for array in expected
    )
    assert np.abs(onnx_scores(data, photos) - tflite_scores(rounded, photos)).max() <= 4 / 256  # activations have other grids

    own = quantize_onnx(model, batches, tmp_path / "own.onnx")
    true = onnx_scores(untouched, photos)
    assert np.abs(onnx_scores(data, photos) - true).mean() < np.abs(onnx_scores(own, photos) - true).mean()


def test_weights_of_another_model_find_no_twin(both: tuple[Any, Graph], rounded: Graph) -> None:
    with pytest.raises(ValueError, match="the ONNX graph has no twin of "):
        carry_over(build(2)[0], both[1], rounded)


def test_weights_that_stayed_float_are_not_carried(both: tuple[Any, Graph]) -> None:
    with pytest.raises(ValueError, match="the ONNX graph has no twin of "):
        carry_over(both[0], both[1], both[1])
