"""What a person looks at: a frame with the verdict drawn on it, and clips of such frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from pawlatch.classify import Prediction
from pawlatch.decide import Consensus
from pawlatch.door import DoorState
from pawlatch.errors import OutputError
from pawlatch.image import Image
from pawlatch.loop import Step
from pawlatch.quiet import quiet
from pawlatch.text import put_text, text_width

Colour = tuple[int, int, int]  # BGR

WHITE, SOFT, INK, TRACK = (255, 255, 255), (205, 205, 205), (24, 20, 18), (90, 84, 80)
GREEN, RED, AMBER, BLUE = (92, 158, 38), (60, 52, 190), (30, 130, 214), (214, 160, 92)
BANDS: dict[DoorState, tuple[str, Colour]] = {
    DoorState.UNLOCKED: ("OPEN", GREEN),
    DoorState.LOCKED: ("LOCKED", RED),
    DoorState.RESTING: ("LOCKED, resting", AMBER),
}
BARS = 3


def draw(step: Step, *, policy: Consensus) -> Image:
    """A copy of the step's frame, BGR, with the door's state above; who, the best scores and the reason below."""
    image = step.frame.image_bgr.copy()
    height, width = image.shape[:2]
    pen = _Pen(image, min(height / 480, width / 640))
    title, colour = BANDS[step.door]
    pen.panel(0, 40, colour, opacity=0.88)
    pen.text(title, 16, 28, 22, weight=700)
    pen.text(clock_text(step.frame.time_s), pen.width - 16, 27, 18, right=True)
    pen.panel(pen.height - 98, pen.height, INK, opacity=0.74)
    if step.prediction is None or step.verdict is None:
        pen.text("nobody", 16, pen.height - 52, 30, colour=SOFT)
        pen.text(step.gate.reason, 16, pen.height - 12, 15, colour=SOFT)
        return image
    end = pen.text(step.verdict.label, 16, pen.height - 52, 30, weight=700, room=pen.width * 0.32)
    pen.text(f"{step.verdict.score:.0%}", end + 10, pen.height - 52, 20, colour=SOFT)
    pen.text(step.verdict.reason, 16, pen.height - 12, 15, colour=SOFT, room=pen.width - 32)
    _bars(pen, step.prediction, policy)
    return image


def _bars(pen: _Pen, prediction: Prediction, policy: Consensus) -> None:
    """The best scores as bars; a line on those that unlock shows the threshold."""
    left, right = pen.width * 0.66, pen.width - 62
    for row, (label, score) in enumerate(prediction.ranked()[:BARS]):
        base = pen.height - 78 + 21 * row
        unlocks = label in policy.unlock
        pen.text(label, left - 10, base, 15, right=True, room=pen.width * 0.2)
        pen.bar(left, right, base - 11, TRACK)
        pen.bar(left, left + (right - left) * score, base - 11, GREEN if unlocks else BLUE)
        if unlocks:
            mark = left + (right - left) * policy.threshold
            pen.box(mark - 1, base - 15, mark + 1, base + 3, WHITE)
        pen.text(f"{score:.0%}", pen.width - 16, base, 15, right=True)


class _Pen:
    """Draws on `image` in units of a 480-line picture, so that every size looks alike."""

    def __init__(self, image: Image, scale: float) -> None:
        self._image, self._scale = image, scale
        self.height, self.width = image.shape[0] / scale, image.shape[1] / scale

    def panel(self, top: float, bottom: float, colour: Colour, *, opacity: float) -> None:
        """A translucent band over the whole width."""
        band = self._image[self._px(top) : self._px(bottom)]
        band[:] = cv2.addWeighted(band, 1 - opacity, np.full_like(band, colour), opacity, 0)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self._image[self._px(top) : self._px(bottom), self._px(left) : self._px(right)] = colour

    def bar(self, left: float, right: float, top: float, colour: Colour) -> None:
        """A horizontal bar with round ends."""
        radius = self._px(5)
        y, x0 = self._px(top) + radius, self._px(left) + radius
        x1 = max(x0, self._px(right) - radius)
        cv2.line(self._image, (x0, y), (x1, y), colour, 2 * radius, cv2.LINE_AA)

    def text(self, text: str, x: float, base: float, size: float, *, colour: Colour = WHITE, weight: int = 400,
             right: bool = False, room: float | None = None) -> float:
        """A line of text from `x`, or up to it where `right`; what exceeds `room` ends in dots. Returns its end."""
        px = max(8, self._px(size))
        if room is not None and text_width(text, px, weight=weight) > self._px(room):
            while text and text_width(text + "...", px, weight=weight) > self._px(room):
                text = text[:-1]
            text = text.rstrip() + "..."
        width = text_width(text, px, weight=weight)
        start_xy = (self._px(x) - (width if right else 0), self._px(base))
        put_text(self._image, text, start_xy, colour, px, weight=weight)
        return x + (0 if right else width / self._scale)

    def _px(self, units: float) -> int:
        return round(units * self._scale)


def clock_text(time_s: float) -> str:
    """A time as people write it: `1:02.5`."""
    return f"{int(time_s // 60)}:{time_s % 60:04.1f}"


class ClipWriter:
    """Writes frames to a WebM clip (VP8, which every browser plays) that gets its name only once it is whole.

    A context manager: where the block raises, nothing is left behind. The first frame sets the size; VP8 wants even
    sides, so an odd one loses a line.

    Raises:
        OutputError: the name does not end in .webm.
    """

    def __init__(self, path: str | Path, *, fps: float) -> None:
        self._path = Path(path)
        if self._path.suffix != ".webm":
            raise OutputError(f"a recorded clip is WebM, but {path} ends otherwise; name it {self._path.stem}.webm")
        self._temporary = self._path.with_name(f".{self._path.stem}.{os.getpid()}.part.webm")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._first_s = 0.0
        self._size_hw = (0, 0)
        self._written = 0

    def write(self, frame_bgr: Image, time_s: float) -> None:
        """Append `frame_bgr` (H, W, 3), uint8, as often as it takes to bring the clip's length to `time_s`.

        Raises:
            OutputError: the place cannot be written to, or the frame has another size than the first.
        """
        if self._writer is None:
            self._writer, self._first_s, self._size_hw = self._open(frame_bgr), time_s, frame_bgr.shape[:2]
        if frame_bgr.shape[:2] != self._size_hw:
            raise OutputError(f"a clip's frames must be of one size, {self._size_hw}, got {frame_bgr.shape[:2]}")
        due = round((time_s - self._first_s) * self._fps) + 1
        for _ in range(self._written, due):
            self._writer.write(frame_bgr)
        self._written = max(self._written, due)

    def close(self) -> None:
        """Finish the clip and give it its name. May be called twice.

        Raises:
            OutputError: the disk took only a part of it; then nothing is left.
        """
        self._release()
        if not self._temporary.exists():
            return
        if not self._is_whole():
            self.discard()
            raise OutputError(f"cannot write all of {self._path}; make room or name another place")
        self._temporary.replace(self._path)

    def discard(self) -> None:
        """Leave nothing behind."""
        self._release()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *raised: object) -> None:
        self.close() if kind is None else self.discard()

    def _open(self, first_bgr: Image) -> cv2.VideoWriter:
        size_wh = (first_bgr.shape[1], first_bgr.shape[0])
        with quiet():  # its muxer says "VP80 is not supported" of WebM, which has no tags, then writes it well
            writer = cv2.VideoWriter(str(self._temporary), cv2.VideoWriter.fourcc(*"VP80"), self._fps, size_wh)
        if not writer.isOpened():
            raise OutputError(f"cannot write {self._path}; check that its folder exists and that there is room")
        return writer

    def _is_whole(self) -> bool:
        """OpenCV says nothing of a full disk, but a clip that was cut off does not know its length."""
        with quiet():
            clip = cv2.VideoCapture(str(self._temporary))
            length = clip.get(cv2.CAP_PROP_FRAME_COUNT)
            clip.release()
        return abs(length - self._written) <= 1

    def _release(self) -> None:
        if self._writer is not None:
            self._writer.release()
