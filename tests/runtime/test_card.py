"""The card and the files it vouches for."""

import json
from dataclasses import replace

import pytest

from pawlatch.card import InputSpec, ModelCard, read_bundle, read_card, verified_file
from pawlatch.errors import ModelCardError, OutputError, PawlatchError
from pawlatch.files import new_folder, write_atomic

CARD = ModelCard(name="rex", labels=("rex", "강아지", "_empty"), input=InputSpec((96, 96)), unlock=("rex",),
                 operating_points={"saved_model": {"threshold": 0.8}, "int8": {"threshold": 0.9}})


def rewrite(folder, **changes):
    path = folder / "pawlatch.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_card_survives_the_disk(tmp_path):
    CARD.write(tmp_path)
    assert read_card(tmp_path) == CARD
    assert "강아지" in (tmp_path / "pawlatch.json").read_text(encoding="utf-8")


def test_equal_cards_are_equal_files():
    assert CARD.to_json() == replace(CARD).to_json()


@pytest.mark.parametrize(("changes", "words"), [
    ({"schema": 2}, "upgrade"),
    ({"schema": "new"}, "integer"),
    ({"labels": ["rex"]}, "at least two labels"),
    ({"labels": ["rex", "rex"], "unlock": []}, "different"),
    ({"unlock": ["cat"]}, "unlock must name"),
    ({"unlock": ["_empty"]}, "never unlock"),
    ({"deploy": "int8"}, "deploy must name"),
    ({"input": {"size_hw": [96, 96], "fit": "squeeze"}}, "input.fit"),
    ({"files": {"int8": {"name": "../x.tflite", "format": "tflite", "precision": "int8", "bytes": 1, "sha256": ""}}}, "beside its card"),
])
def test_a_wrong_card_is_refused_with_its_reason(tmp_path, changes, words):
    CARD.write(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(ModelCardError, match=words):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"schema": 1}', "\xff"])
def test_what_is_no_card_is_refused(tmp_path, text):
    (tmp_path / "pawlatch.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelCardError, match="not a usable card"):
        read_card(tmp_path)


def test_a_folder_without_a_card_says_how_to_get_one(tmp_path):
    with pytest.raises(ModelCardError, match="pawlatch train"):
        read_card(tmp_path)
    with pytest.raises(ModelCardError, match="pawlatch train"):
        read_card(tmp_path / "nowhere")


def test_nothing_converted_yet_says_so(tmp_path):
    CARD.write(tmp_path)
    with pytest.raises(ModelCardError, match="convert --int8"):
        read_bundle(tmp_path)


def test_a_model_folder_stands_for_its_edge_folder(tmp_path, tiny_bundle):
    CARD.write(tmp_path)
    tiny_bundle.rename(tmp_path / "edge")
    assert read_bundle(tmp_path)[0] == tmp_path / "edge"


def test_each_variant_has_its_own_threshold():
    assert CARD.threshold("int8") == 0.9
    assert CARD.threshold("float16") == 0.8
    with pytest.raises(ModelCardError, match="--unlock"):
        replace(CARD, operating_points={}).threshold("int8")


def test_a_changed_file_is_not_the_cards(tiny_bundle):
    card = read_card(tiny_bundle)
    _, path = verified_file(tiny_bundle, card, None)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelCardError, match="not the file its card vouches for"):
        verified_file(tiny_bundle, card, None)
    path.unlink()
    with pytest.raises(ModelCardError, match="missing"):
        verified_file(tiny_bundle, card, None)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_atomic(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with pytest.raises(RuntimeError), new_folder(target) as folder:  # noqa: PT012
        (folder / "half").write_text("written")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with new_folder(target) as folder:
        (folder / "whole").write_text("written")
    assert [path.name for path in target.iterdir()] == ["whole"]


def test_a_folder_that_exists_is_replaced_only_when_told(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "mine").write_text("precious")
    with pytest.raises(PawlatchError, match="--overwrite"), new_folder(target):
        pass
    assert (target / "mine").read_text() == "precious"
    with pytest.raises(RuntimeError), new_folder(target, overwrite=True):
        raise RuntimeError
    assert (target / "mine").read_text() == "precious"
    with new_folder(target, overwrite=True) as folder:
        (folder / "new").write_text("x")
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_a_full_disk_while_a_folder_is_written_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="No space left"), new_folder(tmp_path / "model") as folder:  # noqa: PT012
        (folder / "half").write_text("written")
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []
