from __future__ import annotations

import os
import subprocess

import cv2
import numpy as np
import pytest

from pawlatch import text
from pawlatch.camera import Frame, open_clip
from pawlatch.classify import Prediction
from pawlatch.decide import Consensus, Verdict
from pawlatch.door import DoorState
from pawlatch.errors import OutputError
from pawlatch.gate import GateResult
from pawlatch.loop import Step
from pawlatch.overlay import ClipWriter, draw

GREY = np.full((480, 640, 3), 127, np.uint8)


def step(label="own", *, state=DoorState.LOCKED, image=GREY, reason="3 of 3 frames say so"):
    scores = np.array([0.9, 0.07, 0.03], np.float32)
    prediction = Prediction((label, "other", "_empty"), scores, scores)
    verdict = Verdict(True, label, 0.9, reason)
    return Step(Frame(1.5, image, 15), GateResult(True, 0.1, "moved"), prediction, verdict, state, False, None)


def drawn(it, label="own"):
    return draw(it, policy=Consensus((label,), 0.8))


def test_draws_on_a_copy_and_leaves_the_animal_free():
    picture = drawn(step())
    assert (picture.shape, picture.dtype) == (GREY.shape, np.uint8)
    assert (GREY == 127).all()
    assert (picture[100:360] == 127).all()


def test_the_band_is_green_when_open_and_red_when_locked():
    for state, channel in ((DoorState.UNLOCKED, 1), (DoorState.LOCKED, 2)):
        assert drawn(step(state=state))[20, 300].argmax() == channel


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has no font with Hangul")
def test_korean_labels_show():
    korean, unknown = drawn(step("초코"), "초코"), drawn(step("??"), "??")
    assert (korean != unknown).any()
    assert (drawn(step("초코"), "초코") != drawn(step("호두"), "호두")).any()


def test_without_a_font_it_still_draws(monkeypatch):
    monkeypatch.setattr(text, "_font", lambda: None)
    assert (drawn(step("초코"), "초코") == drawn(step("??"), "??")).all()


def test_a_frame_that_the_gate_kept_and_a_long_reason():
    kept = Step(Frame(0.0, GREY, 0), GateResult(False, 0.0, "nothing moves"), None, None, DoorState.LOCKED, False, None)
    assert (drawn(kept) != GREY).any()
    assert (drawn(step(reason="because " * 60))[-20:, -8:] < 127).all()  # the margin stays free of text


@pytest.mark.parametrize("size_hw", [(480, 640), (121, 161), (1080, 1920)])
def test_a_recorded_clip_is_vp8_with_every_frame(tmp_path, size_hw):
    path = tmp_path / "clip.webm"
    image = np.full((*size_hw, 3), 127, np.uint8)
    with ClipWriter(path, fps=10) as clip:
        for index in range(5):
            clip.write(drawn(step(image=image)), index / 10)
        assert not path.exists()
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"VP80")
    read = open_clip(path)
    frames = list(read.frames)
    assert (read.fps, len(frames)) == (10, 5)
    assert frames[0].image_bgr.shape[:2] == (size_hw[0] // 2 * 2, size_hw[1] // 2 * 2)
    assert [file.name for file in tmp_path.iterdir()] == ["clip.webm"]


def test_a_recorded_clip_keeps_time_where_frames_are_missing(tmp_path):
    with ClipWriter(tmp_path / "clip.webm", fps=10) as clip:
        for time_s in (7.0, 7.01, 7.1, 8.0):
            clip.write(GREY, time_s)
    assert len(list(open_clip(tmp_path / "clip.webm").frames)) == 11


def test_a_clip_that_fails_leaves_nothing(tmp_path):
    def write(*images):
        with ClipWriter(tmp_path / "clip.webm", fps=10) as clip:
            for image in images:
                clip.write(image, 0.0)

    with pytest.raises(OutputError, match="of one size"):
        write(GREY, GREY[:100])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"name it clip\.webm"):
        ClipWriter(tmp_path / "clip.mp4", fps=10)
    clip = ClipWriter(tmp_path / "absent" / "clip.webm", fps=10)
    with pytest.raises(OutputError, match="its folder exists"):
        clip.write(GREY, 0.0)


def test_a_full_disk_is_noticed_and_leaves_no_half_clip(tmp_path):
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path]).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
        with pytest.raises(OutputError, match="make room"), ClipWriter(tmp_path / "clip.webm", fps=10) as clip:  # noqa: PT012
            for index, frame in enumerate(noise):
                clip.write(frame, index / 10)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
