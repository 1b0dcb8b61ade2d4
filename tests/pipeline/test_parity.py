"""The parity gate as a test suite: `pytest tests/pipeline/test_parity.py --model model/` judges every file of its bundle."""

from __future__ import annotations

from pathlib import Path

import pytest

from pawlatch.card import read_bundle

NO_MODEL = pytest.mark.skip(reason="judges the model that --model DIR names")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        model = metafunc.config.getoption("--model")
        variants = list(read_bundle(model)[1].files) if model else [pytest.param("", marks=NO_MODEL)]
        metafunc.parametrize("variant", variants)


@pytest.fixture(scope="session")
def verdict(request: pytest.FixtureRequest):
    """The verdict on the whole bundle, once; an error where its card does not vouch for a file."""
    pytest.importorskip("tensorflow", reason="needs the convert extra")
    from pawlatch_convert import ConvertOptions
    from pawlatch_convert.verify import verify_bundle

    model: Path = request.config.getoption("--model")
    return verify_bundle(model, ConvertOptions())


@pytest.fixture
def result(verdict, variant: str):
    """The verdict on one variant."""
    (found,) = [entry for entry in verdict.variants if entry.variant == variant]
    return found


def assert_none_of(result, *codes: str) -> None:
    """That no such reason is given, and that it was compared at all."""
    assert [reason.sentence for reason in result.reasons if reason.code in codes] == []
    assert result.comparison is not None, result.reasons


def test_it_is_green(result) -> None:
    assert [reason.sentence for reason in result.reasons] == []


def test_top1_is_kept(result) -> None:
    assert_none_of(result, "top1")


def test_photos_keep_their_labels(result) -> None:
    assert_none_of(result, "agreement", "sure")


def test_the_door_decides_alike(result) -> None:
    assert_none_of(result, "door", "card")


def test_embeddings_point_where_they_did(result) -> None:
    assert_none_of(result, "embedding")


def test_scores_are_probabilities_and_steady(result) -> None:
    assert_none_of(result, "scores", "repeat")


def test_it_computes_as_it_is_called(result) -> None:
    assert_none_of(result, "integer", "input")


def test_photos_reach_it_as_in_training(result) -> None:
    assert_none_of(result, "pixels")
