"""Frames that are all there already: video files, folders of pictures, and the drawn porch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from pawlatch.errors import CameraError
from pawlatch.frame import CameraOptions, CameraState, Frame, seen_through
from pawlatch.image import Image, read_image

SCENE = "scene:"
FOLDER_FPS = 5.0  # how fast a folder of pictures goes by


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are all there already: a video file, a folder of pictures, or a drawn scene."""

    fps: float
    frames: Iterator[Frame]


class ClipCamera:
    """A clip as fast as its reader goes: each frame in turn, with clip time, none dropped."""

    state = CameraState.OK

    def __init__(self, clip: Clip) -> None:
        self.fps = clip.fps
        self._frames = clip.frames
        self._stopped = False

    def frames(self, idle: Callable[[], object] | None = None) -> Iterator[Frame]:
        """Each frame of the clip. It never waits, so `idle` is never called."""
        for frame in self._frames:
            if self._stopped:
                return
            yield frame

    def stop(self) -> None:
        """Make `frames` end before the next frame."""
        self._stopped = True

    def close(self) -> None:
        """Stop; the file is closed with its last reference."""
        self.stop()
        self._frames = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_clip(uri: str | Path) -> Clip:
    """Open a video file, a folder of pictures (in the order of their names, five a second), or `scene:…`.

    Raises:
        CameraError: there is no such file, OpenCV cannot read it, or it holds no frame.
    """
    if str(uri).startswith(SCENE):
        return _open_scene(str(uri).removeprefix(SCENE))
    path = Path(uri)
    if not path.exists():
        raise CameraError(f"expected a camera, a clip, a folder of pictures or scene:demo, but there is no {path}")
    return _open_folder(path) if path.is_dir() else _open_video(path)


def clip_frames(uri: str | Path) -> Iterator[Frame]:
    """Every frame of a clip, in order, with clip time (index / fps); no thread. Raises as `open_clip`."""
    return open_clip(uri).frames


def clip_name(uri: str | Path) -> str:
    """What files made from a clip are named by: its name without suffix, and without what a file name cannot hold."""
    return re.sub(r"[^\w.-]+", "-", str(uri) if str(uri).startswith(SCENE) else Path(uri).resolve().stem).strip("-.")


def looked_at(clip: Clip, options: CameraOptions) -> Clip:
    """The same clip, turned, mirrored and cut as the options say. Reading it raises ImageError where nothing is left."""
    if not (options.rotate or options.mirror or options.region):
        return clip
    return Clip(clip.fps, (replace(frame, image_bgr=seen_through(options, frame.image_bgr)) for frame in clip.frames))


def captured(capture: cv2.VideoCapture) -> Iterator[Image]:
    """Pictures as OpenCV reads them, until there are no more; then the capture is released."""
    try:
        while (read := capture.read())[0]:
            yield np.asarray(read[1], np.uint8)
    finally:
        capture.release()


def _open_video(path: Path) -> Clip:
    capture = cv2.VideoCapture(str(path))
    images = captured(capture)
    first = next(images, None) if capture.isOpened() else None
    if first is None:
        raise CameraError(f"expected a clip, but OpenCV finds no frame in {path}; convert it to MP4 (H.264) or WebM")
    fps = capture.get(cv2.CAP_PROP_FPS)
    if not 1 <= fps <= 240:
        raise CameraError(f"a clip's rate must be 1 to 240 frames a second, but {path} says {fps:g}; convert it to MP4")
    return Clip(fps, _timed(chain([first], images), fps))


def _open_folder(path: Path) -> Clip:
    pictures = [file for file in sorted(path.iterdir()) if file.is_file() and cv2.haveImageReader(str(file))]
    if not pictures:
        raise CameraError(f"expected a folder of pictures, but {path} holds none that OpenCV reads; save them as JPEG")
    images = (np.ascontiguousarray(read_image(picture)[..., ::-1]) for picture in pictures)
    return Clip(FOLDER_FPS, _timed(images, FOLDER_FPS))


def _open_scene(spec: str) -> Clip:
    from pawlatch.scene import Scene  # a drawing program: a real door never needs it

    scene = Scene.parse(spec)
    return Clip(scene.fps, (Frame(time_s, image, index) for index, (time_s, image) in enumerate(scene.frames())))


def _timed(images: Iterable[Image], fps: float) -> Iterator[Frame]:
    return (Frame(index / fps, image, index) for index, image in enumerate(images))
