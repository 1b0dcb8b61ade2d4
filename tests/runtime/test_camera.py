from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from pawlatch.camera import FOLDER_FPS, Frame, NewestFrameCamera, clip_frames, clip_name, open_camera, open_clip
from pawlatch.errors import CameraError

IMAGE = np.full((48, 64, 3), 120, np.uint8)


def frame(index: int) -> Frame:
    return Frame(index / 10, IMAGE, index)


def test_clip_frames_gives_every_frame_with_clip_time(draw_clip):
    frames = list(clip_frames(draw_clip("clip", [(1.2, "own")])))
    assert [f.index for f in frames] == list(range(12))
    assert [f.time_s for f in frames] == pytest.approx([i / 10 for i in range(12)])
    assert frames[0].image_bgr.shape == (120, 160, 3)
    assert frames[0].image_bgr.dtype == np.uint8


def test_unpaced_camera_drops_nothing(draw_clip):
    with open_camera(str(draw_clip("clip", [(2, None)])), paced=False) as camera:
        assert [f.index for f in camera.frames()] == list(range(20))


def test_unpaced_camera_stops_between_frames(draw_clip):
    with open_camera(str(draw_clip("clip", [(2, None)])), paced=False) as camera:
        frames = camera.frames()
        next(frames)
        camera.stop()
        assert list(frames) == []
    camera.close()


def test_paced_clip_is_a_camera_that_ends(draw_clip):
    with open_camera(str(draw_clip("clip", [(0.6, "own")]))) as camera:
        frames = list(camera.frames())
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert frames[-1].index == 5
    assert camera.fps == 10


def test_folder_of_pictures_is_a_clip(tmp_path):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), ord(name[0]), np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(clip_frames(tmp_path))
    assert [(int(f.image_bgr[0, 0, 0]), f.time_s) for f in frames] == [(ord("a"), 0.0), (ord("b"), 1 / FOLDER_FPS)]


def test_scene_is_a_clip():
    clip = open_clip("scene:empty?fps=2")
    assert [f.time_s for f in clip.frames] == [i / 2 for i in range(8)]


def test_keeps_the_newest_frame_only(clock):
    read_all, release = threading.Event(), threading.Event()

    def source():
        yield from map(frame, range(5))
        read_all.set()  # the reader took the fifth and came back for more
        release.wait(10)
        yield frame(5)

    with NewestFrameCamera(source(), name="test", fps=10, live=False, clock=lambda: 100.0) as camera:
        assert read_all.wait(10)
        frames = camera.frames()
        first = next(frames)
        assert (first.index, first.time_s) == (4, 100.0)
        release.set()
        assert [f.index for f in frames] == [5]


def test_a_silent_live_camera_is_an_error_and_time_goes_on_meanwhile(clock):
    release = threading.Event()
    ticks = []

    def source():
        yield frame(0)
        release.wait(10)

    def idle():
        ticks.append(clock.now_s)
        clock.now_s += 2.0

    with NewestFrameCamera(source(), name="cam", fps=10, live=True, clock=clock, stale_s=5.0) as camera:
        frames = camera.frames(idle)
        next(frames)
        with pytest.raises(CameraError, match=r"cam was silent for 5 s"):
            next(frames)
        release.set()
    assert ticks == [0.0, 2.0, 4.0]


def test_a_live_camera_that_ends_is_an_error():
    with (
        NewestFrameCamera(iter([frame(0)]), name="cam", fps=10, live=True) as camera,
        pytest.raises(CameraError, match="no more frames"),
    ):
        list(camera.frames())


def test_what_the_reader_raises_reaches_the_caller():
    def source():
        yield frame(0)
        raise CameraError("driver broke")

    with (
        NewestFrameCamera(source(), name="cam", fps=10, live=False) as camera,
        pytest.raises(CameraError, match="driver broke"),
    ):
        list(camera.frames())


def test_stopping_ends_frames_at_once_and_close_may_come_twice():
    release = threading.Event()

    def source():
        release.wait(10)
        yield frame(0)

    camera = NewestFrameCamera(source(), name="cam", fps=10, live=True)
    frames = camera.frames(idle=camera.stop)
    assert list(frames) == []
    release.set()
    camera.close()
    camera.close()


def test_what_does_not_open_says_why(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 2000)
    (tmp_path / "nothing").mkdir()
    for uri, reason in {
        str(tmp_path / "absent.mp4"): "there is no",
        str(broken): "finds no frame",
        str(tmp_path / "nothing"): "holds none",
        "/dev/video99": "does not open",
        "scene:tiger": "scene",
    }.items():
        with pytest.raises(CameraError, match=reason):
            open_camera(uri)


def test_a_live_camera_cannot_be_hurried():
    with pytest.raises(CameraError, match="leave out --fast"):
        open_camera("0", paced=False)


def test_a_password_is_not_repeated():
    with pytest.raises(CameraError) as caught:
        open_camera("rtsp://paw:secret@127.0.0.1:1/stream")
    assert "secret" not in str(caught.value)
    assert "rtsp://127.0.0.1:1/stream" in str(caught.value)


def test_names_of_clips_are_names_of_files():
    assert clip_name("porch/눈 오는 날.mp4") == "눈-오는-날"
    assert clip_name("scene:own,cat?light=dusk") == "scene-own-cat-light-dusk"
