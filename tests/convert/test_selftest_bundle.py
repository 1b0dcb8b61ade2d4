"""The photos and answers that a conversion puts into the bundle, for the device to test itself with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawlatch import cli
from pawlatch.bundle import PREVIOUS_NAME
from pawlatch.card import CARD_NAME, InputSpec, ModelCard, read_card
from pawlatch.classify import Classifier
from pawlatch.photos import Photo
from pawlatch.selftest import FOLDER, name_of, read_expected, selftest
from pawlatch_convert import selftest as writer
from pawlatch_convert.compare import Outputs, Scored
from pawlatch_convert.photoset import Sample


@pytest.fixture(scope="session")
def int8_model(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with float32 and int8 converted."""
    model = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("selftest") / "model"))
    assert cli.main(["convert", "--int8", "--no-ladder", str(model)]) == 0
    return model


@pytest.fixture
def model(int8_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(int8_model, tmp_path / "model"))


def answers_of(edge: Path) -> dict[str, Any]:
    return read_expected(edge, read_card(edge).parity[FOLDER])


def test_every_variant_passes_its_own_test(converted: Path) -> None:
    edge = converted / "edge"
    for variant in read_card(edge).files:
        report = selftest(Classifier(edge, variant=variant))
        assert report.ok, str(report)
        assert report.photos == 6  # two of each label


def test_the_photos_are_held_out_ones_byte_for_byte(int8_model: Path) -> None:
    edge, answers = int8_model / "edge", answers_of(int8_model / "edge")
    originals = {path.read_bytes(): path.parent.name for path in (int8_model / "assets.extra" / "heldout").rglob("*.jpg")}
    for photo in answers["photos"]:
        assert originals[(edge / FOLDER / photo["file"]).read_bytes()] == photo["label"]
    assert [photo["label"] for photo in answers["photos"]] == ["red", "blue", "green"] * 2  # what unlocks first


def test_it_holds_what_computed_and_what_must_be_exact(int8_model: Path) -> None:
    answers = answers_of(int8_model / "edge")
    assert answers["made_with"].keys() >= {"pawlatch", "opencv", "ai_edge_litert", "machine"}
    assert {name: variant["exact"] for name, variant in answers["variants"].items()} == {"float32": False, "int8": True}


def test_a_variant_kept_from_before_is_in_the_new_test(model: Path) -> None:
    before = read_card(model / "edge").parity[FOLDER]
    assert cli.main(["convert", "--float16", "--no-ladder", str(model)]) == 0
    edge = model / "edge"
    assert read_card(edge).parity[FOLDER] != before
    assert answers_of(edge)["variants"].keys() == {"float32", "float16", "int8"} == read_card(edge).files.keys()
    for variant in read_card(edge).files:
        assert selftest(Classifier(edge, variant=variant)).ok


def test_rolled_back_each_card_has_its_test_and_nothing_is_left_over(model: Path) -> None:
    edge = model / "edge"
    old = read_card(edge).parity[FOLDER]
    assert cli.main(["convert", "--float16", "--no-ladder", str(model)]) == 0
    new = read_card(edge).parity[FOLDER]
    photos = {photo["file"] for photo in answers_of(edge)["photos"]}
    assert {path.name for path in (edge / FOLDER).iterdir()} == photos | {name_of(old), name_of(new)}
    assert cli.main(["convert", "--rollback", str(model)]) == 0
    assert read_card(edge).parity[FOLDER] == old
    assert selftest(Classifier(edge)).ok
    assert cli.main(["convert", "--int8", "--no-ladder", str(model)]) == 0  # the previous card is the new one's again
    assert cli.main(["convert", "--rollback", str(model)]) == 0
    assert selftest(Classifier(edge)).ok
    named = {photo["file"] for digest in digests(edge) for photo in read_expected(edge, digest)["photos"]}
    assert {path.name for path in (edge / FOLDER).iterdir()} == named | {name_of(digest) for digest in digests(edge)}


def digests(edge: Path) -> set[str]:
    return {json.loads((edge / name).read_text())["parity"][FOLDER] for name in (CARD_NAME, PREVIOUS_NAME)}


def test_a_previous_bundle_without_its_test_is_not_gone_back_to(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edge = model / "edge"
    old = read_card(edge).parity[FOLDER]
    assert cli.main(["convert", "--float16", "--no-ladder", str(model)]) == 0
    (edge / FOLDER / name_of(old)).unlink()
    assert cli.main(["convert", "--rollback", str(model)]) == 2
    assert "self-test" in capsys.readouterr().err
    assert read_card(edge).parity[FOLDER] != old


def spoil_answers(edge: Path) -> None:
    path = edge / FOLDER / name_of(read_card(edge).parity[FOLDER])
    path.write_text(path.read_text() + " ")


def spoil_photo(edge: Path) -> None:
    (edge / FOLDER / answers_of(edge)["photos"][0]["file"]).write_bytes(b"rotten")


@pytest.mark.parametrize("spoil", [spoil_answers, spoil_photo])
def test_verify_is_red_where_the_self_test_is_not_whole(
    model: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], None],
) -> None:
    assert cli.main(["convert", "--verify", "--json", str(model)]) == 0
    capsys.readouterr()
    spoil(model / "edge")
    assert cli.main(["convert", "--verify", "--json", str(model)]) == 1
    for entry in json.loads(capsys.readouterr().out)["variants"]:
        assert "selftest" in [reason["code"] for reason in entry["reasons"]]


# ------------------------------------------------------------------------------------------------------- which photos


def scored_photos(tmp_path: Path, rows: list[tuple[str, int, float, bool]]) -> tuple[list[Sample], Scored]:
    """Photos as (label, bytes, score of "own", held out); what is left of 1 is the other label's."""
    samples = []
    for number, (label, size, _, is_heldout) in enumerate(rows):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(bytes(size))
        samples.append(Sample(Photo(path, label), np.zeros((16, 16, 3), np.uint8), is_heldout))
    own = np.array([score for _, _, score, _ in rows], np.float32)
    outputs = Outputs(np.stack([own, 1 - own], axis=1), np.zeros((len(rows), 2), np.float32))
    judged = np.array([is_heldout for *_, is_heldout in rows])
    scored = Scored(tuple(map(str, range(len(rows)))), tuple(label for label, *_ in rows), judged, outputs, {"int8": outputs}, {})
    return samples, scored


CARD = ModelCard("choice", ("other", "own"), InputSpec((16, 16)), unlock=("own",), operating_points={"saved_model": {"threshold": 0.8}})


def test_small_photos_that_are_no_close_call_come_first(tmp_path: Path) -> None:
    card = replace(CARD, labels=("own", "other"))
    samples, scored = scored_photos(tmp_path, [
        ("own", 100, 0.99, False),  # not held out
        ("own", 300, 0.99, True), ("own", 200, 0.99, True), ("own", 400, 0.99, True),
        ("other", 10, 0.78, True),  # near the threshold
        ("other", 20, 0.51, True),  # near the other label
        ("other", 900, 0.01, True), ("other", 950, 0.01, True),
    ])
    assert writer.choose(samples, scored, card) == [2, 6, 1, 7]


def test_close_calls_are_better_than_none(tmp_path: Path) -> None:
    samples, scored = scored_photos(tmp_path, [("own", 9, 0.79, True), ("other", 9, 0.5, True)])
    assert writer.choose(samples, scored, replace(CARD, labels=("own", "other"))) == [0, 1]


def test_all_photos_together_stay_small(tmp_path: Path) -> None:
    large = writer.MOST_BYTES - 100
    samples, scored = scored_photos(tmp_path, [("own", large, 1.0, True), ("other", 200, 0.0, True), ("other", 50, 0.0, True)])
    assert writer.choose(samples, scored, replace(CARD, labels=("own", "other"))) == [0, 2]
    samples, scored = scored_photos(tmp_path, [("own", 2 * large, 1.0, True), ("other", 2 * large, 0.0, True)])
    assert writer.choose(samples, scored, replace(CARD, labels=("own", "other"))) == [0]
