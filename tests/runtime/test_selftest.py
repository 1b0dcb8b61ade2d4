"""The bundle's photos and answers: what this machine must see and say."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch import image
from pawlatch.card import read_card
from pawlatch.classify import Classifier, Prediction
from pawlatch.selftest import FOLDER, selftest, selftest_once

VARIANTS = ["int8", "float32", "onnx_float32"]


@pytest.fixture(params=VARIANTS)
def variant(request) -> str:
    if request.param.startswith("onnx"):
        pytest.importorskip("onnxruntime", reason="the variant needs the onnx extra")
    return request.param


def answers_file(bundle: Path) -> Path:
    (path,) = (bundle / FOLDER).glob("*.json")
    return path


def change_answers(bundle: Path, change) -> None:
    """New answers, for which the card vouches."""
    answers = json.loads(answers_file(bundle).read_text())
    change(answers)
    answers_file(bundle).unlink()
    data = json.dumps(answers).encode()
    digest = hashlib.sha256(data).hexdigest()
    (bundle / FOLDER / f"selftest-{digest[:8]}.json").write_bytes(data)
    card = read_card(bundle)
    dataclasses.replace(card, parity={**card.parity, FOLDER: digest}).write(bundle)


def test_the_fixture_passes_here(tiny_bundle, variant):
    report = selftest(Classifier(tiny_bundle, variant=variant))
    assert report.ok, str(report)
    assert report.photos == 3
    assert str(report).startswith(f"the self-test of {variant} passed: 3 photos")


def test_integers_must_agree_to_the_bit(tiny_bundle):
    def one_step(answers):
        answers["variants"]["int8"]["scores"][0][0] -= 1 / 256

    change_answers(tiny_bundle, one_step)
    report = selftest(Classifier(tiny_bundle))
    assert not report.ok
    assert "own.jpg (own) gets scores that differ by up to 0.0039, from integers alone" in str(report)
    assert "converted with opencv 5.0.0; here run opencv" in str(report)
    assert report.max_delta == pytest.approx(1 / 256)


@pytest.mark.parametrize(("delta", "ok"), [(0.0009, True), (0.0011, False), (float("nan"), False)])
def test_floats_may_differ_in_the_fourth_digit(tiny_bundle, delta, ok):
    def shift(answers):
        answers["variants"]["float32"]["scores"][1][1] -= delta

    change_answers(tiny_bundle, shift)
    assert selftest(Classifier(tiny_bundle, variant="float32")).ok == ok


def test_floats_may_not_decide_otherwise(tiny_bundle):
    """A score just under the threshold, which is reached here."""
    classifier = Classifier(tiny_bundle, variant="float32")
    card = read_card(tiny_bundle)
    dataclasses.replace(card, operating_points={"saved_model": {"threshold": 0.9995}}).write(tiny_bundle)

    def shift(answers):
        answers["variants"]["float32"]["scores"][0][0] = 0.9992

    change_answers(tiny_bundle, shift)
    assert not selftest(Classifier(tiny_bundle, variant="float32")).ok
    assert classifier.card.threshold("float32") == 0.8


def test_another_preprocessing_is_found(tiny_bundle, monkeypatch):
    """Sabotage: OpenCV's default interpolation in place of the exact one, as in a second preprocessing."""
    exact = cv2.resize
    monkeypatch.setattr(image.cv2, "resize", lambda picture, size, interpolation: exact(picture, size, interpolation=cv2.INTER_NEAREST))
    report = selftest(Classifier(tiny_bundle))
    assert "becomes other pixels here" in str(report)


def test_swapped_colours_are_found(tiny_bundle, monkeypatch):
    monkeypatch.setattr("pawlatch.selftest.decode_image", lambda data, name: image.decode_image(data)[..., ::-1].copy())
    assert not selftest(Classifier(tiny_bundle)).ok


def test_an_engine_that_computes_otherwise_is_found(tiny_bundle, monkeypatch, variant):
    predict = Classifier.predict

    def off(self, fitted_rgb):
        said = predict(self, fitted_rgb)
        return Prediction(said.labels, np.roll(said.scores, 1), said.embedding)

    monkeypatch.setattr(Classifier, "predict", off)
    assert not selftest(Classifier(tiny_bundle, variant=variant)).ok


def remove_photo(bundle):
    (bundle / FOLDER / "own.jpg").unlink()


def cut_photo(bundle):
    path = bundle / FOLDER / "own.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def change_photo(bundle):
    shutil.copyfile(bundle / FOLDER / "other.jpg", bundle / FOLDER / "own.jpg")


def remove_answers(bundle):
    answers_file(bundle).unlink()


def forge_answers(bundle):
    path = answers_file(bundle)
    path.write_text(path.read_text().replace("1.0", "0.9"))


def forget_variant(bundle):
    change_answers(bundle, lambda answers: answers["variants"].pop("int8"))


def forget_photo(bundle):
    change_answers(bundle, lambda answers: answers["photos"].pop())


def forget_label(bundle):
    change_answers(bundle, lambda answers: answers["variants"]["int8"]["scores"][0].pop())


@pytest.mark.parametrize(("spoil", "told"), [
    (remove_photo, "own.jpg cannot be read (No such file or directory)"), (cut_photo, "ends early"), (change_photo, "becomes other pixels"),
    (remove_answers, "cannot be read"), (forge_answers, "is not the file its card vouches for"),
    (forget_variant, "it holds nothing of 'int8'"), (forget_photo, "it has 2 photos and answers for 3"), (forget_label, "gets 3 scores instead of 2"),
])
def test_a_damaged_self_test_is_a_failed_one(tiny_bundle, spoil, told):
    spoil(tiny_bundle)
    report = selftest(Classifier(tiny_bundle))
    assert not report.ok
    assert told in str(report)


def test_a_bundle_without_one_is_told_of_and_not_refused(tiny_bundle):
    dataclasses.replace(read_card(tiny_bundle), parity={}).write(tiny_bundle)
    shutil.rmtree(tiny_bundle / FOLDER)
    report = selftest(Classifier(tiny_bundle))
    assert report.ok
    assert str(report) == "no self-test in this bundle; convert again to add one"


def test_it_is_run_once(tiny_bundle, tmp_path, monkeypatch):
    state = tmp_path / "selftest.json"
    assert not selftest_once(Classifier(tiny_bundle), state=state).is_cached
    predict, calls = Classifier.predict, []
    monkeypatch.setattr(Classifier, "predict", lambda self, fitted_rgb: calls.append(1) or predict(self, fitted_rgb))
    report = selftest_once(Classifier(tiny_bundle), state=state)
    assert report.ok
    assert report.is_cached
    assert not calls
    assert "when it was last run" in str(report)


def other_opencv(bundle, monkeypatch):
    monkeypatch.setattr(cv2, "__version__", "4.11.0")


def other_litert(bundle, monkeypatch):
    import ai_edge_litert

    monkeypatch.setattr(ai_edge_litert, "__version__", "1.2.0")


def other_machine(bundle, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")


def other_answers(bundle, monkeypatch):
    change_answers(bundle, lambda answers: answers.update(made_with={"opencv": "6"}))


def other_threshold(bundle, monkeypatch):
    dataclasses.replace(read_card(bundle), operating_points={"saved_model": {"threshold": 0.7}}).write(bundle)


def other_deploy(bundle, monkeypatch):
    dataclasses.replace(read_card(bundle), deploy="float32").write(bundle)


@pytest.mark.parametrize("change", [other_opencv, other_litert, other_machine, other_answers, other_threshold, other_deploy])
def test_it_is_run_again_when_what_it_holds_for_has_changed(tiny_bundle, tmp_path, monkeypatch, change):
    state = tmp_path / "selftest.json"
    selftest_once(Classifier(tiny_bundle), state=state)
    change(tiny_bundle, monkeypatch)
    assert not selftest_once(Classifier(tiny_bundle), state=state).is_cached
    assert selftest_once(Classifier(tiny_bundle), state=state).is_cached


def test_a_failure_is_never_remembered(tiny_bundle, tmp_path):
    remove_photo(tiny_bundle)
    for _ in range(2):
        report = selftest_once(Classifier(tiny_bundle), state=tmp_path / "selftest.json")
        assert (report.ok, report.is_cached) == (False, False)


@pytest.mark.parametrize("noted", [b"", b"[]", b"null", b'{"key": 1}', b"\xff"])
def test_a_damaged_state_is_no_state(tiny_bundle, tmp_path, noted):
    state = tmp_path / "selftest.json"
    state.write_bytes(noted)
    assert not selftest_once(Classifier(tiny_bundle), state=state).is_cached
    assert selftest_once(Classifier(tiny_bundle), state=state).is_cached


def test_a_state_that_cannot_be_written_is_no_obstacle(tiny_bundle, tmp_path):
    for _ in range(2):
        report = selftest_once(Classifier(tiny_bundle), state=tmp_path / "absent" / "selftest.json")
        assert (report.ok, report.is_cached) == (True, False)
