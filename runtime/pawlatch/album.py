"""Which pictures of a visit are worth keeping: a few spread over it, and the moments that decided. Bounded, and no encoding."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pawlatch.camera import Frame
from pawlatch.image import Image

Box = tuple[int, int, int, int]

SPREAD = 9  # moments over the visit; with the best, the unlocking and the last one at most 12 pictures
MOST = SPREAD + 3
CROP_PX = 320  # longest side of a kept crop: more than a model of 224 pixels takes in
PICTURE_PX = 960  # longest side of the kept whole picture
BETTER = 0.02  # of a score: so that a slowly rising one does not copy a picture for each frame


@dataclass(frozen=True, eq=False)
class Shot:
    """A kept moment: `fitted_rgb`, uint8 (h, w, 3), is what the model saw, to the bit; `crop_bgr`, uint8, where it looked."""

    time_s: float
    fitted_rgb: Image
    crop_bgr: Image | None


class Album:
    """Chooses while the visit lasts, whose end nobody knows: every n-th frame, n doubling whenever the room is full."""

    def __init__(self) -> None:
        self.best_bgr: Image | None = None  # the whole picture of the best moment
        self.best_s = 0.0
        self._spread: list[Shot] = []
        self._every = 1
        self._count = 0
        self._best: Shot | None = None
        self._best_score = -1.0
        self._unlock: Shot | None = None
        self._last: Shot | None = None

    @property
    def shots(self) -> tuple[Shot, ...]:
        """What was kept, in order of time: at most MOST."""
        kept = [*self._spread, *(shot for shot in (self._best, self._unlock, self._last) if shot is not None)]
        by_time: dict[float, Shot] = {}
        for shot in kept:
            by_time.setdefault(shot.time_s, shot)  # those with a crop come first
        return tuple(by_time[time_s] for time_s in sorted(by_time))

    def add(self, frame: Frame, fitted_rgb: Image, *, time_s: float, score: float, box_yxyx: Box | None, unlocks: bool) -> None:
        """Look at a frame with an animal. `fitted_rgb` is kept as it is; of the camera's picture, parts are copied."""
        is_spread, is_best = self._count % self._every == 0, score >= self._best_score + BETTER
        self._count += 1
        self._last = Shot(time_s, fitted_rgb, None)
        if not (is_spread or is_best or unlocks):
            return
        shot = Shot(time_s, fitted_rgb, cropped(frame.image_bgr, box_yxyx))
        if is_best:
            self._best, self._best_score = shot, score
            self.best_bgr, self.best_s = shrunk(frame.image_bgr, PICTURE_PX), time_s
        if unlocks:
            self._unlock = shot
        if is_spread:
            self._spread.append(shot)
            if len(self._spread) > SPREAD:
                self._spread, self._every = self._spread[::2], 2 * self._every


def cropped(image_bgr: Image, box_yxyx: Box | None) -> Image:
    """The part in the box (or all of it), a copy, its longest side at most CROP_PX."""
    if box_yxyx is not None:
        top, left, bottom, right = (max(0, side) for side in box_yxyx)
        inside = image_bgr[top:bottom, left:right]
        image_bgr = inside if inside.size else image_bgr
    return shrunk(image_bgr, CROP_PX)


def shrunk(image: Image, longest_px: int) -> Image:
    """A copy whose longest side is at most `longest_px`."""
    height, width = image.shape[:2]
    if max(height, width) <= longest_px:
        return image.copy()
    scale = longest_px / max(height, width)
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
