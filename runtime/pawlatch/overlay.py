"""What a person looks at: a frame with the verdict drawn on it, and clips of such frames."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, Self

import cv2
import numpy as np

from pawlatch.camera import CameraState
from pawlatch.classify import Prediction
from pawlatch.decide import Verdict
from pawlatch.door import DoorState
from pawlatch.errors import OutputError
from pawlatch.gate import GateResult, Refusal
from pawlatch.image import Image, fit
from pawlatch.loop import Step
from pawlatch.pen import AMBER, BLUE, GREEN, INK, RED, SOFT, TRACK, WHITE, Colour, Pen
from pawlatch.quiet import quiet

BANDS: dict[DoorState, tuple[str, Colour]] = {
    DoorState.STARTING: ("LOCKED, starting", AMBER),
    DoorState.LOCKED: ("LOCKED", RED),
    DoorState.UNLOCKED: ("OPEN", GREEN),
    DoorState.HELD: ("HELD by a person", BLUE),
    DoorState.LOCKOUT: ("LOCKED OUT", AMBER),
    DoorState.FAULT: ("LOCKED, fault", AMBER),
}
WOULD_OPEN = ("LOCKED, would be open", BLUE)  # observing
CAMERA_WORDS: dict[CameraState, str] = {
    CameraState.OK: "waiting for a frame",
    CameraState.CONNECTING: "no picture: trying to reach the camera",
    CameraState.STALLED: "no picture: the camera is silent",
    CameraState.FROZEN: "the camera's picture is frozen",
    CameraState.BLACK: "the camera sees black",
    CameraState.COVERED: "the camera is covered",
    CameraState.MOVED: "the camera was moved",
}
ROWS, LOW_ROWS = 14, 4  # scores that are drawn at most, and how many of them go into the band below
ROW, BAND, FOOT = 17.0, 40.0, 98.0  # heights
COLUMN = 0.5  # where the scores begin, as a share of the width
ENOUGH = 0.8  # where on the meter of evidence "enough" stands


class Judge(Protocol):
    """What is drawn of a policy."""

    @property
    def unlock(self) -> tuple[str, ...]:
        """The labels that may pass."""

    @property
    def threshold(self) -> float:
        """From which score on a frame speaks for opening."""


def draw(step: Step, *, policy: Judge) -> Image:
    """A copy of the step's frame, BGR: the door's state above; who, why, and each score below; a box around the subject."""
    image = step.frame.image_bgr.copy()
    pen = Pen(image)
    if step.gate.box_yxyx is not None:
        pen.frame(step.gate.box_yxyx, GREEN if step.verdict is not None and step.verdict.unlock else WHITE)
    observing = step.observes and step.door is DoorState.UNLOCKED
    _band(pen, WOULD_OPEN if observing else BANDS[step.door], step.frame.time_s, infrared=step.gate.infrared)
    if step.gate.camera is not CameraState.OK:
        _alarm(pen, step.gate.camera)
    pen.panel(pen.height - FOOT, pen.height, INK, opacity=0.74)
    if step.prediction is None or step.verdict is None:
        _unlooked(pen, step.gate)
    else:
        _judged(pen, step.prediction, step.verdict)
        _scores(pen, step.prediction, policy)
    return image


def draw_silent(*, door: DoorState, camera: CameraState, time_s: float, size_hw: tuple[int, int] = (480, 640)) -> Image:
    """What is shown while no frames come: the door's state, and what is wrong with the camera. BGR, (*size_hw, 3)."""
    image = np.full((*size_hw, 3), INK, np.uint8)
    pen = Pen(image)
    _band(pen, BANDS[door], time_s, infrared=False)
    pen.text(CAMERA_WORDS[camera], 16, pen.height / 2, 22, colour=SOFT, room=pen.width - 32)
    return image


def _band(pen: Pen, words: tuple[str, Colour], time_s: float, *, infrared: bool) -> None:
    title, colour = words
    pen.panel(0, BAND, colour, opacity=0.88)
    pen.text(title, 16, 28, 22, weight=700)
    pen.text(("infra-red  " if infrared else "") + clock_text(time_s), pen.width - 16, 27, 18, right=True)


def _alarm(pen: Pen, camera: CameraState) -> None:
    pen.panel(BAND, BAND + 30, AMBER, opacity=0.88)
    pen.text(CAMERA_WORDS[camera], 16, BAND + 21, 16, weight=700)


def _unlooked(pen: Pen, gate: GateResult) -> None:
    """A frame that the gate kept from the model."""
    is_empty = not gate.moved and gate.refusal in (None, Refusal.NOTHING)
    pen.text("nobody" if is_empty else "not looked at", 16, pen.height - 52, 30, colour=SOFT)
    pen.text(gate.reason, 16, pen.height - 12, 15, colour=SOFT, room=pen.width - 32)


def _judged(pen: Pen, prediction: Prediction, verdict: Verdict) -> None:
    """Who, how far the evidence has come, and the reason."""
    name, score = verdict.label, f"{verdict.score:.0%}"
    if prediction.is_stranger:
        name, score = "a stranger", f"like {name} {score}"
    end = pen.text(name, 16, pen.height - 62, 30, weight=700, room=pen.width * 0.34) + 10
    pen.text(score, end, pen.height - 62, 20, colour=SOFT, room=max(0.0, COLUMN * pen.width - end - 10))
    if verdict.needed > 0:
        _meter(pen, verdict)
    pen.text(verdict.reason, 16, pen.height - 12, 15, colour=SOFT, room=pen.width - 32)


def _meter(pen: Pen, verdict: Verdict) -> None:
    """The evidence, with a mark where it is enough."""
    left, right, top = 16.0, 16 + pen.width * 0.22, pen.height - 48
    share = min(1.0, max(0.0, ENOUGH * verdict.evidence / verdict.needed))
    pen.bar(left, right, top, TRACK)
    if share > 0:
        pen.bar(left, left + (right - left) * share, top, GREEN if share >= ENOUGH else BLUE)
    mark = left + (right - left) * ENOUGH
    pen.box(mark - 1, top - 4, mark + 1, top + 14, WHITE)
    pen.text(f"{verdict.policy} {verdict.evidence:.2f} of {verdict.needed:.2f}", right + 10, top + 10, 14, colour=SOFT,
             room=COLUMN * pen.width - right - 20)


def _scores(pen: Pen, prediction: Prediction, policy: Judge) -> None:
    """Each score as a bar, best first; a line on those that unlock shows the threshold. Many go up the right side."""
    ranked = prediction.ranked()
    shown = ranked if len(ranked) <= ROWS else ranked[: ROWS - 1]
    rows = len(shown) + (len(shown) < len(ranked))
    column = COLUMN * pen.width
    top = pen.height - FOOT + 3 if rows <= LOW_ROWS else pen.height - 26 - rows * ROW
    if rows > LOW_ROWS:
        pen.panel(top - 8, pen.height - FOOT, INK, opacity=0.74, left=column)
    left, right = pen.width * 0.7, pen.width - 62
    for row, (label, score) in enumerate(shown):
        base = top + 12 + ROW * row
        unlocks = label in policy.unlock
        pen.text(label, left - 10, base, 14, right=True, room=left - column - 20)
        pen.bar(left, right, base - 10, TRACK)
        pen.bar(left, left + (right - left) * score, base - 10, GREEN if unlocks else BLUE)
        if unlocks:
            mark = left + (right - left) * policy.threshold
            pen.box(mark - 1, base - 13, mark + 1, base + 3, WHITE)
        pen.text(f"{score:.0%}", pen.width - 16, base, 14, right=True)
    if len(shown) < len(ranked):
        pen.text(f"+{len(ranked) - len(shown)} more", pen.width - 16, top + 12 + ROW * len(shown), 14, colour=SOFT, right=True)


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

        A frame of another size than the first, as when a camera changes its resolution, gets grey bars.

        Raises:
            OutputError: the place cannot be written to.
        """
        if self._writer is None:
            self._writer, self._first_s, self._size_hw = self._open(frame_bgr), time_s, _size_hw(frame_bgr)
        if frame_bgr.shape[:2] != self._size_hw:
            frame_bgr = fit(frame_bgr, self._size_hw, policy="letterbox")
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


def _size_hw(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
