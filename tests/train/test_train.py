"""`train photos/ -o model/` from the outside: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.image import fit, read_image

SIDE = 64
tf = pytest.importorskip("tensorflow", reason="needs the train extra")


def serve(model: Path):
    return tf.saved_model.load(str(model)).signatures["serving_default"]


def held_out(model: Path):
    for label in sorted(path.name for path in (model / "assets.extra" / "heldout").iterdir()):
        for path in sorted((model / "assets.extra" / "heldout" / label).iterdir()):
            yield label, path


def test_it_says_what_it_did(trained):
    _, told = trained
    for words in ("initial accuracy", "frozen 3 of 3", "fine-tuned 1 of 1", "trainable in the head", "STARTER", "stage is kept",
                  "1 files set aside", "broken.jpg"):
        assert words in told.stderr
    for words in ("held-out photos that chose nothing", "초코", "strangers let in", "report.html", "convert --int8"):
        assert words in told.stdout


def test_the_folder_is_complete(trained, counts):
    model, _ = trained
    assert (model / "saved_model.pb").is_file()
    for plot in ("curves.png", "confusion.png"):
        assert min(read_image(model / plot).shape[:2]) > 100
    kept = sorted(path.parent.name for path in (model / "assets.extra" / "calibration").rglob("*.png"))
    assert set(kept) == set(counts)
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_the_card_tells_all(trained):
    model, _ = trained
    card = read_card(model)
    assert card.labels == ("_empty", "_other", "초코")
    assert card.unlock == ("초코",)
    assert card.input.size_hw == (SIDE, SIDE)
    assert 0.8 <= card.threshold("int8") <= 0.98
    assert card.threshold("int8") * 256 == int(card.threshold("int8") * 256)
    assert card.files == {}
    assert card.provenance["backbone"]["weights"] == "starter"
    assert list(card.provenance["set_aside"]) == ["_other/broken.jpg"]


def test_no_photo_is_in_two_splits_and_held_out_photos_are_kept_byte_for_byte(trained, drawn_photos, counts):
    model, _ = trained
    splits = read_card(model).provenance["splits"]
    names = [name for split in splits.values() for name in split]
    assert len(names) == len(set(names)) == sum(counts.values())
    kept = sorted(path.read_bytes() for _, path in held_out(model))
    assert kept == sorted((drawn_photos / name).read_bytes() for name in splits["held_out"])


def test_calibration_keeps_fitted_pixels_of_training_photos(trained, drawn_photos):
    model, _ = trained
    names = {f"{Path(name).parent}/{Path(name).stem}": name for name in read_card(model).provenance["splits"]["fit"]}
    for path in (model / "assets.extra" / "calibration").rglob("*.png"):
        original = drawn_photos / names[f"{path.parent.name}/{path.stem.split('-', 1)[1]}"]
        assert np.array_equal(read_image(path), fit(read_image(original), (SIDE, SIDE), policy="stretch"))


def test_the_saved_model_keeps_the_contract(trained):
    signature = serve(trained[0])
    (spec,) = signature.structured_input_signature[1].values()
    assert spec.dtype == tf.float32
    assert spec.shape.as_list() == [None, SIDE, SIDE, 3]
    outputs = signature(tf.constant(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)), tf.float32))
    assert set(outputs) == {"class_scores", "embedding"}
    assert outputs["embedding"].shape == (2, 1280)
    assert np.allclose(outputs["class_scores"].numpy().sum(1), 1, atol=1e-5)


def test_normalisation_is_inside_the_graph(trained):
    """A graph that scaled nothing would saturate at 0..255 and ignore a change of one grey level in [0, 1]."""
    signature = serve(trained[0])
    images = tf.constant(np.stack([fit(read_image(path), (SIDE, SIDE), policy="stretch") for _, path in held_out(trained[0])]), tf.float32)
    raw, scaled = (signature(image=pixels)["embedding"].numpy() for pixels in (images, images / 255))
    assert raw.std(axis=0).mean() > 10 * scaled.std(axis=0).mean()


def test_reloading_gives_the_same_outputs_to_the_bit_and_the_cards_accuracy(trained):
    model, _ = trained
    card = read_card(model)
    first, again = serve(model), serve(model)
    right = 0
    for label, path in held_out(model):
        pixels = tf.constant(fit(read_image(path), (SIDE, SIDE), policy="stretch")[np.newaxis], tf.float32)
        one, other = first(image=pixels), again(image=pixels)
        assert all(np.array_equal(one[key], other[key]) for key in one)
        right += card.labels[int(one["class_scores"].numpy().argmax())] == label
    metrics = card.provenance["metrics"]
    assert right / metrics["held_out_photos"] == pytest.approx(metrics["held_out_accuracy"])


def test_an_output_that_exists_is_touched_only_when_told(trained, drawn_photos, tmp_path, command):
    output = tmp_path / "model"
    output.mkdir()
    (output / "mine.txt").write_text("precious")
    told = command("train", drawn_photos, "-o", output, "--weights", "starter")
    assert told.returncode == 2
    assert "--overwrite" in told.stderr
    assert (output / "mine.txt").read_text() == "precious"


def photos_of(folder: Path, **counts: int) -> Path:
    rng = np.random.default_rng(0)
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            cv2.imwrite(str(folder / label / f"{i}.png"), rng.integers(0, 256, (40, 40, 3), np.uint8))
    return folder


@pytest.mark.parametrize(("counts", "arguments", "words"), [
    ({}, [], "no photos"),
    ({"rex": 5}, [], "at least two labels"),
    ({"rex": 5, "_other": 1}, [], "at least 2 photos"),
    ({"rex": 5, "_other": 5}, ["--unlock", "cat"], "--unlock must name labels"),
    ({"rex": 5, "_other": 5}, ["--unlock", "_other"], "never unlock"),
    ({"rex": 5, "_other": 5}, ["--weights", "nowhere.h5"], "no file nowhere.h5"),
    ({"rex": 5, "_other": 5}, ["--weights", "starter", "--width", "0.5"], "width 0.35"),
    ({"rex": 5, "_other": 5}, ["--image-size", "100"], "multiple of 32"),
])
def test_bad_input_is_refused_and_leaves_nothing(tmp_path, counts, arguments, words, command):
    (tmp_path / "photos").mkdir()
    told = command("train", photos_of(tmp_path / "photos", **counts), "-o", tmp_path / "model", *arguments)
    assert told.returncode == 2, told.stderr
    assert words in told.stderr
    assert "Traceback" not in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_label_without_a_readable_photo_is_refused(tmp_path, command):
    photos = photos_of(tmp_path / "photos", rex=6, _other=3)
    for path in (photos / "_other").iterdir():
        path.write_bytes(b"\x89PNG broken")
    told = command("train", photos, "-o", tmp_path / "model", "--weights", "starter", "--image-size", 64)
    assert told.returncode == 2
    assert "no readable photo is left" in told.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_imagenet_weights_that_cannot_be_had_are_an_error_and_auto_takes_the_starter_loudly(tmp_path, command):
    photos = photos_of(tmp_path / "photos", rex=6, _other=6)
    nowhere = {"HOME": str(tmp_path / "home"), "KERAS_HOME": str(tmp_path / "keras"), "https_proxy": "http://127.0.0.1:9"}
    told = command("train", photos, "-o", tmp_path / "model", "--weights", "imagenet", **nowhere)
    assert told.returncode == 2
    assert "--weights starter" in told.stderr
    assert not (tmp_path / "model").exists()
    told = command("train", photos, "-o", tmp_path / "model", "--image-size", 64, "--epochs", 1, "--fine-tune-epochs", 0, **nowhere)
    assert told.returncode == 0, told.stderr
    assert "USING THE STARTER BACKBONE" in told.stderr
    assert "cannot be armed" in told.stdout


def test_a_full_disk_leaves_nothing_half_written(drawn_photos, tmp_path, command):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        told = command("train", drawn_photos, "-o", disk / "model", "--weights", "starter", "--image-size", 64,
                         "--epochs", 1, "--fine-tune-epochs", 0)
        assert told.returncode == 2, told.stderr
        assert "make room" in told.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_the_card_is_plain_json(trained):
    assert json.loads((trained[0] / "pawlatch.json").read_text(encoding="utf-8"))["schema"] == 1
