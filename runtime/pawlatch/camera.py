"""Everything that gives frames: cameras, streams, clips, folders of pictures and the drawn porch.

A door must act on what is, not on what was: a camera's reader thread keeps the newest frame only, so there is never a
backlog. Clips can be read as a camera would have seen them (paced), or frame by frame.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import urlsplit

import cv2
import numpy as np

from pawlatch.errors import CameraError
from pawlatch.image import Image, read_image

logger = logging.getLogger(__name__)

SCENE = "scene:"
STREAMS = ("rtsp://", "rtsps://", "http://", "https://")
FOLDER_FPS = 5.0  # how fast a folder of pictures goes by
LIVE_FPS = 10.0  # what is assumed of a live camera where a rate must be named, as in a recorded clip
STALE_S = 5.0  # a live camera that is silent for longer is broken
STREAM_TIMEOUT_MS = 5000
_IDLE_S = 0.1  # how often a waiting consumer looks at its clock
_JOIN_S = 2.0


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture from a camera: uint8 (H, W, 3), BGR. `time_s` is clip time, or when a live camera gave it."""

    time_s: float
    image_bgr: Image
    index: int


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are all there already: a video file, a folder of pictures, or a drawn scene."""

    fps: float
    frames: Iterator[Frame]


class Camera(Protocol):
    """Gives frames until its source ends or `stop` is called; a context manager."""

    fps: float

    def frames(self, idle: Callable[[], object] | None = None) -> Iterator[Frame]:
        """Yield frames; `idle` is called about every tenth of a second in which a live camera gives none."""

    def stop(self) -> None:
        """Make `frames` end at once; safe to call from a signal handler."""

    def close(self) -> None:
        """Stop and give the source back. May be called twice."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *raised: object) -> None: ...


class _Managed(ABC):
    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class ClipCamera(_Managed):
    """A clip as fast as its reader goes: each frame in turn, with clip time, none dropped."""

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


class NewestFrameCamera(_Managed):
    """A reader thread that keeps the newest frame of `source`, stamped with `clock`, and forgets the others.

    `live` sources are never over: one that ends, or is silent for `stale_s`, raises CameraError in `frames`. Others are
    paced by the times of their own frames, and end.
    """

    def __init__(self, source: Iterable[Frame], *, name: str, fps: float, live: bool,
                 clock: Callable[[], float] = time.monotonic, stale_s: float = STALE_S) -> None:
        self.fps = fps
        self._source, self._name, self._live = source, name, live
        self._clock, self._stale_s = clock, stale_s
        self._newest: Frame | None = None
        self._error: Exception | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"reader of {name}", daemon=True)
        self._thread.start()

    def frames(self, idle: Callable[[], object] | None = None) -> Iterator[Frame]:
        """Yield each newest frame once; what came while the caller was busy is gone.

        Raises:
            CameraError: a live source ended or was silent for `stale_s`.
        """
        last_s = self._clock()
        while not self._stop.is_set():
            with self._changed:
                if self._newest is None and not self._ended:
                    self._changed.wait(_IDLE_S)
                frame, self._newest, ended = self._newest, None, self._ended
            if self._stop.is_set():
                return
            if frame is not None:
                last_s = frame.time_s
                yield frame
            elif ended:
                self._raise_if_broken()
                return
            else:
                if idle is not None:
                    idle()
                if self._live and self._clock() - last_s > self._stale_s:
                    raise CameraError(
                        f"a camera must give frames, but {self._name} was silent for {self._stale_s:g} s; "
                        "check its cable, its power and its network"
                    )

    def stop(self) -> None:
        """Make `frames` end at once; safe to call from a signal handler."""
        self._stop.set()
        with self._changed:  # a re-entrant lock, so a handler that interrupts its owner does not deadlock
            self._changed.notify_all()

    def close(self) -> None:
        """Stop and wait for the reader; one that hangs in its driver is left behind with a logged error."""
        self.stop()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            logger.error("the %s does not end; it hangs in the camera's driver", self._thread.name)

    def _read(self) -> None:
        began_s = self._clock()
        try:
            for frame in self._source:
                wait_s = 0.0 if self._live else began_s + frame.time_s - self._clock()
                if self._stop.wait(max(0.0, wait_s)):
                    break
                with self._changed:
                    self._newest = replace(frame, time_s=self._clock())
                    self._changed.notify_all()
        except Exception as error:  # whatever it is, it belongs to the thread that asks for frames
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise self._error
        if self._live:
            raise CameraError(f"a camera must go on, but {self._name} gives no more frames; check cable and power")


def open_camera(uri: str, *, paced: bool = True, clock: Callable[[], float] = time.monotonic,
                stale_s: float = STALE_S) -> Camera:
    """Open `0`, `/dev/video0`, `rtsp://…`, `http://…`, or anything `open_clip` opens.

    A clip is `paced` by its own time, as a camera would have given it, or else read frame by frame with clip time.

    Raises:
        CameraError: it does not open, it gives no frame, or a live camera was to run unpaced.
    """
    if _is_live(uri):
        if not paced:
            raise CameraError(f"only clips and scenes outrun time, but {_public(uri)} is live; leave out --fast")
        live = _open_live(uri)
        return NewestFrameCamera(live, name=_public(uri), fps=LIVE_FPS, live=True, clock=clock, stale_s=stale_s)
    clip = open_clip(uri)
    if not paced:
        return ClipCamera(clip)
    return NewestFrameCamera(clip.frames, name=uri, fps=clip.fps, live=False, clock=clock, stale_s=stale_s)


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


def _open_video(path: Path) -> Clip:
    capture = cv2.VideoCapture(str(path))
    images = _captured(capture)
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


def _open_live(uri: str) -> Iterator[Frame]:
    if uri.startswith(STREAMS):
        opening, reading = cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC
        capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, [opening, STREAM_TIMEOUT_MS, reading, STREAM_TIMEOUT_MS])
    else:
        capture = cv2.VideoCapture(int(uri) if uri.isdigit() else uri)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the driver's queue is a backlog too
    if not capture.isOpened():
        raise CameraError(
            f"the camera {_public(uri)} does not open; `ls /dev/video*` lists cameras, a stream needs its whole "
            "address, and another program may be using it"
        )
    return (Frame(0.0, image, index) for index, image in enumerate(_captured(capture)))


def _captured(capture: cv2.VideoCapture) -> Iterator[Image]:
    try:
        while (read := capture.read())[0]:
            yield np.asarray(read[1], np.uint8)
    finally:
        capture.release()


def _timed(images: Iterable[Image], fps: float) -> Iterator[Frame]:
    return (Frame(index / fps, image, index) for index, image in enumerate(images))


def _is_live(uri: str) -> bool:
    return uri.isdigit() or uri.startswith(("/dev/", *STREAMS))


def _public(uri: str) -> str:
    """The address without its user name and password, for messages and logs."""
    return uri.replace(f"{urlsplit(uri).netloc.rpartition('@')[0]}@", "") if "@" in uri else uri
