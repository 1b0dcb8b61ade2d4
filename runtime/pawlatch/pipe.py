"""Bytes from a named pipe or from a child process, without ever waiting where nobody can interrupt it."""

from __future__ import annotations

import io
import logging
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
from numpy.typing import NDArray

from pawlatch.clip import captured
from pawlatch.errors import CameraError
from pawlatch.mjpeg import ByteSource

if TYPE_CHECKING:
    from subprocess import Popen

logger = logging.getLogger(__name__)

_SLICE_MS = 100  # how long an interrupt may take
_CHUNK = 1 << 16
_AT_ONCE = 4 << 20  # of a writer that is faster than we are, so that the newest picture is reached
_CHILD_ENDS_S = 1.0
_SAID_LINES, _SAID_BYTES = 5, 4096  # what is kept of a child's complaints


class NamedPipe:
    """What another program writes into a FIFO. One that stops in the middle is waited for; one that goes away is the end.

    Raises:
        CameraError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._interrupted = False
        try:
            self._pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # does not wait for a writer
        except OSError as error:
            raise CameraError(f"cannot read the pipe {path}: {error.strerror}") from error

    def read(self) -> bytes:
        """See `ByteSource`."""
        while not self._interrupted:
            if _readable(self._pipe):
                return _all_at_hand(self._pipe)
        return b""

    def interrupt(self) -> None:
        """See `ByteSource`."""
        self._interrupted = True

    def close(self) -> None:
        """See `ByteSource`."""
        os.close(self._pipe)


class Child:
    """What a program writes to its standard output. It is killed on `close`; what it complains of goes to the log, briefly.

    Raises:
        CameraError: it does not start.
    """

    def __init__(self, command: list[str], *, timeout_s: float) -> None:
        import subprocess  # 10 ms that no other camera needs

        self._name, self._timeout_s = Path(command[0]).name, timeout_s
        self._interrupted = False
        self._said: deque[str] = deque(maxlen=_SAID_LINES)
        try:
            self._child: Popen[bytes] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                process_group=0,  # Ctrl-C is for the door, which then ends its camera
            )
        except OSError as error:
            raise CameraError(f"cannot start {command[0]}: {error.strerror}") from error
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._out, self._err = self._child.stdout.fileno(), self._child.stderr.fileno()
        for pipe in (self._out, self._err):
            os.set_blocking(pipe, False)

    def read(self) -> bytes:
        """See `ByteSource`. Raises CameraError where the program ends or is silent: it should go on."""
        silent_since_s = time.monotonic()
        while not self._interrupted:
            ready = _readable(self._out)
            self._listen()
            if ready and (data := _all_at_hand(self._out)):
                return data
            if ready:
                self._end()
                raise CameraError(f"{self._name} ended with status {self._child.returncode}{self._complaint()}")
            if time.monotonic() - silent_since_s > self._timeout_s:
                raise CameraError(f"{self._name} was silent for {self._timeout_s:g} s{self._complaint()}")
        return b""

    def interrupt(self) -> None:
        """See `ByteSource`."""
        self._interrupted = True

    def close(self) -> None:
        """End the program, with force where it does not want to. May be called twice."""
        self._child.terminate()
        self._end()
        for pipe in (self._child.stdout, self._child.stderr):
            assert pipe is not None
            pipe.close()

    def _end(self) -> None:
        from subprocess import TimeoutExpired

        try:
            self._child.wait(_CHILD_ENDS_S)
        except TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _listen(self) -> None:
        """Empty the error output, so that the child never waits for it, and keep its last lines."""
        while _readable(self._err, wait_ms=0) and (heard := _read_some(self._err)):
            self._said += (line for line in heard[-_SAID_BYTES:].decode(errors="replace").splitlines() if line.strip())
            logger.debug("%s: %s", self._name, " | ".join(self._said))

    def _complaint(self) -> str:
        self._listen()
        return f": {' | '.join(self._said)}" if self._said else ""


class VideoLink:
    """A video of any kind, but MJPEG, in a stream of bytes, decoded by FFmpeg. `first` are bytes read of it already."""

    def __init__(self, source: ByteSource, *, first: bytes = b"") -> None:
        self._source = source
        self._stream = _Stream(source, first)

    def pictures(self, dropped: Callable[[str], object]) -> Iterator[NDArray[Any]]:
        """See `Link`."""
        options = [cv2.CAP_PROP_N_THREADS, 1]  # each further thread is a frame of delay
        capture = cv2.VideoCapture(self._stream, cv2.CAP_FFMPEG, options)  # type: ignore[call-overload] # its stubs lag behind
        if not capture.isOpened():
            raise CameraError("FFmpeg finds no video in it")
        yield from captured(capture)

    def interrupt(self) -> None:
        """See `Link`."""
        self._source.interrupt()

    def close(self) -> None:
        """See `Link`."""
        self._source.close()


class _Stream(io.BufferedIOBase):
    """A source as OpenCV wants it; it cannot be rewound."""

    def __init__(self, source: ByteSource, first: bytes) -> None:
        super().__init__()
        self._source, self._held = source, first

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            data = self._held or self._source.read()
        except OSError:  # must not reach FFmpeg; to it, what broke has ended
            return b""
        size = len(data) if size is None or size < 0 else size
        self._held = data[size:]
        return data[:size]

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return -1


def _readable(pipe: int, *, wait_ms: int = _SLICE_MS) -> bool:
    """Whether bytes, or the end, are there."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(wait_ms))


def _all_at_hand(pipe: int) -> bytes:
    """What can be read without waiting; nothing at the end."""
    data = bytearray()
    while len(data) < _AT_ONCE and (some := _read_some(pipe)):
        data += some
    return bytes(data)


def _read_some(pipe: int) -> bytes:
    try:
        return os.read(pipe, _CHUNK)
    except BlockingIOError:
        return b""
