"""Bad input: what is said, and that nothing is left behind."""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pawlatch.card import CARD_NAME, InputSpec, ModelCard, read_card
from pawlatch.errors import MissingExtraError, ModelCardError, OutputError, PhotosError
from pawlatch.files import sha256
from pawlatch_convert import ConvertOptions, bundle, convert_model
from pawlatch_convert.cli import main
from pawlatch_convert.photoset import MAX_CALIBRATION, find_photos
from pawlatch_convert.recipes import ConversionError

CARD = ModelCard("pets", ("cat", "dog"), InputSpec((32, 32)))


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def make_photos(folder: Path, **counts: int) -> Path:
    """Files that only their names make photos."""
    for label, n in counts.items():
        (folder / label).mkdir(parents=True)
        for i in range(n):
            (folder / label / f"{i:03}.jpg").touch()
    return folder


# ---------------------------------------------------------------------------------------------- the model folder


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelCardError, match="expected a model folder"):
        main(["--int8", str(tmp_path / "nowhere")])


def test_no_card(model_dir: Path) -> None:
    (model_dir / CARD_NAME).unlink()
    with pytest.raises(ModelCardError, match=r"holds no pawlatch\.json"):
        main([str(model_dir)])


def test_a_newer_schema(model_dir: Path) -> None:
    card = json.loads((model_dir / CARD_NAME).read_text())
    (model_dir / CARD_NAME).write_text(json.dumps(card | {"schema": 99}))
    with pytest.raises(ModelCardError, match=r"schema is 99.*upgrade"):
        main([str(model_dir)])


def test_no_saved_model(model_dir: Path) -> None:
    (model_dir / "saved_model.pb").unlink()
    with pytest.raises(ModelCardError, match=r"holds no saved_model\.pb"):
        main([str(model_dir)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["blue", "green", "red", "violet"]}, "4 labels, but the SavedModel gives 3 scores"),
        ({"input": {"size_hw": [64, 64], "fit": "stretch"}}, r"\(None or 1, 64, 64, 3\).*takes float32"),
        ({"outputs": {"class_scores": "probabilities", "embedding": "embedding"}}, "names the output 'probabilities'"),
    ],
)
def test_a_card_at_odds_with_its_model(model_dir: Path, change: dict[str, Any], message: str) -> None:
    card = json.loads((model_dir / CARD_NAME).read_text())
    (model_dir / CARD_NAME).write_text(json.dumps(card | change))
    with pytest.raises(ModelCardError, match=message):
        convert_model(model_dir, ConvertOptions(recipes=()))


def test_tensorflow_is_not_installed(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(MissingExtraError, match=r'needs TensorFlow; type: pip install "pawlatch\[convert\]"'):
        convert_model(model_dir)


@pytest.mark.parametrize("arguments", [["--max-drop", "2"], ["--min-agreement", "much"], ["--threads", "0"], []])
def test_bad_use_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments if not arguments else [*arguments, "model"])
    assert ending.value.code == 2
    assert "usage: convert" in capsys.readouterr().err


def test_an_unknown_recipe(model_dir: Path) -> None:
    with pytest.raises(ConversionError, match="got int4; choose among them"):
        convert_model(model_dir, ConvertOptions(recipes=("int8", "int4")))


def test_the_model_folder_is_no_place_for_the_bundle(model_dir: Path) -> None:
    with pytest.raises(OutputError, match="the model itself"):
        main(["--int8", str(model_dir), "-o", str(model_dir / "assets.extra" / "..")])


# --------------------------------------------------------------------------------------------------- the photos


def test_no_photos_to_judge_by(model_dir: Path) -> None:
    shutil.rmtree(model_dir / "assets.extra" / "heldout")
    with pytest.raises(PhotosError, match=r"heldout is missing; add --photos DIR"):
        main(["--int8", str(model_dir)])


def test_photos_of_other_labels(model_dir: Path, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", tabby=2, siamese=2)
    with pytest.raises(PhotosError, match=r"named after the card's labels \(blue, green, red\), got siamese, tabby"):
        main(["--int8", str(model_dir), "--photos", str(photos)])


def test_no_photo_can_be_read(model_dir: Path) -> None:
    for name in ("heldout", "calibration"):
        for path in (model_dir / "assets.extra" / name).rglob("*.jpg"):
            path.write_bytes(b"")
        with pytest.raises(PhotosError, match=r"photo could be read: expected a picture, but .* is empty"):
            convert_model(model_dir, ConvertOptions(recipes=()))
    assert not (model_dir / "edge").exists()


def test_splits_say_what_a_photo_is_for(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", cat=300, dog=20)
    make_photos(tmp_path / "valid", cat=3, dog=3)
    found = find_photos(tmp_path, tmp_path, CARD)
    assert len(found.calibration) == MAX_CALIBRATION
    assert sum(photo.label == "dog" for photo in found.calibration) == 20  # all that there are, before more cats
    assert {photo.path.parts[-3] for photo in found.heldout} == {"valid"}
    assert len(found.others) == 120
    make_photos(tmp_path / "test", cat=2, dog=2)
    found = find_photos(tmp_path, tmp_path, CARD)
    assert {photo.path.parts[-3] for photo in found.heldout} == {"test"}
    assert len(found.others) == 126


def test_photos_without_splits_are_halved_by_label(tmp_path: Path) -> None:
    make_photos(tmp_path, cat=11, dog=4)
    found = find_photos(tmp_path, tmp_path, CARD)
    assert [photo.label for photo in found.heldout].count("dog") == 2
    assert len(found.calibration) + len(found.heldout) == 15
    assert not set(found.calibration) & set(found.heldout)
    assert found == find_photos(tmp_path, tmp_path, CARD)


def test_one_photo_a_label_is_too_few(tmp_path: Path) -> None:
    make_photos(tmp_path, cat=1, dog=1)
    with pytest.raises(PhotosError, match="has one a label; add another"):
        find_photos(tmp_path, tmp_path, CARD)


def test_photos_take_the_place_of_the_models_own(model_dir: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    shutil.move(model_dir / "assets.extra" / "heldout", photos)
    result = convert_model(model_dir, ConvertOptions(recipes=(), photos=photos))
    assert (result.n_heldout, result.n_photos) == (15, 30)


# ----------------------------------------------------------------------------------------------------- the disk


def full(name_part: str, write: Callable[..., None]) -> Callable[..., None]:
    """A `write_atomic` on a disk that has no room for one of the files."""

    def write_atomic(path: Path, data: bytes | str) -> None:
        if name_part in path.name:
            raise OutputError(f"cannot write {path}: No space left on device; make room")
        write(path, data)

    return write_atomic


@pytest.mark.parametrize("name_part", ["int8-", "parity.json"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_full_disk_leaves_the_bundle_as_it_was(
    converted: Path, monkeypatch: pytest.MonkeyPatch, name_part: str, is_first: bool,
) -> None:
    edge = converted / "edge"
    if is_first:
        shutil.rmtree(edge)
    else:
        card = read_card(edge)
        (edge / card.files["int8"].name).unlink()
    before = contents(converted)
    monkeypatch.setattr(bundle, "write_atomic", full(name_part, bundle.write_atomic))
    with pytest.raises(OutputError, match="make room"):
        convert_model(converted, ConvertOptions(recipes=("int8",)))
    assert contents(converted) == before
    assert edge.exists() == (not is_first)


def test_a_full_scratch_disk_leaves_nothing(
    model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write_bytes = Path.write_bytes

    def no_room(path: Path, data: bytes) -> int:
        if path.suffix == ".part":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", no_room)
    before = contents(model_dir)
    with pytest.raises(OutputError, match=r"No space left on device.*make room"):
        convert_model(model_dir, ConvertOptions(recipes=()))
    assert contents(model_dir) == before
    assert not list(scratch.iterdir())
