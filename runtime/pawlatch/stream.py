"""Pictures for those who watch: drawn and encoded once for all of them, in a thread, and only while there are any."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Self

import cv2

from pawlatch.image import Image

logger = logging.getLogger(__name__)

Picture = Callable[[], Image]  # draws it: uint8 (H, W, 3), BGR

VIEWERS = 4  # who may watch at once
JPEG_QUALITY = 80
BOUNDARY = "frame"
CONTENT_TYPE = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
_JOIN_S = 2.0


class Stream:
    """Encodes what `newest` gives (None: nothing yet) until it is closed; a context manager.

    It asks again when it is nudged, and `fps` times a second while somebody watches.
    """

    def __init__(self, newest: Callable[[], Picture | None], *, fps: float, name: str) -> None:
        self._newest, self._fps, self._name = newest, fps, name
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._drawn: Picture | None = None
        self._jpeg: bytes | None = None
        self._viewers = 0
        self._thread = threading.Thread(target=self._encode, name=f"{name}'s encoder", daemon=True)
        self._thread.start()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return self._viewers

    @property
    def is_over(self) -> bool:
        """Whether it is closed."""
        return self._stop.is_set()

    def nudge(self) -> None:
        """There is a newer picture. Costs nothing while nobody watches."""
        if self._viewers:
            with self._changed:
                self._changed.notify_all()

    def watch(self) -> Viewer | None:
        """Somebody comes; None where too many watch already. Leave by its `close`."""
        with self._changed:
            if self._viewers >= VIEWERS or self._stop.is_set():
                return None
            if self._viewers == 0:  # what was drawn for those before is old
                self._drawn = self._jpeg = None
            self._viewers += 1
            self._changed.notify_all()
        return Viewer(self)

    def close(self) -> None:
        """Send everybody home. May be called twice."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _leave(self) -> None:
        with self._changed:
            self._viewers -= 1

    def _next(self, before: bytes | None, timeout_s: float) -> bytes | None:
        """The newest JPEG, once it is another than `before`; None when the stream is over or nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or self._jpeg is not before, timeout_s)
            return None if self._stop.is_set() or self._jpeg is before else self._jpeg

    def _encode(self) -> None:
        is_broken = False
        while not self._stop.is_set():
            jpeg: bytes | None = None
            with self._changed:
                self._changed.wait_for(lambda: self._stop.is_set() or self._viewers)
                self._changed.wait_for(lambda: self._stop.is_set() or self._newest() is not self._drawn, 1 / self._fps)
                picture = self._newest()
            if self._stop.is_set() or picture is None or picture is self._drawn:
                continue
            try:
                jpeg = _jpeg(picture())
            except Exception:  # drawing is a courtesy: the stream goes on with the next picture, and the door in any case
                level = logging.DEBUG if is_broken else logging.ERROR
                logger.log(level, "a picture of the %s cannot be drawn", self._name, exc_info=True)
            is_broken = jpeg is None
            with self._changed:
                self._drawn, self._jpeg = picture, jpeg or self._jpeg
                self._changed.notify_all()
            self._stop.wait(1 / self._fps)


class Viewer:
    """One who watches."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._seen: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether the stream is closed."""
        return self._stream.is_over

    def next(self, timeout_s: float = 5.0) -> bytes | None:
        """The newest JPEG, once there is one that was not seen yet; None at the end, or where none comes within `timeout_s`."""
        jpeg = self._stream._next(self._seen, timeout_s)
        self._seen = jpeg or self._seen
        return jpeg

    def close(self) -> None:
        """Make room for another. To be called once."""
        self._stream._leave()


def part(jpeg: bytes) -> bytes:
    """A picture as a part of a response of CONTENT_TYPE."""
    head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"


def _jpeg(image_bgr: Image) -> bytes:
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
