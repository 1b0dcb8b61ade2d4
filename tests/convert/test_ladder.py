"""Where the bare int8 file falls short: which rung mends it, and that each does what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pawlatch import cli
from pawlatch.card import read_card
from pawlatch.classify import Classifier
from pawlatch.image import Image
from pawlatch_convert.census import take_census
from pawlatch_convert.graph import Graph, Operator, Runner
from pawlatch_convert.heavy import heavy
from pawlatch_convert.ladder import Ladder, layer_noise
from pawlatch_convert.photoset import find_photos
from pawlatch_convert.ranges import estimate, observe, quantize
from pawlatch_convert.recipes import Converter
from pawlatch_convert.rewrite import equalize, find_streams
from pawlatch_convert.rounding import gptq, round_weights, windows
from pawlatch_convert.savedmodel import SavedModel

SIZE_HW = (48, 48)
UNEVEN = 200.0  # times the range of the others: what one channel has, so that 255 steps leave them hardly more than one


def build_uneven(*, seed: int) -> Any:
    """A small inverted residual, one channel of whose linear stream has a far wider range: exact in float, ruin for int8."""
    tf = heavy("tensorflow")
    rng = np.random.default_rng(seed)
    scales = np.where(np.arange(16) == 5, UNEVEN, 1.0).astype(np.float32)
    sizes = {"stem": (3, 3, 16), "write": (1, 16, 16), "expand": (1, 16, 32), "project": (1, 32, 16), "read": (3, 16, 24)}
    kernels = {
        name: rng.normal(0, (2 / (side * side * n_in)) ** 0.5, (side, side, n_in, n_out)).astype(np.float32)
        for name, (side, n_in, n_out) in sizes.items()
    }
    for name in ("write", "project"):
        kernels[name] *= scales
    for name in ("expand", "read"):
        kernels[name] /= scales[:, np.newaxis]
    module = tf.Module()
    module.kernels = {name: tf.Variable(kernel) for name, kernel in kernels.items()}
    module.head = tf.Variable(np.zeros((25, 3), np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, *SIZE_HW, 3), tf.float32, name="image")])
    def serve(image: Any) -> Any:
        def layer(name: str, maps: Any, stride: int = 1) -> Any:
            return tf.nn.conv2d(maps, module.kernels[name], stride, "SAME")

        stream = layer("write", tf.nn.relu6(layer("stem", image / 127.5 - 1.0, 2)))
        stream += layer("project", tf.nn.relu6(layer("expand", stream)))
        embedding = tf.reduce_mean(tf.nn.relu6(layer("read", stream, 2)), [1, 2])
        return {"class_scores": tf.nn.softmax(embedding @ module.head[:-1] + module.head[-1]), "embedding": embedding}

    module.serve = serve
    return module


@pytest.fixture(scope="session")
def uneven(make: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model folder. Not to be changed."""
    return make(tmp_path_factory.mktemp("uneven") / "model", build=build_uneven)


@pytest.fixture(scope="session")
def photos(uneven: Path) -> list[Image]:
    found = find_photos(uneven, None, read_card(uneven))
    return [sample.pixels for sample in found.fitted(found.calibration, read_card(uneven), [])]


@pytest.fixture(scope="session")
def float_tflite(uneven: Path, photos: list[Image], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Converter(SavedModel(uneven, read_card(uneven)), photos, tmp_path_factory.mktemp("scratch")).float_tflite


def outputs(data: bytes, photos: list[Image]) -> np.ndarray:
    """Scores and embedding of each photo, side by side."""
    run, dtype = Runner(data), Graph(data).dtype(Graph(data).inputs[0])
    return np.stack([np.concatenate([made.ravel() for made in run(photo[np.newaxis].astype(dtype))]) for photo in photos])


def converted(model: Path, *arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    status = cli.main(["convert", "--int8", "--json", *map(str, arguments), str(model)])
    told = capsys.readouterr()
    return status, json.loads(told.out), told.err


# ------------------------------------------------------------------------------------------------------- the command


def test_the_rung_that_mends_it_is_named_with_its_steps(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    status, parity, progress = converted(uneven, "-o", tmp_path / "edge", capsys=capsys)
    int8 = parity["variants"][1]
    assert (status, int8["verdict"], int8["rung"]) == (0, "green", "equalized")
    assert [step["rung"] for step in int8["steps"]] == ["bare", "calibration", "equalized"]
    assert [step["verdict"] for step in int8["steps"]] == ["red", "red", "green"]
    assert int8["steps"][-1]["within_aim"]
    assert int8["steps"][-1]["mean_kl"] < int8["steps"][0]["mean_kl"] / 5
    assert int8["census"]["integer_share"] == 1
    assert json.loads((tmp_path / "edge" / "parity.json").read_text()) == parity
    for rung in ("calibration", "equalized"):  # what it is about to cost stands there before it begins
        assert f"next, {rung}: " in progress
    assert Classifier(tmp_path / "edge", variant="int8").card.deploy is not None


def test_fine_tuning_is_the_last_rung_where_photos_for_it_are_named(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pawlatch_convert.climb.within_aim", lambda comparison: False)  # so that it climbs to the end
    photos = uneven / "assets.extra" / "calibration"
    status, parity, progress = converted(uneven, "--qat", "--train-photos", photos, "-o", tmp_path / "edge", capsys=capsys)
    steps = parity["variants"][1]["steps"]
    assert status == 0
    assert [step["rung"] for step in steps] == ["bare", "calibration", "equalized", "rounded", "qat"]
    assert steps[-1]["verdict"] == "green"
    assert "fine-tuning: " in progress
    assert parity["variants"][1]["rung"] in ("equalized", "rounded", "qat")  # the nearest of the green ones


def test_a_graph_that_cannot_be_rounded_ends_red_and_not_with_a_traceback(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*arguments: object) -> None:
        raise ValueError("not so")

    monkeypatch.setattr("pawlatch_convert.ladder.equalize", refuse)
    monkeypatch.setattr("pawlatch_convert.ladder.round_weights", refuse)
    status, parity, progress = converted(uneven, "-o", tmp_path / "edge", capsys=capsys)
    assert (status, parity["variants"][1]["verdict"]) == (1, "red")
    assert [step["rung"] for step in parity["variants"][1]["steps"]] == ["bare", "calibration"]
    assert "the rung 'rounded' does not apply: int8 cannot be made of this graph: not so" in progress


def test_without_the_ladder_it_is_red(uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, parity, progress = converted(uneven, "--no-ladder", "-o", tmp_path / "edge", capsys=capsys)
    int8 = parity["variants"][1]
    assert (status, int8["verdict"], int8["rung"], int8["steps"]) == (1, "red", "bare", [])
    assert "next," not in progress
    assert "float32" in read_card(tmp_path / "edge").files
    assert "int8" not in read_card(tmp_path / "edge").files


def test_without_time_no_rung_is_begun_and_something_else_is_deployed(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    status, parity, progress = converted(uneven, "--budget-s", 0, "-o", tmp_path / "edge", capsys=capsys)
    verdicts = {entry["variant"]: entry["verdict"] for entry in parity["variants"]}
    assert status == 1
    assert verdicts == {"float32": "green", "int8": "red", "int8_dynamic": "red", "float16": "green"}  # dynamic ranges are wide too
    assert [step["rung"] for step in parity["variants"][1]["steps"]] == ["bare"]
    assert "int8: the rung 'calibration' " in progress
    assert "of --budget-s 0" in progress
    assert parity["deploy"] == read_card(tmp_path / "edge").deploy
    assert parity["deploy"] in ("float16", "float32")
    assert "int8" not in read_card(tmp_path / "edge").files


def test_layers_are_left_in_float_only_where_nothing_else_is_green(
    uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    def nothing(*arguments: object) -> None:
        """A rewrite, or a rounding, that does not help."""

    monkeypatch.setattr("pawlatch_convert.ladder.equalize", nothing)
    monkeypatch.setattr("pawlatch_convert.ladder.round_weights", nothing)
    _, parity, progress = converted(uneven, "-o", tmp_path / "edge", capsys=capsys)
    int8 = parity["variants"][1]
    rungs = [step["rung"] for step in int8["steps"]]
    assert rungs[:4] == ["bare", "calibration", "equalized", "rounded"]
    assert set(rungs[4:]) == {"selective"}
    shares = [step["integer_share"] for step in int8["steps"]]
    assert shares[:4] == [1.0] * 4
    assert all(share < 1 for share in shares[4:])
    assert "layers left in float: " in progress


# -------------------------------------------------------------------------------------------------- selective precision


def test_named_layers_stay_float_and_the_census_says_so(float_tflite: bytes, photos: list[Image], tmp_path: Path) -> None:
    graph = Graph(float_tflite)
    ranges = estimate(observe(graph, photos), "percentile")
    kept = graph.name(graph.convolutions()[0].outputs[0])
    (tmp_path / "whole.tflite").write_bytes(quantize(graph, ranges))
    (tmp_path / "mixed.tflite").write_bytes(quantize(graph, ranges, keep_float=[kept]))
    whole, mixed = (take_census(tmp_path / f"{name}.tflite") for name in ("whole", "mixed"))
    assert (whole.integer_share, whole.float_operators) == (1.0, ())
    assert mixed.float_operators
    assert mixed.integer_share == 1 - 24 * 24 * 16 * 27 / mixed.macs
    assert (mixed.input_type, mixed.input_scale, mixed.input_zero_point) == ("uint8", 1.0, 0)


def test_the_noise_report_blames_the_uneven_stream(float_tflite: bytes, photos: list[Image]) -> None:
    graph = Graph(float_tflite)
    rounded = Graph(quantize(graph, estimate(observe(graph, photos), "extremes")))
    noise = layer_noise(graph, rounded, photos[:6])
    assert len(noise) == len(graph.convolutions())
    assert [entry.output for entry in noise] == sorted((entry.output for entry in noise), reverse=True)
    (stream,) = find_streams(graph)
    touching = {graph.name(operator.outputs[0]) for operator in (*stream.writers, *stream.readers)}
    assert max(noise, key=lambda entry: entry.added).layer in touching
    equalize(graph, photos)
    evened = layer_noise(graph, Graph(quantize(graph, estimate(observe(graph, photos), "extremes"))), photos[:6])
    assert evened[0].output < noise[0].output / 10
    assert evened[-1].signal_to_noise_db > 20
    itself = layer_noise(Graph(float_tflite), Graph(float_tflite), photos[:2])
    assert max(entry.output for entry in itself) == 0


# ---------------------------------------------------------------------------------------------------- exact rewrites


def test_equalization_is_exact_in_float_and_evens_the_stream(float_tflite: bytes, photos: list[Image]) -> None:
    graph = Graph(float_tflite)
    (stream,) = find_streams(graph)
    assert (len(stream.tensors), len(stream.writers), len(stream.readers)) == (3, 2, 2)

    def spread() -> float:
        run = Runner(graph.part(0, len(graph.operators), graph.inputs, [stream.tensors[-1]]))
        spans = np.max([np.abs(run(photo[np.newaxis].astype(np.float32))[0]).max(axis=(0, 1, 2)) for photo in photos], axis=0)
        return float(spans.max() / spans.min())

    before = spread()
    assert equalize(graph, photos) == 1
    assert before > 200
    assert spread() < before / 20
    assert np.abs(outputs(graph.to_bytes(), photos) - outputs(float_tflite, photos)).max() < 1e-4


def test_a_graph_without_streams_is_left_alone(pristine: Path, photos: list[Image], tmp_path: Path) -> None:
    data = Converter(SavedModel(pristine, read_card(pristine)), photos, tmp_path).float_tflite
    graph = Graph(data)
    assert equalize(graph, photos) == 0
    assert np.array_equal(outputs(graph.to_bytes(), photos), outputs(data, photos))


# ---------------------------------------------------------------------------------------------------------- rounding


def test_three_weights_are_rounded_nearly_as_well_as_by_trying_all() -> None:
    off = np.array([rounding_errors(seed) for seed in range(60)])  # nearest, gptq, the best of all
    assert (off[:, 1] >= off[:, 2] - 1e-9).all()
    nearest, found, best = off.mean(axis=0)
    assert found < best + 0.25 * (nearest - best)


def rounding_errors(seed: int) -> tuple[float, float, float]:
    rng = np.random.default_rng(seed)
    weights, scale = rng.normal(0, 3, (1, 1, 3)), np.ones((1, 1))
    inputs = rng.normal(0, 1, (200, 1)) + 0.3 * rng.normal(0, 1, (200, 3))  # taps that see nearly the same
    moments = (inputs.T @ inputs)[np.newaxis]

    def error(chosen: np.ndarray) -> float:
        off = weights[0, 0] - chosen
        return float(off @ moments[0] @ off)

    found = gptq(weights, scale, moments)[0, 0]
    assert np.array_equal(found, np.rint(found))
    floor = np.floor(weights[0, 0])
    best = min(error(floor + np.array(up)) for up in product((-1, 0, 1, 2), repeat=3))
    return error(np.rint(weights[0, 0])), error(found), best


def test_integers_stay_in_range_even_of_weights_that_do_not() -> None:
    rng = np.random.default_rng(0)
    chosen = gptq(rng.normal(0, 200, (2, 4, 9)), np.ones((2, 4)), np.stack([np.eye(9)] * 2))
    assert np.abs(chosen).max() == 127
    assert np.array_equal(chosen, np.rint(chosen))


def test_rounded_weights_give_outputs_nearer_to_the_float_files(float_tflite: bytes, photos: list[Image]) -> None:
    graph = Graph(float_tflite)
    equalize(graph, photos)
    nearest = quantize(graph, estimate(observe(graph, photos), "percentile"))
    rounded = Graph(nearest)
    round_weights(graph, rounded, photos)
    true = outputs(graph.to_bytes(), photos)
    off = {name: np.square(outputs(data, photos) - true).mean() for name, data in
           (("nearest", nearest), ("rounded", rounded.to_bytes()))}
    assert off["rounded"] < off["nearest"]
    for before, after in zip(Graph(nearest).convolutions(), rounded.convolutions(), strict=True):
        assert np.array_equal(Graph(nearest).scale(before.inputs[1])[0], rounded.scale(after.inputs[1])[0])
        kernel, _ = rounded.weights(after)
        assert kernel.dtype == np.int8
        assert np.abs(kernel.astype(int)).max() <= 127
    again = Graph(nearest)
    round_weights(graph, again, photos)
    assert again.to_bytes() == rounded.to_bytes()


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [1, 3, 4])
def test_windows_are_what_a_convolution_sees(padding: str, stride: int, side: int) -> None:
    tf = heavy("tensorflow")
    rng = np.random.default_rng(side)
    maps, kernel = (rng.normal(0, 1, shape).astype(np.float32) for shape in ((1, 11, 14, 3), (side, side, 3, 5)))
    options = SimpleNamespace(padding=("SAME", "VALID").index(padding), strideH=stride, strideW=stride)
    seen = windows(maps, (5, side, side, 3), Operator(0, "CONV_2D", (), (), options))
    expected = tf.nn.conv2d(maps, kernel, stride, padding).numpy()[0]
    np.testing.assert_allclose(np.einsum("rcnij,ijno->rco", seen, kernel), expected, atol=1e-4)


def test_the_rungs_come_in_order_and_end_where_floats_are_not_welcome(float_tflite: bytes, photos: list[Image]) -> None:
    made = {rung.name: rung.make() for rung in Ladder(float_tflite, photos).rungs(may_be_mixed=lambda: False)}
    assert list(made) == ["calibration", "equalized", "rounded"]
    true = outputs(float_tflite, photos)
    off = [float(np.square(outputs(data, photos) - true).mean()) for data in made.values()]
    assert off == sorted(off, reverse=True)
    again = {rung.name: rung.make() for rung in Ladder(float_tflite, photos).rungs(may_be_mixed=lambda: False)}
    assert made == again
