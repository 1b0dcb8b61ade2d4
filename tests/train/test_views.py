"""Arrays on disk, augmented views, and the frozen part's outputs that are computed once."""

from __future__ import annotations

import dataclasses
import subprocess

import numpy as np
import pytest

from pawlatch import scene
from pawlatch_train.augment import AUGMENTATIONS, NONE, Augmentation, augment
from pawlatch_train.store import ArrayFile
from pawlatch_train.views import Variations, compute_views

SIDE = 48


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    images = np.stack([scene.draw(rng, scene.OWN, light=scene.LIGHTS[0], size_hw=(SIDE, SIDE)) for _ in range(5)])
    store = ArrayFile(tmp_path / "pixels", (SIDE, SIDE, 3), np.uint8)
    store.append(images)
    return images, store


def test_rows_come_back_to_the_bit_and_outlive_the_process(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 3, 2)).astype(np.float32)
    with ArrayFile(tmp_path / "rows", (3, 2), np.float32) as store:
        store.append(rows[:4])
        store.append(rows[4:])
        assert np.array_equal(store.take([6, 0, 0]), rows[[6, 0, 0]])
    with ArrayFile(tmp_path / "rows", (3, 2), np.float32) as again:
        assert len(again) == 7
        assert np.array_equal(again.take(range(7)), rows)
        with pytest.raises(IndexError):
            again.take([7])


def test_half_a_row_does_not_count(tmp_path):
    with ArrayFile(tmp_path / "rows", (4,), np.float32) as store:
        store.append(np.ones((2, 4)))
    with (tmp_path / "rows").open("ab") as file:
        file.write(b"\0" * 7)
    with ArrayFile(tmp_path / "rows", (4,), np.float32) as again:
        assert len(again) == 2
        again.append(np.full((1, 4), 3.0))
        assert again.take([2]).tolist() == [[3.0] * 4]


def test_view_0_is_the_photo_and_others_follow_from_their_numbers_alone(pictures):
    images, store = pictures
    variations = Variations(store, Augmentation(), seed=3)
    assert np.array_equal(variations.view(2, 0), images[2])
    assert np.array_equal(variations.view(2, 1), variations.view(2, 1))
    assert not np.array_equal(variations.view(2, 1), variations.view(2, 2))
    assert not np.array_equal(variations.view(2, 1), dataclasses.replace(variations, seed=4).view(2, 1))


def mean_colour(pixels):
    return pixels.astype(np.float32).mean((1, 2))


def test_each_view_is_computed_once_and_found_again(pictures, tmp_path):
    images, store = pictures
    variations, calls = Variations(store, Augmentation(), seed=0), []

    def function(pixels):
        calls.append(len(pixels))
        return mean_colour(pixels)

    how = {"count": 2, "path": tmp_path / "views", "dtype": np.float32}
    views = compute_views(function, variations, np.array([4, 1]), **how)
    assert np.allclose(views.take(range(5)), mean_colour(images))
    assert np.allclose(views.take([1, 4], np.array([2, 1])), mean_colour(variations.views([1, 4], [2, 1])))
    assert np.allclose(views.derive(lambda rows: rows * 2, tmp_path / "double").take([4], 2), 2 * views.take([4], 2))
    done = sum(calls)
    assert done == 1 + 5 + 2 * 2
    compute_views(function, variations, np.array([4, 1]), **how)
    assert sum(calls) == done + 1  # the shape alone is asked for again: nothing that lies there is computed anew


def test_no_augmentation_changes_nothing(pictures):
    image = pictures[0][0]
    assert np.array_equal(augment(image, np.random.default_rng(0), size_hw=(SIDE, SIDE), how=NONE), image)


def only(**chances):
    off = dataclasses.replace(NONE, zoom=(1.0, 1.0))
    return dataclasses.replace(off, **chances)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_augmentation_gives_pictures_of_the_size_asked_for(pictures, name):
    varied = augment(pictures[0][0], np.random.default_rng(1), size_hw=(32, 40), how=AUGMENTATIONS[name])
    assert varied.shape == (32, 40, 3)
    assert varied.dtype == np.uint8


def changed(pictures, how):
    rng = np.random.default_rng(2)
    return [(image.astype(int), augment(image, rng, size_hw=(SIDE, SIDE), how=how).astype(int)) for image in pictures[0]]


def test_the_door_augmentations_do_what_they_say(pictures):
    for _, grey in changed(pictures, only(grey=1.0)):
        assert np.abs(grey - grey.mean(axis=2, keepdims=True)).max() <= 1
    for image, dusk in changed(pictures, only(dusk=1.0)):
        assert dusk.mean() < 0.8 * image.mean()
    for image, blurred in changed(pictures, only(blur=1.0)):
        assert np.abs(np.diff(blurred, axis=1)).mean() < np.abs(np.diff(image, axis=1)).mean()
    for image, wet in changed(pictures, only(rain=1.0)):
        assert (wet >= image).all()
        assert 0.02 < (wet > image + 20).any(axis=2).mean() < 0.9
    for image, compressed in changed(pictures, only(jpeg=1.0)):
        assert 0 < np.abs(compressed - image).mean() < 20


def test_a_full_disk_is_said_so(pictures, tmp_path):
    from pawlatch.errors import OutputError

    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk]).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        with pytest.raises(OutputError, match="make room"):
            compute_views(lambda pixels: pixels, Variations(pictures[1], NONE, 0), np.arange(5), count=1, path=disk / "views", dtype=np.uint8)
    finally:
        subprocess.run(["umount", disk], check=True)
