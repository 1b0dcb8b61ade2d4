from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ImageError, ModelCardError

COLOURS = {"own": (200, 40, 40), "other": (40, 40, 200), "_empty": (120, 120, 120)}


def picture(rgb):
    image = np.full((120, 160, 3), 120, np.uint8)
    image[40:100, 40:90] = rgb
    return image


def edit_card(bundle, **changes):
    path = bundle / "pawlatch.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def break_file(bundle, variant, *, keep, vouch):
    """Keep the first `keep` bytes; `vouch` makes the card agree with what is left."""
    card = json.loads((bundle / "pawlatch.json").read_text())
    entry = card["files"][variant]
    data = (bundle / entry["name"]).read_bytes()[:keep]
    (bundle / entry["name"]).write_bytes(data)
    if vouch:
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        edit_card(bundle, files=card["files"])


@pytest.mark.parametrize("variant", ["float32", "int8", "onnx_float32"])
def test_each_variant_decides_alike(tiny_bundle, variant):
    if variant.startswith("onnx"):
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is an extra of the device")
    classifier = Classifier(tiny_bundle, variant=variant)
    reference = Classifier(tiny_bundle, variant="float32")
    for label, rgb in COLOURS.items():
        prediction = classifier(picture(rgb))
        assert prediction.label == label
        assert prediction.scores == pytest.approx(reference(picture(rgb)).scores, abs=0.02)
        assert prediction.embedding == pytest.approx(reference(picture(rgb)).embedding, abs=0.05)


def test_a_prediction_knows_its_labels_and_scores(tiny_bundle):
    prediction = Classifier(tiny_bundle)(picture(COLOURS["own"]))
    assert prediction.labels == ("own", "other", "_empty")
    assert prediction.scores.dtype == prediction.embedding.dtype == np.float32
    assert prediction.embedding.shape == (4,)
    assert prediction.ranked()[0] == (prediction.label, prediction.score)
    assert prediction.score_of(("own", "other")) == pytest.approx(float(prediction.scores[:2].sum()))


def test_the_cards_deployed_variant_is_the_default(tiny_bundle):
    assert Classifier(tiny_bundle).variant == "int8"


@pytest.mark.parametrize("box_yxyx", [None, (30, 20, 110, 100), (-9, 100, 60, 500)])
def test_a_cameras_frame_is_turned_to_rgb_after_it_was_shrunk_and_that_changes_nothing(tiny_bundle, box_yxyx):
    classifier = Classifier(tiny_bundle)
    frame_bgr = np.random.default_rng(1).integers(0, 256, (130, 170, 3), np.uint8)[3:, 5:]  # a view, as a region of interest is
    fitted_rgb, prediction = classifier.see(frame_bgr, box_yxyx=box_yxyx)
    expected = classifier(frame_bgr[..., ::-1], box_yxyx=box_yxyx)
    assert np.array_equal(fitted_rgb, classifier.fit(frame_bgr[..., ::-1], box_yxyx=box_yxyx))
    assert np.array_equal(prediction.scores, expected.scores)
    assert np.array_equal(prediction.embedding, expected.embedding)


def test_what_was_seen_is_kept_when_the_next_frame_is_seen(tiny_bundle):
    classifier = Classifier(tiny_bundle)
    fitted_rgb, prediction = classifier.see(picture(COLOURS["own"])[..., ::-1])
    kept = fitted_rgb.copy(), prediction.scores.copy(), prediction.embedding.copy()
    classifier.see(picture(COLOURS["other"])[..., ::-1])
    assert all(map(np.array_equal, (fitted_rgb, prediction.scores, prediction.embedding), kept))


@pytest.mark.parametrize("channels", [1, 4])
def test_a_frame_without_three_channels_is_refused(tiny_bundle, channels):
    with pytest.raises(ImageError, match="grey" if channels == 1 else "transparency"):
        Classifier(tiny_bundle).see(np.zeros((120, 160, channels), np.uint8))


class Broken:
    """An engine whose outputs a test sets."""

    input_dtype, input_shape = np.dtype(np.uint8), (1, 32, 32, 3)

    def __init__(self, **outputs):
        good = {"class_scores": [[0.2, 0.3, 0.5]], "embedding": [[1.0, 2.0, 3.0, 4.0]]}
        self._outputs = {name: np.array(values, np.float32) for name, values in {**good, **outputs}.items() if values is not None}

    def __call__(self, batch):
        return self._outputs


@pytest.mark.parametrize(("outputs", "words"), [
    ({"class_scores": [[np.nan, 0.3, 0.5]]}, "scores are not finite numbers"),
    ({"class_scores": [[0.1, np.inf, 0.5]]}, "scores are not finite numbers"),
    ({"class_scores": [[0.1, 0.9]]}, "3 labels, but the model gives 2 scores"),
    ({"class_scores": None}, "no output 'class_scores', only embedding"),
    ({"embedding": None}, "no output 'embedding', only class_scores"),
])  # fmt: skip
def test_a_model_that_says_nonsense_is_an_error_and_not_a_decision(tiny_bundle, monkeypatch, outputs, words):
    monkeypatch.setattr("pawlatch.classify.open_engine", lambda path, *, threads: Broken(**outputs))
    with pytest.raises(EngineError, match=words):
        Classifier(tiny_bundle)(picture(COLOURS["own"]))


@pytest.mark.parametrize("variant", ["int8", "onnx_float32"])
def test_pixels_of_another_size_are_refused_and_the_next_go_on(tiny_bundle, variant):
    if variant.startswith("onnx"):
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is an extra of the device")
    classifier = Classifier(tiny_bundle, variant=variant)
    with pytest.raises(EngineError, match=r"expected uint8 pixels of shape \(1, 32, 32, 3\), got uint8 \(1, 32, 30, 3\)"):
        classifier.predict(np.zeros((32, 30, 3), np.uint8))
    assert classifier(picture(COLOURS["own"])).label == "own"


def test_unknown_variant_lists_those_that_exist(tiny_bundle):
    with pytest.raises(ModelCardError, match="no variant 'int4'; choose one of float32, int8, onnx_float32"):
        Classifier(tiny_bundle, variant="int4")


def test_no_promoted_variant_asks_for_one(tiny_bundle):
    edit_card(tiny_bundle, deploy=None)
    with pytest.raises(ModelCardError, match="--variant"):
        Classifier(tiny_bundle)


def test_another_file_than_the_card_vouches_for_is_refused(tiny_bundle):
    break_file(tiny_bundle, "int8", keep=-1, vouch=False)
    with pytest.raises(ModelCardError, match="not the file its card vouches for"):
        Classifier(tiny_bundle)


def test_missing_file_is_refused(tiny_bundle):
    (tiny_bundle / read_card(tiny_bundle).files["int8"].name).unlink()
    with pytest.raises(ModelCardError, match="missing; copy the whole folder"):
        Classifier(tiny_bundle)


def test_newer_schema_is_refused(tiny_bundle):
    edit_card(tiny_bundle, schema=99)
    with pytest.raises(ModelCardError, match="its schema is 99, and this pawlatch reads up to 1; upgrade"):
        Classifier(tiny_bundle)


@pytest.mark.parametrize("variant", ["float32", "int8", "onnx_float32"])
@pytest.mark.parametrize("keep", [0, 300, 1500])
def test_truncated_model_is_refused(tiny_bundle, variant, keep):
    if variant.startswith("onnx"):
        pytest.importorskip("onnxruntime", reason="ONNX Runtime is an extra of the device")
    break_file(tiny_bundle, variant, keep=keep, vouch=True)
    with pytest.raises(EngineError, match="cannot load"):
        Classifier(tiny_bundle, variant=variant)


def test_card_with_other_labels_than_the_model_is_refused(tiny_bundle):
    edit_card(tiny_bundle, labels=["own", "other"])
    with pytest.raises(EngineError, match="2 labels, but the model gives 3 scores"):
        Classifier(tiny_bundle)(picture(COLOURS["own"]))


def test_card_with_another_input_size_is_refused(tiny_bundle):
    edit_card(tiny_bundle, input={"size_hw": [64, 64], "fit": "stretch"})
    with pytest.raises(EngineError, match=r"takes \(1, 32, 32, 3\), but its card says \(1, 64, 64, 3\)"):
        Classifier(tiny_bundle)
