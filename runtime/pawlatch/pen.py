"""Drawing on a picture in units of its own, so that every size looks alike."""

from __future__ import annotations

from bisect import bisect

import cv2
import numpy as np

from pawlatch.image import Image
from pawlatch.text import put_text, text_width

Colour = tuple[int, int, int]  # BGR

WHITE, SOFT, INK, TRACK = (255, 255, 255), (205, 205, 205), (24, 20, 18), (90, 84, 80)
GREEN, RED, AMBER, BLUE = (92, 158, 38), (60, 52, 190), (24, 112, 190), (214, 160, 92)


class Pen:
    """Draws on `image`, uint8 (H, W, 3) BGR, in units: a picture has at least 480 of them in height and 640 in width."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._scale: float = min(image.shape[0] / 480, image.shape[1] / 640)
        self.height, self.width = image.shape[0] / self._scale, image.shape[1] / self._scale

    def panel(self, top: float, bottom: float, colour: Colour, *, opacity: float, left: float = 0.0) -> None:
        """A translucent band from `left` to the right edge."""
        band = self._image[max(0, self._px(top)) : self._px(bottom), self._px(left) :]
        if band.size:
            band[:] = cv2.addWeighted(band, 1 - opacity, np.full_like(band, colour), opacity, 0)

    def frame(self, box_yxyx: tuple[int, int, int, int], colour: Colour) -> None:
        """The outline of a box in pixels."""
        top, left, bottom, right = box_yxyx
        thickness = max(1, self._px(2))
        cv2.rectangle(self._image, (left, top), (right - 1, bottom - 1), INK, thickness + 2, cv2.LINE_AA)
        cv2.rectangle(self._image, (left, top), (right - 1, bottom - 1), colour, thickness, cv2.LINE_AA)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self._image[self._px(top) : self._px(bottom), self._px(left) : self._px(right)] = colour

    def bar(self, left: float, right: float, top: float, colour: Colour) -> None:
        """A horizontal bar with round ends."""
        radius = max(1, self._px(5))
        y, x0 = self._px(top) + radius, self._px(left) + radius
        x1 = max(x0, self._px(right) - radius)
        cv2.line(self._image, (x0, y), (x1, y), colour, 2 * radius, cv2.LINE_AA)

    def text(self, text: str, x: float, base: float, size: float, *, colour: Colour = WHITE, weight: int = 400,
             right: bool = False, room: float | None = None) -> float:
        """A line of text from `x`, or up to it where `right`; what exceeds `room` ends in dots. Returns its end."""
        px = max(8, self._px(size))
        if room is not None and text_width(text, px, weight=weight) > self._px(room):
            whole = text

            def width_to(end: int) -> int:
                return text_width(whole[:end] + "...", px, weight=weight)

            fits = bisect(range(1, len(text)), self._px(room), key=width_to)
            text = text[:fits].rstrip() + "..."
        width = text_width(text, px, weight=weight)
        start_xy = (self._px(x) - (width if right else 0), self._px(base))
        put_text(self._image, text, start_xy, colour, px, weight=weight)
        return x + (0 if right else width / self._scale)

    def _px(self, units: float) -> int:
        return round(units * self._scale)
