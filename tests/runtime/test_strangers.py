from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import pytest

from pawlatch.card import InputSpec, ModelCard, read_card
from pawlatch.classify import Classifier
from pawlatch.cli import main
from pawlatch.errors import ModelCardError
from pawlatch.strangers import StrangerModel, compressed

RED, PINK, GREY = (220, 30, 30), (230, 30, 150), (120, 120, 120)  # pink is `own` to the tiny model, but no red


def model(labels=("own", "other"), ranks=(1, 1), *, threshold=0.2, rows=((1, 0, 0, 0), (0, 1, 0, 0))):
    basis = np.array(rows, np.int8) * 127
    return StrangerModel(labels, ranks, basis, np.full(len(basis), 1 / 127, np.float32), threshold)


def picture(colour, size=40):
    return np.full((size, size, 3), colour, np.uint8)


@pytest.fixture
def knowing_bundle(tiny_bundle):
    """The tiny bundle with the directions of red and of blue in its card."""
    embeddings = [Classifier(tiny_bundle)(picture(colour)).embedding for colour in (RED, (30, 30, 220))]
    rows = np.stack([compressed(embedding) for embedding in embeddings])
    scale = np.abs(rows).max(axis=1) / 127
    known = StrangerModel(("own", "other"), (1, 1), np.rint(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32), 0.2)
    dataclasses.replace(read_card(tiny_bundle), strangers={"saved_model": known.statistics()}).write(tiny_bundle)
    return tiny_bundle


def test_what_lies_along_a_labels_direction_is_known():
    known = model()
    assert known.score(np.array([5, 0, 0, 0], np.float32)) == pytest.approx(0, abs=1e-6)
    assert known.score(np.array([0, 0, 3, 0], np.float32)) == pytest.approx(1)
    assert not known.is_stranger(np.array([5, 0.0, 0, 0], np.float32))
    assert known.is_stranger(np.array([3, 3, 0, 0], np.float32))  # between two labels is none of them: shares of a half


def test_shares_are_those_of_the_formula():
    rng = np.random.default_rng(0)
    e = rng.normal(size=(7, 4)).astype(np.float32)
    z = np.sign(e) * np.abs(e) ** 0.25
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    known = model()
    assert known.shares(e) == pytest.approx(z[:, :2] ** 2, abs=1e-6)
    assert known.scores(e) == pytest.approx(1 - (z[:, :2] ** 2).max(axis=1), abs=1e-6)
    assert [known.score(one) for one in e] == pytest.approx(known.scores(e).tolist(), abs=1e-6)


def test_nearer_to_the_others_is_stranger_still():
    with_other = model(("own", "_other"))
    without = model(("own",), (1,), rows=((1, 0, 0, 0),))
    e = np.array([1, 4, 0, 0], np.float32)
    assert with_other.score(e) > without.score(e)
    assert with_other.score(e[[1, 0, 2, 3]]) == without.score(e[[1, 0, 2, 3]])


@pytest.mark.parametrize("e", [np.zeros(4), np.array([1, np.nan, 0, 0]), np.array([1, np.inf, 0, 0])])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_what_cannot_be_judged_is_a_stranger(e):
    assert model().is_stranger(e.astype(np.float32))


def test_zeroed_statistics_know_nobody():
    blank = dataclasses.replace(model(), basis=np.zeros((2, 4), np.int8))
    assert blank.is_stranger(np.array([5, 0, 0, 0], np.float32))


def test_the_card_keeps_it_and_the_variants_own_comes_first(tmp_path):
    kept = {"saved_model": model().statistics(), "int8": model(threshold=0.3).statistics()}
    ModelCard("m", ("own", "other"), InputSpec((32, 32)), strangers=kept).write(tmp_path)
    card = read_card(tmp_path)
    e = np.array([2, 1, 0.5, 0], np.float32)
    read = StrangerModel.from_card(card, "int8")
    assert (read.threshold, StrangerModel.from_card(card, "float32").threshold) == (0.3, 0.2)
    assert read.score(e) == model().score(e)
    assert StrangerModel.from_card(dataclasses.replace(card, strangers={}), "int8") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"method": "oracle"}, "oracle"), ({"basis": "!"}, "not usable"), ({"basis": "AAAA"}, "not usable"), ({"ranks": [1, 2]}, "not usable"),
     ({"threshold": float("nan")}, "threshold"), ({"threshold": None}, "not usable"), ({"labels": ["_other", "_empty"]}, "named")],
)
def test_statistics_that_are_not_whole_are_refused(change, reason):
    with pytest.raises(ModelCardError, match=reason):
        StrangerModel.from_statistics({**model().statistics(), **change})
    missing = {key: value for key, value in model().statistics().items() if key not in change}
    with pytest.raises(ModelCardError, match="lack"):
        StrangerModel.from_statistics(missing)


def test_statistics_of_another_model_are_refused(tiny_bundle):
    rows = ((1, 0, 0, 0, 0), (0, 1, 0, 0, 0))
    dataclasses.replace(read_card(tiny_bundle), strangers={"saved_model": model(rows=rows).statistics()}).write(tiny_bundle)
    with pytest.raises(ModelCardError, match="of 5 numbers, the model gives 4"):
        Classifier(tiny_bundle)(picture(RED))


@pytest.mark.parametrize("variant", ["int8", "float32"])
def test_the_classifier_says_none_of_these(knowing_bundle, variant):
    classifier = Classifier(knowing_bundle, variant=variant)
    red, pink, empty = (classifier(picture(colour)) for colour in (RED, PINK, GREY))
    assert (red.label, red.is_stranger, pink.label, pink.is_stranger) == ("own", False, "own", True)
    assert red.stranger < pink.stranger
    assert (empty.label, empty.stranger, empty.is_stranger) == ("_empty", None, False)


def test_without_statistics_nobody_is_strange(tiny_bundle):
    pink = Classifier(tiny_bundle)(picture(PINK))
    assert (pink.stranger, pink.is_stranger) == (None, False)


def test_classify_and_evaluate_say_it(knowing_bundle, tmp_path, capsys):
    for i, colour in enumerate((RED, PINK)):
        (tmp_path / "photos" / "own").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / "own" / f"{i}.png"), picture(colour[::-1]))
    photos = sorted((tmp_path / "photos" / "own").iterdir())
    assert main(["classify", str(knowing_bundle), *map(str, photos)]) == 0
    red, pink = capsys.readouterr().out.splitlines()
    assert "none of these" not in red
    assert "1.png: none of these  (own " in pink
    assert main(["classify", str(knowing_bundle), "--json", *map(str, photos)]) == 0
    told = [json.loads(line)["stranger"] for line in capsys.readouterr().out.splitlines()]
    assert [one["is_stranger"] for one in told] == [False, True]
    assert main(["evaluate", str(knowing_bundle), str(tmp_path / "photos")]) == 0
    assert 'said "none of these" of 1 of 2 own' in capsys.readouterr().out
