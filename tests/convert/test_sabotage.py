"""Every guard is broken into once, and must turn red."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pawlatch.card import InputSpec, ModelCard, read_card
from pawlatch.errors import EngineError
from pawlatch.files import sha256
from pawlatch.image import Image
from pawlatch_convert import convert_model, recipes, render_table
from pawlatch_convert.census import Census
from pawlatch_convert.cli import main
from pawlatch_convert.measure import score_photos
from pawlatch_convert.parity import Gate, ParityResult, Scored, VariantResult, compare, judge
from pawlatch_convert.photoset import Sample
from pawlatch_convert.recipes import RECIPES, ConversionError, Converter, Recipe
from pawlatch_convert.savedmodel import SavedModel

INTEGER = Census(100, 100, (), "uint8", 1.0, 0)
CARD = ModelCard(
    "pets", ("cat", "dog", "owl"), InputSpec((32, 32)), unlock=("cat",),
    operating_points={"saved_model": {"threshold": 0.7}},
)


def scored(scores: Sequence[Sequence[float]], truth: Sequence[str]) -> Scored:
    names = tuple(f"{label}/{i}.jpg" for i, label in enumerate(truth))
    return Scored(names, tuple(truth), np.ones(len(truth), bool), np.array(scores, np.float32), {}, {})


def sure(columns: Sequence[int]) -> NDArray[np.float32]:
    """Scores of 0.8 for one label and 0.1 for the others."""
    return (0.1 + 0.7 * np.eye(3)[list(columns)]).astype(np.float32)


TRUTH = ("cat", "dog", "owl") * 10
RIGHT = sure([0, 1, 2] * 10)
REFERENCE = scored(RIGHT, TRUTH)  # type: ignore[arg-type]


def verdict(scores: NDArray[np.float32], *, recipe: str = "int8", census: Census = INTEGER,
            gate: Gate = Gate()) -> tuple[str, ...]:  # noqa: B008 (frozen)
    return judge(RECIPES[recipe], census, scores, compare(REFERENCE, scores, CARD), n_heldout=30, gate=gate)


# ------------------------------------------------------------------------------------------- judging alone


def test_equal_scores_are_green() -> None:
    assert verdict(RIGHT) == ()


def test_permuted_labels_are_red() -> None:
    accuracy, agreement = verdict(np.roll(RIGHT, 1, axis=1))
    assert "top-1 fell by 100.0% (30 of 30 held-out photos)" in accuracy
    assert "agrees with the SavedModel on 0.0%" in agreement


def test_one_lost_photo_is_never_red_and_two_are() -> None:
    one, two = RIGHT.copy(), RIGHT.copy()
    one[0], two[:2] = sure([1]), sure([1, 2])
    assert verdict(one, gate=Gate(max_drop=0, min_agreement=1)) == ()
    assert len(verdict(two, gate=Gate(max_drop=0, min_agreement=1))) == 2
    assert verdict(two, gate=Gate(max_drop=0.1, min_agreement=0.9)) == ()


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        (np.where(RIGHT > 0.5, np.nan, RIGHT), "not finite"),
        (np.full_like(RIGHT, 1 / 3), "every photo the same scores"),
        (RIGHT * 23.4, "off by up to 22.4"),
        (RIGHT * 0.97, "off by up to 0.030"),
    ],
)
def test_scores_that_are_none_are_red(scores: NDArray[np.float32], reason: str) -> None:
    assert any(reason in said for said in verdict(scores))


@pytest.mark.parametrize(
    ("census", "reason"),
    [
        (replace(INTEGER, integer_macs=99), "1.0% of its multiplications are of floats"),
        (replace(INTEGER, macs=0, integer_macs=0), "100.0% of its multiplications are of floats"),
        (replace(INTEGER, float_operators=("SOFTMAX",)), "SOFTMAX compute in float"),
        (replace(INTEGER, input_scale=0.9921875), "did not see both 0 and 255"),
        (replace(INTEGER, input_zero_point=-128), "did not see both 0 and 255"),
        (replace(INTEGER, input_type="float32", input_scale=None, input_zero_point=None), "but is float32"),
    ],
)
def test_int8_that_is_not_is_red(census: Census, reason: str) -> None:
    (said,) = verdict(RIGHT, census=census)
    assert reason in said
    assert verdict(RIGHT, census=census, recipe="float16") == ()


def test_flips_that_move_the_door_come_first() -> None:
    before = [[0.75, 0.15, 0.10], [0.05, 0.90, 0.05], [0.40, 0.35, 0.25]]
    after = [[0.65, 0.25, 0.10], [0.05, 0.40, 0.55], [0.30, 0.45, 0.25]]
    comparison = compare(scored(before, ("cat", "dog", "dog")), np.array(after, np.float32), CARD)
    assert [flip.photo for flip in comparison.flips] == ["cat/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    door, sure_one, _ = comparison.flips
    assert door.moves_door
    assert door.unlocks == (True, False)
    assert door.reference_label == door.variant_label == "cat"
    assert not sure_one.moves_door
    assert sure_one.margin == pytest.approx(0.85)
    assert comparison.n_relabelled == 2
    assert comparison.agreement == pytest.approx(1 / 3)
    assert comparison.max_delta == pytest.approx(0.5, abs=1e-6)


def test_without_an_operating_point_no_flip_moves_the_door() -> None:
    card = replace(CARD, operating_points={})
    before, after = [[0.7, 0.2, 0.1]] * 2, [[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]]
    (flip,) = compare(scored(before, ("cat", "cat")), np.array(after, np.float32), card).flips
    assert flip.unlocks is None
    assert not flip.moves_door


def test_the_table_says_what_is_red_and_what_flipped() -> None:
    scores = np.roll(RIGHT, 1, axis=1)
    comparison = compare(REFERENCE, scores, CARD)
    variants = (
        VariantResult("float32", (), None, 0.0, (1.5, 2.0), compare(REFERENCE, RIGHT, CARD)),
        VariantResult("int8", verdict(scores), None, 1.0, (2.2, 2.5), comparison),
    )
    table = render_table(ParityResult("pets", 30, 30, 1.0, (0.89, 1.0), Gate(), 2, variants, "float32"))
    assert "RED int8: top-1 fell by 100.0%" in table
    assert "int8 is slower than float32 on this machine (2.2 against 1.5 ms)" in table
    assert "cat/0.jpg: cat 0.80 → dog 0.80 (float margin 0.70; no longer opens the door)" in table
    assert "… and 20 more in parity.json" in table


# --------------------------------------------------------------------------------------- the whole conversion


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir()}


def fade_calibration(model_dir: Path) -> None:
    """Blank grey photos: their activations are next to nothing, and those of any other photo saturate."""
    for path in (model_dir / "assets.extra" / "calibration").rglob("*.jpg"):
        cv2.imwrite(str(path), np.full((64, 80, 3), 127, np.uint8))


def test_calibration_that_saturates_is_red_and_not_promoted(
    converted: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    old_int8 = read_card(converted / "edge").files["int8"].name
    fade_calibration(converted)
    assert main(["--int8", str(converted)]) == 1
    card = read_card(converted / "edge")
    assert "RED int8: top-1 fell by" in capsys.readouterr().out
    assert "int8" not in card.files
    assert card.deploy == "float32"
    assert not (converted / "edge" / old_int8).exists()
    (rejected,) = (converted / "edge.rejected").glob("int8-*.tflite")
    parity = json.loads((converted / "edge.rejected" / "parity.json").read_text())
    assert [entry["file"]["name"] for entry in parity["variants"] if entry["verdict"] == "red"] == [rejected.name]


def test_a_red_variant_that_no_flag_named_does_not_fail_the_command(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    files(monkeypatch, int8=lambda make: refuse())
    assert main(["--float16", str(model_dir)]) == 0
    assert main([str(model_dir)]) == 0  # all are made, none was asked for by name; the table is loud all the same
    assert "RED int8" in capsys.readouterr().out
    assert main(["--int8", str(model_dir)]) == 1


def test_a_rejection_is_swept_out_by_the_next_green_run(model_dir: Path) -> None:
    (model_dir / "edge.rejected").mkdir()
    (model_dir / "edge.rejected" / "parity.json").write_text("{}")
    assert convert_model(model_dir, recipes=()).is_green
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
    result = convert_model(model_dir, recipes=("int8",))
    assert result.deploy == "float32"
    reasons = " ".join(result.variants[1].reasons)
    assert "multiplications are of floats" in reasons
    assert "but is float32 with scale None" in reasons


def test_calibration_without_black_and_white_is_red(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mid_greys(calibration: Sequence[Image]) -> list[Image]:
        return [np.clip(pixels, 10, 240) for pixels in calibration]

    monkeypatch.setattr(recipes, "with_extremes", mid_greys)
    result = convert_model(model_dir, recipes=("int8",))
    assert any("calibration did not see both 0 and 255" in reason for reason in result.variants[1].reasons)


def test_a_converter_that_refuses_leaves_the_other_variants(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, int8=lambda make: refuse())
    result = convert_model(model_dir, recipes=("int8",))
    assert result.variants[1].reasons == ("int8 cannot be made of this graph: 'tf.Foo' op is not known",)
    assert result.deploy == "float32"
    assert "RED int8: int8 cannot be made" in render_table(result)


def test_an_operator_that_tflite_lacks_is_named(unconvertible: Path) -> None:
    (result,) = convert_model(unconvertible, recipes=()).variants
    assert result.reasons == ("float32 cannot be made of this graph: it has no operator for Digamma",)
    assert not (unconvertible / "edge").exists()


def test_a_file_that_no_engine_runs_is_red(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files(monkeypatch, float16=lambda make: b"no flatbuffer")
    result = convert_model(model_dir, recipes=("float16",))
    assert "it does not run: LiteRT cannot load" in result.variants[1].reasons[0]
    assert set(read_card(model_dir / "edge").files) == {"float32"}


def test_where_float32_is_red_nothing_is_promoted(
    converted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(converted / "edge")
    honest = SavedModel.scores
    monkeypatch.setattr(SavedModel, "scores", lambda self, pixels: np.roll(honest(self, pixels), 1, axis=1))
    assert main(["--int8", str(converted)]) == 1
    assert contents(converted / "edge") == before
    out = capsys.readouterr().out
    assert "RED float32: " in out
    assert "RED int8: float32, the reference conversion, is red." in out
    assert "nothing is deployed" in out
    assert {path.suffix for path in (converted / "edge.rejected").iterdir()} == {".tflite", ".json"}


def test_a_variant_that_fails_on_one_photo_is_a_failure_and_runs_no_further() -> None:
    class Flaky:
        calls = 0

        def predict(self, fitted_rgb: Image) -> None:
            self.calls += 1
            raise EngineError("the scores are not finite numbers")

    class Reference:
        card = CARD

        def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            return sure([0] * len(pixels))

    from pawlatch.photos import Photo

    flaky = Flaky()
    samples = [Sample(Photo(Path(f"{i}.jpg"), "cat"), np.zeros((32, 32, 3), np.uint8), True) for i in range(70)]
    found = score_photos(Reference(), {"int8": flaky}, samples)  # type: ignore[arg-type, dict-item]
    assert found.failures == {"int8": "it does not run: the scores are not finite numbers"}
    assert not found.variants
    assert len(found.names) == 70
    assert flaky.calls == 1
