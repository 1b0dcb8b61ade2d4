"""Motion JPEG: a stream of bytes, from HTTP, a pipe or a child process, to its newest whole picture.

FFmpeg, which OpenCV would read it with, decodes every picture in turn, so a machine that is busy falls behind the camera and
stays behind (a reader at 10 of 15 pictures a second: two seconds late after four); it cannot be interrupted, and pads pictures
that were cut off with grey. Here what has arrived is split at JPEG's own markers, which every kind of MJPEG has (with or
without multipart headers, with or without lengths in them), and only the last whole picture is decoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import CameraError

LARGEST_BYTES = 16 << 20  # of one picture; what is longer is no picture
_START, _END, _SCAN = b"\xff\xd8\xff", b"\xff\xd9", 0xDA


class ByteSource(Protocol):
    """Bytes as they arrive. Only `interrupt` is called from another thread."""

    def read(self) -> bytes:
        """Wait for bytes and return all that are there; none at the end, or after `interrupt`.

        Raises:
            OSError: the source broke, or was silent for too long.
        """

    def interrupt(self) -> None:
        """Make `read` return soon."""

    def close(self) -> None:
        """Give the source back."""


class JpegLink:
    """The pictures in a stream of JPEGs; `source` is closed with it. `first` are bytes that were read of it already."""

    def __init__(self, source: ByteSource, *, timeout_s: float, first: bytes = b"") -> None:
        self._source, self._timeout_s, self._first = source, timeout_s, first

    def pictures(self, dropped: Callable[[str], object]) -> Iterator[NDArray[Any]]:
        """See `Link`. Pictures are uint8 (H, W, 3), BGR."""
        splitter = JpegSplitter()
        waiting_since_s: float | None = None
        data = self._first or self._source.read()
        while data:
            jpegs, broken = splitter.feed(data)
            for _ in range(broken):
                dropped("its JPEG is cut off, broken or too long")
            picture = _decoded(jpegs[-1]) if jpegs else None
            if picture is not None:
                waiting_since_s = None
                yield picture
            else:
                if jpegs:
                    dropped("its JPEG cannot be decoded")
                now_s = time.monotonic()
                waiting_since_s = now_s if waiting_since_s is None else waiting_since_s
                if now_s - waiting_since_s > self._timeout_s:
                    raise CameraError(f"it sends bytes, but no picture for {self._timeout_s:g} s")
            data = self._source.read()

    def interrupt(self) -> None:
        """See `Link`."""
        self._source.interrupt()

    def close(self) -> None:
        """See `Link`."""
        self._source.close()


class JpegSplitter:
    """Cuts whole JPEGs out of bytes that arrive in pieces, whatever stands between them. Holds LARGEST_BYTES at most."""

    def __init__(self) -> None:
        self._bytes = bytearray()  # begins with a JPEG's start marker, or may hold the beginning of one
        self._searched = 0  # as far as the end marker is known not to be

    def feed(self, data: bytes) -> tuple[list[bytes], int]:
        """Take the next bytes; return the JPEGs that they complete, and how many were cut off or broken."""
        self._bytes += data
        jpegs, broken = [], 0
        while self._align():
            end = self._end()
            if end is None:
                if len(self._bytes) <= LARGEST_BYTES:
                    break
                end = -LARGEST_BYTES
            if end > 0:
                jpegs.append(bytes(self._bytes[:end]))
            else:
                broken += 1
            self._cut(abs(end))
        return jpegs, broken

    def _align(self) -> bool:
        """Throw away what stands before the first start marker; whether there is one."""
        start = self._bytes.find(_START)
        if start < 0:
            self._cut(max(0, len(self._bytes) - len(_START) + 1))  # the marker may arrive in two pieces
        elif start > 0:
            self._cut(start)
        return start >= 0

    def _end(self) -> int | None:
        """Where the first JPEG ends; minus where to go on where it is broken; None where its end has not come yet."""
        at = 2
        while at + 4 <= len(self._bytes):
            if self._bytes[at] != 0xFF:
                return -at
            if self._bytes[at + 1] == _SCAN:
                return self._end_of_scan(at)
            if self._bytes[at + 1] in (0xD8, 0xD9):  # another start, or an end without a picture
                return -at
            at += 1 if self._bytes[at + 1] == 0xFF else 2 + int.from_bytes(self._bytes[at + 2 : at + 4], "big")
        return None

    def _end_of_scan(self, scan: int) -> int | None:
        """In a scan an FF is followed by 00 or a restart, so FF D9 is the end, and FF D8 is the next picture's start."""
        begin = max(scan, self._searched)
        end = self._bytes.find(_END, begin)
        next_start = self._bytes.find(_START, begin, end + 1 if end >= 0 else len(self._bytes))
        if next_start >= 0:
            return -next_start
        if end >= 0:
            return end + len(_END)
        self._searched = max(scan, len(self._bytes) - len(_START) + 1)
        return None

    def _cut(self, count: int) -> None:
        del self._bytes[:count]
        self._searched = 0


def _decoded(jpeg: bytes) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
