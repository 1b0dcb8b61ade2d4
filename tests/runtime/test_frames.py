"""`pawlatch frames`: clips as photos, cut as the door cuts them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pawlatch.camera import open_clip
from pawlatch.commands.clips import frames
from pawlatch.errors import CameraError


def test_frames_saves_sharp_different_pictures(draw_clip, tmp_path, capsys):
    clip, photos = draw_clip("walk", [(2, "own"), (2, None)]), tmp_path / "photos" / "own"
    assert frames([str(clip), "-o", str(photos), "--every", "0.5"]) == 0
    saved = sorted(path.name for path in photos.iterdir())
    assert 4 <= len(saved) <= 5  # one each half second of the walk, and one of the two empty seconds
    assert saved[0].startswith("walk-000")
    assert capsys.readouterr().out == f"{len(saved)} photos saved in {photos}\n"
    assert cv2.imread(str(photos / saved[0])).shape == (120, 160, 3)


def test_frames_keeps_what_is_there(draw_clip, tmp_path, capsys):
    clip, photos = draw_clip("walk", [(1, "own")]), tmp_path / "own"
    frames([str(clip), "-o", str(photos), "--count", "3"])
    first, *others = sorted(photos.iterdir())
    first.write_bytes(b"mine")
    capsys.readouterr()
    frames([str(clip), "-o", str(photos), "--count", "3"])
    assert first.read_bytes() == b"mine"
    assert capsys.readouterr().out == f"0 photos saved in {photos}, {1 + len(others)} were there already\n"


def test_frames_takes_the_sharpest_of_each_stretch(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    clip = next(open_clip("scene:own?fps=2").frames).image_bgr
    for index, blur in enumerate((9, 1, 15)):
        cv2.imwrite(str(folder / f"{index}.png"), cv2.GaussianBlur(clip, (blur, blur), 0))
    frames([str(folder), "-o", str(tmp_path / "out"), "--count", "1"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pictures-000200.jpg"]


def test_frames_between_start_and_end(draw_clip, tmp_path, capsys):
    clip = draw_clip("walk", [(3, "own")])
    frames([str(clip), "-o", str(tmp_path / "out"), "--start", "1", "--end", "2"])
    times_ms = [int(path.stem.split("-")[1]) for path in (tmp_path / "out").iterdir()]
    assert 1000 <= min(times_ms) <= max(times_ms) <= 2000
    with pytest.raises(CameraError, match="has no frame between"):
        frames([str(clip), "-o", str(tmp_path / "out"), "--start", "9"])


def test_frames_cuts_the_box_that_the_door_will_cut(tmp_path, capsys):
    clip = "scene:empty,own?fps=5&size=0.25"
    assert frames([clip, "-o", str(tmp_path / "own"), "--count", "6"]) == 0
    cut = [cv2.imread(str(path)) for path in sorted((tmp_path / "own").iterdir())]
    assert 3 <= len(cut) <= 6
    assert all(image.shape[0] == image.shape[1] < 400 for image in cut)
    assert min(int(path.stem.split("-")[-1]) for path in (tmp_path / "own").iterdir()) >= 4000  # none of the empty porch
    frames([clip, "-o", str(tmp_path / "whole"), "--count", "6", "--whole"])
    whole = list((tmp_path / "whole").iterdir())
    assert {path.name for path in whole} == {path.name for path in (tmp_path / "own").iterdir()}
    assert {cv2.imread(str(path)).shape for path in whole} == {(480, 640, 3)}


def test_frames_of_an_empty_place_are_the_whole_and_the_same_parts_each_time(tmp_path, capsys):
    for name in ("a", "b"):
        frames(["scene:empty?fps=5", "-o", str(tmp_path / name / "_empty"), "--count", "10"])
    first, again = ({path.name: path.read_bytes() for path in (tmp_path / name / "_empty").iterdir()} for name in ("a", "b"))
    assert first == again
    shapes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in first.values()]
    assert 1 <= shapes.count((480, 640, 3)) <= 2
    assert 10 <= len(shapes) <= 13
    assert all(height == width for height, width, _ in shapes if (height, width) != (480, 640))


def test_frames_of_an_animal_that_never_moves_are_whole(tmp_path, capsys):
    frames(["scene:empty?fps=5", "-o", str(tmp_path / "cat"), "--count", "10"])
    assert {cv2.imread(str(path)).shape for path in (tmp_path / "cat").iterdir()} == {(480, 640, 3)}
