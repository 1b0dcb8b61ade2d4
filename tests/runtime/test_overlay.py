from __future__ import annotations

import os
import subprocess
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pawlatch import text
from pawlatch.camera import CameraState, Frame, open_clip
from pawlatch.classify import Prediction
from pawlatch.decide import Consensus, Verdict
from pawlatch.door import DoorState
from pawlatch.errors import OutputError
from pawlatch.gate import GateResult, Refusal
from pawlatch.loop import Step
from pawlatch.overlay import BANDS, CAMERA_WORDS, ClipWriter, draw, draw_silent

GREY = np.full((480, 640, 3), 127, np.uint8)
MOVED = GateResult(True, 0.1, "moved")


def step(label="own", *, state=DoorState.LOCKED, image=GREY, reason="3 of 3 frames say so", gate=MOVED,
         others=("other", "_empty"), is_stranger=False, **verdict):
    labels = (label, *others)
    scores = np.array([0.9, *[0.1 / len(others)] * len(others)], np.float32)
    prediction = Prediction(labels, scores, scores, is_stranger=is_stranger)
    verdict = Verdict(**{"unlock": True, "label": label, "score": 0.9, "reason": reason, **verdict})
    return Step(Frame(1.5, image, 15), gate, prediction, verdict, state, False, None)


def kept(reason="nothing moves", *, image=GREY, **gate):
    """A frame that the gate kept from the model."""
    result = GateResult(**{"moved": False, "motion": 0.0, "reason": reason, **gate})
    return Step(Frame(0.0, image, 0), result, None, None, DoorState.LOCKED, False, None)


def drawn(it, label="own"):
    return draw(it, policy=Consensus((label,), 0.8))


def rows_of(picture, colour):
    """Which rows hold a pixel of about that colour."""
    return np.flatnonzero((np.abs(picture.astype(int) - colour).max(axis=2) < 12).any(axis=1))


def test_draws_on_a_copy_and_leaves_the_animal_free():
    picture = drawn(step())
    assert (picture.shape, picture.dtype) == (GREY.shape, np.uint8)
    assert (GREY == 127).all()
    assert (picture[100:360] == 127).all()


def test_the_band_is_green_when_open_only():
    for state in DoorState:
        assert (drawn(step(state=state))[5, 300].argmax() == 1) == (state is DoorState.UNLOCKED)


def test_a_door_that_only_observes_is_not_shown_open():
    open_door = step(state=DoorState.UNLOCKED)
    assert drawn(replace(open_door, observes=True))[5, 300].argmax() != 1


def test_every_state_has_its_words():
    assert set(BANDS) == set(DoorState)
    assert set(CAMERA_WORDS) == set(CameraState)
    pictures = [drawn(step(state=state))[:40].tobytes() for state in DoorState]
    assert len(set(pictures)) == len(pictures)


def test_the_box_is_drawn_where_it_is_and_green_when_it_may_pass():
    gate = GateResult(True, 0.1, "moved", (100, 200, 300, 400))
    for unlock, colour in ((True, (92, 158, 38)), (False, (255, 255, 255))):
        picture = drawn(step(gate=gate, unlock=unlock))
        assert (picture[100, 300], picture[200, 399]) == (pytest.approx(colour, abs=12), pytest.approx(colour, abs=12))
        assert (picture[110:290, 210:390] == 127).all()
    outside = GateResult(True, 0.1, "moved", (-20, -20, 500, 700))
    assert drawn(step(gate=outside)).shape == GREY.shape


def test_evidence_is_measured_against_what_is_needed():
    without = drawn(step())
    little, much = (drawn(step(policy="evidence", evidence=e, needed=6.9)) for e in (1.0, 7.0))
    meter = np.s_[432:444, 16:156]
    assert (without[meter] != little[meter]).any()
    assert rows_of(little[meter], (92, 158, 38)).size == 0
    assert rows_of(much[meter], (92, 158, 38)).size > 0
    assert (drawn(step(policy="evidence", evidence=-9.0, needed=6.9))[meter] != without[meter]).any()


def test_every_score_is_drawn_and_too_many_are_counted():
    heights = []
    for count in (3, 4, 14, 15, 40):
        picture = drawn(step(others=tuple(f"animal {i}" for i in range(count - 1))))
        assert (picture[40:150] == 127).all()
        heights.append(480 - rows_of(picture[60:, 350:440], (90, 84, 80))[0])
    assert heights[0] == heights[1] < heights[2] == heights[3] == heights[4]
    few, more = (drawn(step(others=tuple(f"animal {i}" for i in range(count)))) for count in (30, 31))
    assert (few[-45:-25, 500:] != more[-45:-25, 500:]).any()  # +18 more, +19 more


def test_a_stranger_is_called_one():
    assert (drawn(step(is_stranger=True))[380:430, :300] != drawn(step())[380:430, :300]).any()


def test_what_is_wrong_with_the_camera_is_said():
    covered = drawn(kept("the camera is covered", camera=CameraState.COVERED, refusal=Refusal.COVERED))
    moved = drawn(kept("the camera was moved", camera=CameraState.MOVED, refusal=Refusal.MOVED))
    assert (covered[42:70] != moved[42:70]).any()
    assert (drawn(kept())[42:70] == 127).all()
    silent = {draw_silent(door=DoorState.FAULT, camera=state, time_s=3.0).tobytes() for state in CameraState}
    assert len(silent) == len(CameraState)
    assert draw_silent(door=DoorState.FAULT, camera=CameraState.STALLED, time_s=3.0, size_hw=(1080, 1920)).shape == (1080, 1920, 3)


@pytest.mark.parametrize("size_hw", [(16, 16), (48, 64), (640, 480), (100, 1000), (2160, 3840)])
def test_every_size_can_be_drawn_on(size_hw):
    image = np.full((*size_hw, 3), 127, np.uint8)
    gate = GateResult(True, 0.1, "moved", (2, 2, 10, 10), camera=CameraState.MOVED)
    picture = drawn(step(image=image, gate=gate, policy="evidence", evidence=3.0, needed=6.9, others=tuple("abcdefghijklmnopq")))
    assert picture.shape == image.shape
    assert (picture != image).any()


def test_a_view_can_be_drawn_on_and_stays_as_it_was():
    view = np.full((480, 1280, 3), 127, np.uint8)[:, 300:940]
    assert (drawn(step(image=view)) == drawn(step())).all()
    assert (view == 127).all()


@pytest.mark.skipif(not hasattr(cv2, "FontFace"), reason="OpenCV 4 has no font with Hangul")
def test_korean_labels_show():
    korean, unknown = drawn(step("초코"), "초코"), drawn(step("??"), "??")
    assert (korean != unknown).any()
    assert (drawn(step("초코"), "초코") != drawn(step("호두"), "호두")).any()


def test_without_a_font_it_still_draws(monkeypatch):
    monkeypatch.setattr(text, "_font", lambda: None)
    assert (drawn(step("초코"), "초코") == drawn(step("??"), "??")).all()


def test_a_frame_that_the_gate_kept_and_a_long_reason():
    assert (drawn(kept()) != GREY).any()
    assert (drawn(kept("blurred", moved=True, refusal=Refusal.BLURRED))[400:440] != drawn(kept())[400:440]).any()
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
    def write():
        with ClipWriter(tmp_path / "clip.webm", fps=10) as clip:
            clip.write(GREY, 0.0)
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_clip_takes_frames_of_another_size(tmp_path):
    with ClipWriter(tmp_path / "clip.webm", fps=10) as clip:
        for index, size_hw in enumerate([(480, 640), (240, 320), (720, 1280)]):
            clip.write(np.full((*size_hw, 3), 200, np.uint8), index / 10)
    frames = [frame.image_bgr for frame in open_clip(tmp_path / "clip.webm").frames]
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 3
    assert [round(float(frame.mean()), -1) for frame in frames] == [200, 200, 180]  # the last one has bars


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
