from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ModelCardError

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
