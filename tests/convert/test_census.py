"""What a file is said to compute is what it computes; a file that is none is an error and no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.errors import EngineError
from pawlatch.quiet import quiet
from pawlatch_convert.census import Census, OperatorCount, operator_name, read_tflite, take_census
from pawlatch_convert.heavy import heavy

BY_HAND = 16 * 16 * 4 * 27 + 4 * 3  # the fixture model's convolution and dense layer
FLOAT32 = 0  # of the flatbuffer's TensorType


def file_of(bundle: Path, variant: str) -> Path:
    return bundle / read_card(bundle).files[variant].name


def packed(model: Any) -> bytes:
    builder = heavy("flatbuffers").Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def kinds(census: Census) -> dict[str, str]:
    return {entry.name: entry.dtype for entry in census.operators}


# ------------------------------------------------------------------------------------------------------ TFLite


@pytest.mark.parametrize(("variant", "share"), [("float32", 0.0), ("int8", 1.0), ("onnx_float32", 0.0)])
def test_multiplications_are_counted_by_the_formula(tiny_bundle: Path, variant: str, share: float) -> None:
    census = take_census(file_of(tiny_bundle, variant))
    assert census.macs == BY_HAND
    assert census.integer_share == share
    assert sum(entry.macs for entry in census.operators) == census.macs
    assert json.loads(json.dumps(census.to_dict()))["integer_share"] == share
    assert census.operators[0].count == 1
    assert census.operators[0].macs == BY_HAND - 12


def test_int8_is_integers_from_the_bytes_to_the_scores(tiny_bundle: Path) -> None:
    census = take_census(file_of(tiny_bundle, "int8"))
    assert (census.input_type, census.input_scale, census.input_zero_point) == ("uint8", 1.0, 0)
    assert census.scores_step == 1 / 256
    assert (census.float_operators, census.float_islands) == ((), ())
    assert kinds(census)["CONV_2D"] == "int8"
    assert kinds(census)["QUANTIZE"] == "uint8 -> int8"
    assert OperatorCount("DEQUANTIZE", "int8 -> float32", 2, 0) in census.operators


def test_a_float_file_has_no_islands_and_no_step(tiny_bundle: Path) -> None:
    census = take_census(file_of(tiny_bundle, "float32"))
    assert "CONV_2D" in census.float_operators
    assert (census.float_islands, census.scores_step, census.input_scale) == ((), None, None)


def test_a_float_operator_between_integer_ones_is_named_with_its_tensor(tiny_bundle: Path, tmp_path: Path) -> None:
    model = read_tflite(file_of(tiny_bundle, "int8").read_bytes())
    graph = model.subgraphs[0]
    (mean,) = [operator for operator in graph.operators if operator_name(model, operator) == "MEAN"]
    tensor = graph.tensors[mean.outputs[0]]
    tensor.type = FLOAT32
    path = tmp_path / "int8.tflite"
    path.write_bytes(packed(model))
    census = take_census(path)
    assert "MEAN" in census.float_operators
    assert tensor.name.decode() in census.float_islands
    assert kinds(census)["MEAN"] == "int8 -> float32"
    assert census.integer_share < 1  # the dense layer reads what is now a float


def test_scores_that_float_behind_integers_have_no_step(tiny_bundle: Path, tmp_path: Path) -> None:
    model = read_tflite(file_of(tiny_bundle, "int8").read_bytes())
    for tensor in model.subgraphs[0].tensors:
        tensor.quantization = None
    path = tmp_path / "int8.tflite"
    path.write_bytes(packed(model))
    assert take_census(path).scores_step is None
    assert take_census(file_of(tiny_bundle, "int8"), scores="no such output").scores_step is None


@pytest.fixture(scope="session")
def converted_to(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Files of one convolution, made by TensorFlow."""
    tf = heavy("tensorflow")
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 0.1, (3, 3, 16, 64)).astype(np.float32)  # large enough that int8_dynamic takes it on

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 16), tf.float32, name="image")])
    def serve(image: Any) -> Any:
        return {"class_scores": tf.nn.softmax(tf.reduce_mean(tf.nn.conv2d(image, kernel, 1, "SAME"), [1, 2]))}

    module = tf.Module()
    module.serve = serve
    folder = tmp_path_factory.mktemp("one_convolution")
    with quiet():
        tf.saved_model.save(module, str(folder / "model"), signatures={"serving_default": serve})

    def photos() -> Iterator[list[Any]]:
        yield [rng.uniform(0, 255, (1, 8, 8, 16)).astype(np.float32)]

    def convert(precision: str) -> Path:
        with quiet():
            converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "model"))
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if precision == "int16x8":
                converter.representative_dataset = photos
                converter.target_spec.supported_ops = [
                    tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                ]
            path = folder / f"{precision}.tflite"
            path.write_bytes(converter.convert())
        return path

    return convert


def test_float_activations_with_int8_weights_are_no_integer_compute(converted_to: Callable[[str], Path]) -> None:
    census = take_census(converted_to("int8_dynamic"))
    assert kinds(census)["CONV_2D"] == "float32 x int8"
    assert census.macs == 8 * 8 * 64 * 9 * 16
    assert census.integer_share == 0
    assert "CONV_2D" in census.float_operators


def test_int16_activations_with_int8_weights_are(converted_to: Callable[[str], Path]) -> None:
    census = take_census(converted_to("int16x8"))
    assert kinds(census)["CONV_2D"] == "int16 x int8"
    assert (census.integer_share, census.float_operators) == (1, ())
    assert census.scores_step == pytest.approx(1 / 32768)


# -------------------------------------------------------------------------------------------------------- ONNX


SUBTRACTION = ("sub:0", "Conv2D__9:0")  # ONNX Runtime quantizes no Sub, and so the Transpose behind it reads floats


def quantized(path: Path, folder: Path, **options: Any) -> Path:
    """The fixture model as QDQ, calibrated on noise; the softmax stays float, as convert has it."""
    quantization = heavy("onnxruntime.quantization")
    batches = iter([{"image": np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)}])

    class Reader:
        def get_next(self) -> Any:
            return next(batches, None)

    out = folder / "onnx_int8.onnx"
    with quiet():
        quantization.quantize_static(
            str(path), str(out), Reader(), activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8, **options,
        )
    return out


def nodes(path: Path, kind: str) -> list[str]:
    return [node.name for node in heavy("onnx").load(str(path)).graph.node if node.op_type == kind]


def test_onnx_as_trained(tiny_bundle: Path) -> None:
    census = take_census(file_of(tiny_bundle, "onnx_float32"))
    assert kinds(census)["Conv"] == "float32"
    assert (census.opset, census.input_transposes, census.input_type) == (17, 1, "float32")
    assert (census.float_islands, census.scores_step) == ((), None)


def test_onnx_in_integers_but_for_the_softmax(tiny_bundle: Path, tmp_path: Path) -> None:
    source = file_of(tiny_bundle, "onnx_float32")
    census = take_census(quantized(source, tmp_path, nodes_to_exclude=nodes(source, "Softmax")))
    assert (census.integer_share, census.macs) == (1, BY_HAND)
    assert kinds(census)["Conv"] == kinds(census)["Gemm"] == "uint8 x int8"
    assert census.float_islands == (*SUBTRACTION, "class_scores")
    assert census.scores_step is None
    assert census.input_transposes == 1


def test_onnx_scores_in_integers_have_a_step(tiny_bundle: Path, tmp_path: Path) -> None:
    census = take_census(quantized(file_of(tiny_bundle, "onnx_float32"), tmp_path))
    assert census.scores_step == pytest.approx(1 / 256, rel=0.01)
    assert census.float_islands == SUBTRACTION


def test_an_onnx_convolution_left_in_float_is_seen(tiny_bundle: Path, tmp_path: Path) -> None:
    source = file_of(tiny_bundle, "onnx_float32")
    path = quantized(source, tmp_path, nodes_to_exclude=nodes(source, "Conv"))
    census = take_census(path)
    assert census.integer_share == pytest.approx(12 / BY_HAND)
    assert kinds(census)["Conv"] == "float32"
    assert any("onv" in name for name in census.float_islands)


# ---------------------------------------------------------------------------------------------- what is no such file


@pytest.mark.parametrize("variant", ["float32", "int8", "onnx_float32"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.97])
def test_a_file_cut_short_is_an_error_that_says_so(tiny_bundle: Path, variant: str, share: float) -> None:
    path = file_of(tiny_bundle, variant)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(EngineError, match=rf"{path.name} is cut short or something else; copy or convert it again"):
        take_census(path)


@pytest.mark.parametrize("name", ["photo.tflite", "photo.onnx"])
def test_another_kind_of_file_is_an_error(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(5000))
    with pytest.raises(EngineError, match="cut short or something else"):
        take_census(path)


def test_tflite_that_is_called_onnx_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match=r"expected a whole \.onnx file"):
        take_census(file_of(tiny_bundle, "int8").rename(tiny_bundle / "int8.onnx"))
