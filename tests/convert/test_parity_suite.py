"""The parity suite, run on itself: green on a good bundle, red on one whose card vouches for another model's file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pawlatch.card import VariantFile, read_card
from pawlatch.files import sha256
from pawlatch_convert import ConvertOptions, convert_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def small_bundle(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with float32 and int8. Not to be changed."""
    model = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("small") / "model"))
    assert convert_model(model, ConvertOptions(recipes=("int8",), ladder=False)).is_green
    return model


def suite(*arguments: object) -> tuple[int, str]:
    told = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", "tests/pipeline/test_parity.py",
         *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=300,
    )
    return told.returncode, told.stdout + told.stderr


def test_it_skips_without_a_model() -> None:
    status, told = suite("-rs")
    assert status == 0
    assert "judges the model that --model DIR names" in told
    assert "passed" not in told


@pytest.mark.slow
def test_it_is_green_on_a_good_bundle(small_bundle: Path) -> None:
    status, told = suite("--model", small_bundle)
    assert status == 0, told
    assert "16 passed" in told


def test_it_is_red_where_the_card_vouches_for_another_models_file(small_bundle: Path, other_int8: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(small_bundle, tmp_path / "model"))
    shutil.copy(other_int8, model / "edge")
    card = read_card(model / "edge")
    entry = VariantFile(other_int8.name, "tflite", "int8", other_int8.stat().st_size, sha256(other_int8))
    replace(card, files={**card.files, "int8": entry}).write(model / "edge")
    status, told = suite("--model", model, "-rf")
    assert status == 1
    red = set(re.findall(r"FAILED \S+::(\w+)\[(\w+)\]", told))
    assert {("test_it_is_green", "int8"), ("test_embeddings_point_where_they_did", "int8")} <= red
    assert {variant for _, variant in red} == {"int8"}
    assert "its embeddings point elsewhere than the SavedModel's" in told
    assert "passed" in told  # float32 is what it was


@pytest.mark.slow
def test_it_is_an_error_where_a_byte_is_flipped(small_bundle: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(small_bundle, tmp_path / "model"))
    file = model / "edge" / read_card(model / "edge").files["int8"].name
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    status, told = suite("--model", model)
    assert status == 1
    assert "is not the file its card vouches for" in told
    assert "passed" not in told
