"""Where to look: a square box that holds what moved, with a margin, and stays where it is while that will do."""

from __future__ import annotations

from dataclasses import dataclass

Box = tuple[int, int, int, int]  # top, left, bottom, right

TIGHTEST = 3  # the box moves when less than a third of the margin is left
LOOSEST = 1.5  # it shrinks when it was larger than wanted by this for LOOSE_S
LOOSE_S = 1.0
FORGET_S = 2.0  # without anything in it
LEAST = 8  # the shortest side of a box is this part of the frame's shorter side,
LEAST_PX = 32  # and no less than this


@dataclass(frozen=True)
class _Held:
    box: Box
    seen_s: float
    fits_s: float  # when it was last not too large


class Framing:
    """Follows what moves with one box."""

    def __init__(self, margin: float) -> None:
        self._margin = margin
        self._held: _Held | None = None

    def __call__(self, subject: Box, frame_hw: tuple[int, int], time_s: float) -> Box:
        """The box around `subject` (in frame pixels): square inside the frame, or as high or wide as the frame."""
        wanted = square(subject, frame_hw, self._margin)
        held = self._held
        if held is None or time_s - held.seen_s > FORGET_S or not self._holds(held.box, subject, frame_hw):
            self._held = _Held(wanted, time_s, time_s)
        else:
            fits = _side(held.box) <= LOOSEST * _side(wanted)
            fits_s = time_s if fits else held.fits_s
            loose = time_s - fits_s > LOOSE_S
            self._held = _Held(wanted, time_s, time_s) if loose else _Held(held.box, time_s, fits_s)
        return self._held.box

    def _holds(self, box: Box, subject: Box, frame_hw: tuple[int, int]) -> bool:
        room = round(_side(subject) * self._margin / TIGHTEST)
        top, left, bottom, right = box
        return (top <= max(0, subject[0] - room) and left <= max(0, subject[1] - room)
                and bottom >= min(frame_hw[0], subject[2] + room) and right >= min(frame_hw[1], subject[3] + room))


def square(subject: Box, frame_hw: tuple[int, int], margin: float) -> Box:
    """A square about `subject` with `margin` (a share of its longer side) on each side, shifted to lie in the frame.

    What is too long for a square inside the frame gets the frame's whole height (or width) instead.
    """
    height, width = frame_hw
    side = max(round(_side(subject) * (1 + 2 * margin)), min(height, width) // LEAST, LEAST_PX)
    (top, bottom), (left, right) = _placed(subject[0], subject[2], side, height), _placed(subject[1], subject[3], side, width)
    return top, left, bottom, right


def _placed(low: int, high: int, side: int, length: int) -> tuple[int, int]:
    side = min(side, length)
    start = min(max(0, (low + high - side) // 2), length - side)
    return start, start + side


def _side(box: Box) -> int:
    return max(box[2] - box[0], box[3] - box[1])
