"""Every guard is broken into once, and must turn red."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pawlatch.card import read_card
from pawlatch.files import sha256
from pawlatch_convert import ConvertOptions, convert_model, ranges, render_table
from pawlatch_convert.cli import main
from pawlatch_convert.parity import Reason
from pawlatch_convert.recipes import RECIPES, ConversionError, Converter, Recipe
from pawlatch_convert.savedmodel import SavedModel


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def fade_calibration(model_dir: Path) -> None:
    """Blank grey photos: their activations are next to nothing, and those of any other photo saturate."""
    for path in (model_dir / "assets.extra" / "calibration").rglob("*.jpg"):
        cv2.imwrite(str(path), np.full((64, 80, 3), 127, np.uint8))


def test_calibration_that_saturates_is_red_and_not_promoted(
    converted: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    old_int8 = read_card(converted / "edge").files["int8"].name
    fade_calibration(converted)
    assert main(["--int8", "--no-ladder", str(converted)]) == 1
    card = read_card(converted / "edge")
    assert "RED int8: top-1 fell by" in capsys.readouterr().out
    assert "int8" not in card.files
    assert card.deploy == "int8_dynamic"  # the smallest of what is green
    assert (converted / "edge" / old_int8).exists()  # the previous card, to which --rollback returns, names it
    (rejected,) = (converted / "edge.rejected").glob("int8-*.tflite")
    parity = json.loads((converted / "edge.rejected" / "parity.json").read_text())
    assert [entry["file"]["name"] for entry in parity["variants"] if entry["verdict"] == "red"] == [rejected.name]


def test_a_red_variant_that_no_flag_named_does_not_fail_the_command(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    files(monkeypatch, int8=lambda make: refuse(), int16x8=lambda make: refuse(), onnx_int8=lambda make: refuse())
    assert main(["--float16", str(model_dir)]) == 0
    assert main([str(model_dir)]) == 0  # all are made, none was asked for by name; the table is loud all the same
    assert "RED int8" in capsys.readouterr().out
    assert main(["--int8", "--no-ladder", str(model_dir)]) == 1


def test_a_rejection_is_swept_out_by_the_next_green_run(model_dir: Path) -> None:
    (model_dir / "edge.rejected").mkdir()
    (model_dir / "edge.rejected" / "parity.json").write_text("{}")
    assert convert_model(model_dir, ConvertOptions(recipes=())).is_green
    assert not (model_dir / "edge.rejected").exists()


def files(monkeypatch: pytest.MonkeyPatch, **replaced: Callable[[Callable[[str], bytes]], bytes]) -> None:
    """Let the converter make another file where a recipe is named here."""
    honest = Converter.convert

    def convert(self: Converter, recipe: Recipe) -> bytes:
        if recipe.name not in replaced:
            return honest(self, recipe)
        return replaced[recipe.name](lambda name: honest(self, RECIPES[name]))

    monkeypatch.setattr(Converter, "convert", convert)


def refuse() -> bytes:
    raise ConversionError("int8 cannot be made of this graph: 'tf.Foo' op is not known")


@pytest.mark.parametrize("impostor", ["float32", "int8_dynamic"])
def test_a_float_file_called_int8_is_red(model_dir: Path, monkeypatch: pytest.MonkeyPatch, impostor: str) -> None:
    files(monkeypatch, int8=lambda make: make(impostor))
    result = convert_model(model_dir, ConvertOptions(recipes=("int8",), ladder=False))
    assert result.deploy in ("float32", "float16", "int8_dynamic")
    reasons = " ".join(map(str, result.variants[1].reasons))
    assert "multiplications are of floats" in reasons
    assert "but is float32 with scale None" in reasons
    assert {reason.code for reason in result.variants[1].reasons} >= {"integer", "input"}


def test_calibration_without_black_and_white_is_red(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "PIXELS", (10.0, 240.0))
    result = convert_model(model_dir, ConvertOptions(recipes=("int8",), ladder=False))
    (reason,) = [reason for reason in result.variants[1].reasons if reason.code == "input"]
    assert "calibration did not see both 0 and 255" in reason.sentence


def test_a_converter_that_refuses_leaves_the_other_variants(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, int8=lambda make: refuse())
    result = convert_model(model_dir, ConvertOptions(recipes=("int8",), ladder=False))
    assert result.variants[1].reasons == (Reason("convert", "int8 cannot be made of this graph: 'tf.Foo' op is not known"),)
    assert result.deploy in ("float32", "float16", "int8_dynamic")
    assert "RED int8: int8 cannot be made" in render_table(result)


def test_an_operator_that_tflite_lacks_is_named(unconvertible: Path) -> None:
    (result,) = convert_model(unconvertible, ConvertOptions(recipes=())).variants
    assert result.reasons == (Reason("convert", "float32 cannot be made of this graph: it has no operator for Digamma"),)
    assert not (unconvertible / "edge").exists()


def test_a_file_that_no_engine_runs_is_red(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, float16=lambda make: b"no flatbuffer")
    result = convert_model(model_dir, ConvertOptions(recipes=("float16",)))
    assert [reason.code for reason in result.variants[1].reasons] == ["run"]
    assert "cut short or something else" in str(result.variants[1].reasons[0])
    assert set(read_card(model_dir / "edge").files) == {"float32"}


def test_where_float32_is_red_nothing_is_promoted(
    converted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(converted / "edge")
    honest = SavedModel.outputs

    def rotated(self: SavedModel, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        scores, embeddings = honest(self, pixels)
        return np.roll(scores, 1, axis=1), embeddings

    monkeypatch.setattr(SavedModel, "outputs", rotated)
    assert main(["--int8", str(converted)]) == 1
    assert contents(converted / "edge") == before
    out = capsys.readouterr().out
    assert "RED float32: " in out
    assert "RED int8: float32, the reference conversion, is red." in out
    assert "nothing is deployed" in out
    assert {path.suffix for path in (converted / "edge.rejected").iterdir()} == {".tflite", ".json", ".html"}
