"""What every camera has in common: clips, the newest frame only, and which part of a picture is looked at."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from pawlatch.camera import CameraOptions, CameraState, Frame, PacedCamera, clip_frames, clip_name, open_camera, open_clip
from pawlatch.clip import FOLDER_FPS
from pawlatch.errors import CameraError, ConfigError, ImageError
from pawlatch.frame import seen_through

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
        assert camera.state is CameraState.OK
    assert [f.index for f in frames] == sorted({f.index for f in frames})
    assert frames[-1].index == 5
    assert camera.fps == 10


def test_a_real_clip_is_read_whole(shared):
    clip = open_clip(shared / "data" / "clips" / "pomeranian.mp4")
    frames = list(clip.frames)
    assert len(frames) > 100
    assert frames[-1].time_s == pytest.approx((len(frames) - 1) / clip.fps)


def test_folder_of_pictures_is_a_clip(tmp_path):
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), np.full((48, 64, 3), ord(name[0]), np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    frames = list(clip_frames(tmp_path))
    assert [(int(f.image_bgr[0, 0, 0]), f.time_s) for f in frames] == [(ord("a"), 0.0), (ord("b"), 1 / FOLDER_FPS)]


def test_scene_is_a_clip():
    clip = open_clip("scene:empty?fps=2")
    assert [f.time_s for f in clip.frames] == [i / 2 for i in range(8)]


def test_keeps_the_newest_frame_only():
    read_all, release = threading.Event(), threading.Event()

    def source():
        yield from map(frame, range(5))
        read_all.set()  # the reader took the fifth and came back for more
        release.wait(10)
        yield frame(5)

    with PacedCamera(source(), name="test", fps=10, clock=lambda: 100.0) as camera:
        assert read_all.wait(10)
        frames = camera.frames()
        first = next(frames)
        assert (first.index, first.time_s) == (4, 100.0)
        release.set()
        assert [f.index for f in frames] == [5]


def test_what_a_broken_clip_raises_reaches_the_caller():
    def source():
        yield frame(0)
        raise CameraError("driver broke")

    with PacedCamera(source(), name="cam", fps=10) as camera, pytest.raises(CameraError, match="driver broke"):
        list(camera.frames())


def test_stopping_ends_frames_at_once_and_close_may_come_twice():
    release = threading.Event()

    def source():
        release.wait(10)
        yield frame(0)

    camera = PacedCamera(source(), name="cam", fps=10)
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
        "99": "there is no /dev/video99",
        "scene:tiger": "scene",
        "http://": "like http://host:port/path",
        "rtsp://cam:port/x": "like http://host:port/path",
        "http://127.0.0.1:9/x": "does not answer: Connection refused",
    }.items():
        with pytest.raises(CameraError, match=reason):
            open_camera(uri)


def test_a_live_camera_cannot_be_hurried():
    with pytest.raises(CameraError, match="leave out --fast"):
        open_camera("0", paced=False)


@pytest.mark.parametrize("options", [
    {"uri": ""}, {"size_wh": (640, 8)}, {"fps": 0.0}, {"fps": float("nan")}, {"rotate": 45}, {"region": (0.5, 0, 0.5, 1)},
    {"region": (0, 0, 1, float("nan"))}, {"region": (-0.1, 0, 1, 1)}, {"stale_s": 0.1}, {"retry_s": 0}, {"longest_retry_s": 0.1},
])  # fmt: skip
def test_options_out_of_bounds_are_named(options):
    with pytest.raises(ConfigError, match=f"^{next(iter(options))} must"):
        CameraOptions(**options)


def corner() -> np.ndarray:
    """A picture 40 high and 60 wide, white in its top left."""
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:10, :20] = 255
    return picture


@pytest.mark.parametrize(("options", "size_hw", "white_yx"), [
    ({}, (40, 60), (0, 0)),
    ({"rotate": 90}, (60, 40), (0, -1)),
    ({"rotate": 180}, (40, 60), (-1, -1)),
    ({"rotate": 270}, (60, 40), (-1, 0)),
    ({"mirror": True}, (40, 60), (0, -1)),
    ({"rotate": 90, "mirror": True}, (60, 40), (0, 0)),
    ({"rotate": 90, "region": (0.0, 0.5, 0.5, 1.0)}, (30, 20), (0, -1)),
])  # fmt: skip
def test_a_picture_is_turned_mirrored_and_cut(options, size_hw, white_yx):
    seen = seen_through(CameraOptions(**options), corner())
    assert seen.shape == (*size_hw, 3)
    corners = {(y, x): seen[y, x].max() for y in (0, -1) for x in (0, -1)}
    assert [at for at, value in corners.items() if value == 255] == [white_yx]


def test_nothing_is_copied_where_nothing_changes():
    picture = corner()
    assert seen_through(CameraOptions(), picture) is picture
    assert np.shares_memory(seen_through(CameraOptions(region=(0.1, 0.1, 0.9, 0.9)), picture), picture)


def test_grey_and_transparent_frames_become_bgr_and_others_are_refused():
    grey = corner()[..., 0]
    for picture in (grey, grey[..., np.newaxis], cv2.cvtColor(corner(), cv2.COLOR_BGR2BGRA)):
        assert (seen_through(CameraOptions(), picture) == corner()).all()
    for picture, why in {
        "16 bits": (grey.astype(np.uint16), "uint16"),
        "no size": (np.empty((0, 60, 3), np.uint8), "uint8 picture"),
        "two channels": (corner()[..., :2], "got 2"),
        "tiny": (corner()[:8], "16 pixels"),
    }.values():
        with pytest.raises(ImageError, match=why):
            seen_through(CameraOptions(), picture)


@pytest.mark.parametrize("paced", [False, True])
def test_a_clip_is_seen_through_the_options_too(draw_clip, paced):
    options = CameraOptions(uri=str(draw_clip("clip", [(0.3, "own")])), rotate=90, region=(0.0, 0.0, 1.0, 0.5))
    with open_camera(options=options, paced=paced) as camera:
        assert {f.image_bgr.shape for f in camera.frames()} == {(160, 60, 3)}


def test_names_of_clips_are_names_of_files():
    assert clip_name("porch/눈 오는 날.mp4") == "눈-오는-날"
    assert clip_name("scene:own,cat?light=dusk") == "scene-own-cat-light-dusk"
