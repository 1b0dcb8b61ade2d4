"""One thread that reads, one frame that is kept: a door acts on what is, so there is never a backlog.

A live camera never ends and never raises once it is open: its reader connects again, with growing pauses, for as long as it
takes, and `state` says meanwhile why no frames come.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, Self

import cv2
from numpy.typing import NDArray

from pawlatch.errors import ImageError
from pawlatch.frame import CameraOptions, CameraState, Frame, seen_through

logger = logging.getLogger(__name__)

LIVE_FPS = 10.0  # what is assumed of a live camera where a rate must be named, as in a recorded clip
QUIET_S = 60.0  # one line a minute, at most, about frames that were dropped
_IDLE_S = 0.1  # how often a waiting consumer looks at its clock
_JOIN_S = 2.0


class Link(Protocol):
    """An open connection to a live camera. Only `interrupt` is called from another thread than the reader's."""

    def pictures(self, dropped: Callable[[str], object]) -> Iterator[NDArray[Any]]:
        """Yield pictures, newest only, until the camera gives no more; say `dropped(why)` of those that are none.

        Raises:
            CameraError, OSError: the connection broke, or was silent for too long.
        """

    def interrupt(self) -> None:
        """Make `pictures` end soon."""

    def close(self) -> None:
        """Give the camera back."""


class _NewestFrame(ABC):
    """Keeps the newest frame that `_read`, in a thread of its own, hands to `_put`, and forgets the others."""

    def __init__(self, *, name: str, fps: float, clock: Callable[[], float], stale_s: float = math.inf) -> None:
        self.fps = fps
        self._name, self._clock, self._stale_s = name, clock, stale_s
        self._newest: Frame | None = None
        self._error: Exception | None = None
        self._ended = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"reader of {name}", daemon=True)

    def frames(self, idle: Callable[[], object] | None = None) -> Iterator[Frame]:
        """Yield each newest frame once; what came while the caller was busy is gone. `idle`: see `Camera`.

        Raises:
            CameraError, ImageError: a clip broke. Live cameras do not raise.
        """
        while not self._stop.is_set():
            with self._changed:
                if self._newest is None and not self._ended:
                    self._changed.wait(_IDLE_S)
                frame, self._newest, ended = self._newest, None, self._ended
            if self._stop.is_set():
                return
            if frame is not None and self._clock() - frame.time_s <= self._stale_s:
                yield frame
            elif ended:
                if self._error is not None:
                    raise self._error
                return
            elif idle is not None:
                idle()

    def stop(self) -> None:
        """Make `frames` end at once; safe to call from a signal handler."""
        self._stop.set()
        with self._changed:  # a re-entrant lock, so a handler that interrupts its owner does not deadlock
            self._changed.notify_all()

    def close(self) -> None:
        """Stop and wait for the reader; one that hangs in its driver is left behind with a logged warning."""
        self.stop()
        self._interrupt()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            logger.warning("the %s is left behind: it waits for the camera's driver or network", self._thread.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _put(self, frame: Frame) -> None:
        with self._changed:
            self._newest = frame
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            self._read()
        except Exception as error:  # whatever it is, it belongs to the thread that asks for frames
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    @abstractmethod
    def _interrupt(self) -> None:
        """Wake the reader where it waits for its source."""

    @abstractmethod
    def _read(self) -> None:
        """Hand frames to `_put` until there are no more or `_stop` is set."""


class PacedCamera(_NewestFrame):
    """A clip as a camera would have given it: each frame at its own time, stamped with `clock`; it ends."""

    state = CameraState.OK

    def __init__(self, frames: Iterable[Frame], *, name: str, fps: float,
                 clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name=name, fps=fps, clock=clock)
        self._frames = frames
        self._thread.start()

    def _interrupt(self) -> None:
        pass  # it waits for `_stop` only

    def _read(self) -> None:
        began_s = self._clock()
        for frame in self._frames:
            if self._stop.wait(max(0.0, began_s + frame.time_s - self._clock())):
                break
            self._put(replace(frame, time_s=self._clock()))


class _Signs(NamedTuple):
    """What tells a live camera's state: when it last gave a sign of life, None without a connection; and whether a frame."""

    last_s: float | None = None
    gave_frame: bool = False


class LiveCamera(_NewestFrame):
    """A camera that may go away and come back. `connect` opens it, or raises; `link` is it where it is open already.

    `name` is its address without any password. `clock` is monotonic seconds; frames are stamped with it as they arrive.
    """

    def __init__(self, connect: Callable[[], Link], *, name: str, options: CameraOptions,
                 clock: Callable[[], float] = time.monotonic, link: Link | None = None) -> None:
        super().__init__(name=name, fps=options.fps or LIVE_FPS, clock=clock, stale_s=options.stale_s)
        self._connect, self._options, self._link = connect, options, link
        self._signs = _Signs()
        self._index = 0
        self._drops = _Drops(name, clock)
        self._thread.start()

    @property
    def state(self) -> CameraState:
        """OK while frames come, STALLED after `stale_s` of silence, CONNECTING while there is no connection."""
        signs = self._signs  # one read: the reader replaces it
        if signs.last_s is None:
            return CameraState.CONNECTING
        if self._clock() - signs.last_s > self._stale_s:
            return CameraState.STALLED
        return CameraState.OK if signs.gave_frame else CameraState.CONNECTING

    @property
    def dropped(self) -> int:
        """How many frames came that were no pictures."""
        return self._drops.count

    def _interrupt(self) -> None:
        link = self._link
        if link is not None:
            link.interrupt()

    def _read(self) -> None:
        pauses = back_off(self._options.retry_s, self._options.longest_retry_s)
        said = ""
        while not self._stop.is_set():
            trouble = self._watch_once()
            if self._signs.gave_frame:
                pauses, said = back_off(self._options.retry_s, self._options.longest_retry_s), ""
            self._signs = _Signs()
            if not self._stop.is_set() and trouble != said:
                logger.warning("%s: %s; trying again until it comes back", self._name, trouble)
                said = trouble
            self._stop.wait(next(pauses))

    def _watch_once(self) -> str:
        """Connect and read until it breaks; return what was wrong."""
        try:
            self._link = link = self._link or self._connect()
        except Exception as error:
            return str(error)
        try:
            self._signs = _Signs(self._clock())
            pictures = iter(()) if self._stop.is_set() else link.pictures(self._drops)  # asked to stop while it connected
            for picture in pictures:
                if self._stop.is_set():
                    break
                self._take(picture)
        except Exception as error:  # the driver's, the network's or the decoder's: the camera is gone, not the door
            return str(error) or type(error).__name__
        finally:
            self._link = None
            link.close()
        return "it gives no more frames"

    def _take(self, picture: NDArray[Any]) -> None:
        try:
            image = seen_through(self._options, picture)
        except (ImageError, cv2.error) as error:
            self._drops(str(error))
            return
        now_s = self._clock()
        if not self._signs.gave_frame:
            logger.info("%s gives frames of %d×%d", self._name, *image.shape[1::-1])
        self._signs = _Signs(now_s, gave_frame=True)
        self._put(Frame(now_s, image, self._index))
        self._index += 1


class _Drops:
    """Counts frames that are no pictures, and says so once a minute at most."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.count = 0
        self._name, self._clock = name, clock
        self._next_s = -math.inf

    def __call__(self, why: str) -> None:
        self.count += 1
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + QUIET_S
            logger.warning("%s: frames dropped so far: %d; the last because %s", self._name, self.count, why)


def back_off(first_s: float, longest_s: float) -> Iterator[float]:
    """Pauses in seconds that double from `first_s` to `longest_s`, for ever."""
    pause_s = first_s
    while True:
        yield min(pause_s, longest_s)
        pause_s = min(2 * pause_s, longest_s)
