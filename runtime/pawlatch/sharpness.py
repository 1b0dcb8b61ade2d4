"""Is what moves sharp enough to be told from another animal?

Blur takes away what is fine and leaves what is coarse. So the measure is the energy of second differences as a share of the
variance, at about the size at which a model looks: brightness and contrast drop out of it, and a black cat is as sharp as a
spotted one, by its outline. The sensor's noise is taken off: (mean d² - 6 s²) / (v - s²), with d = a - 2 b + c along rows or
columns, v the variance and s² that of the noise. Animals differ by ten times in it, so each is also compared with itself.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.framing import Box
from pawlatch.glance import Mask, count
from pawlatch.image import Image

SIDE_PX = 96  # a subject is halved while its shorter side is as long as this; a smaller one is not judged
LEAST_SHARE = 0.2  # of the box; a thing that is only lines is a camera that moves
LEAST_VARIANCE = 60.0  # of a subject that stands out
NOISIEST = 10.0  # grey levels; beyond, the whole picture is in motion
OF_BEST = 0.3  # of its own sharpest frame: smeared over a twentieth of its height, an animal keeps 0.2
FADES_S = 2.0  # in which the sharpest frame is forgotten
LIKE_SIZE = 1.4  # times as large, or as small: else it cannot be compared


class Sharpness:
    """Judges what moves, by what is least possible and by its own sharpest frame of late."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._best: tuple[float, float] | None = None
        self._best_s, self._side = 0.0, 0

    def blurs(self, image_bgr: Image, box_yxyx: Box, thing: Mask, time_s: float, *, noise: float) -> bool:
        """Whether what `thing` (the box's pixels of a glance) marks in a frame is blurred; `noise` in grey levels a pixel."""
        side = max(box_yxyx[2] - box_yxyx[0], box_yxyx[3] - box_yxyx[1])
        seen = None if self._least == 0 else _fineness(image_bgr, box_yxyx, thing, noise)
        if seen is None:
            return False
        left = 1 - (time_s - self._best_s) / FADES_S
        if self._best is None or left <= 0 or not 1 / LIKE_SIZE <= side / self._side <= LIKE_SIZE:
            best, self._side = seen, side
        else:
            best = max(seen[0], self._best[0] * left), max(seen[1], self._best[1] * left)
        self._best, self._best_s = best, time_s
        return min(seen) < self._least or seen[0] < OF_BEST * best[0] or seen[1] < OF_BEST * best[1]


def _fineness(image_bgr: Image, box_yxyx: Box, thing: Mask, noise: float) -> tuple[float, float] | None:
    """How fine the detail is, across and down; None where that cannot be told."""
    top, left, bottom, right = box_yxyx
    if min(bottom - top, right - left) < SIDE_PX or noise > NOISIEST or count(thing) < LEAST_SHARE * thing.size:
        return None
    stride = max(1, min(bottom - top, right - left) // (2 * SIDE_PX))
    grey = cv2.cvtColor(image_bgr[top:bottom:stride, left:right:stride], cv2.COLOR_BGR2GRAY)
    variance = noise * noise
    while min(grey.shape) >= SIDE_PX:
        height, width = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
        variance /= 4
    where = cv2.resize(thing.astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_NEAREST).astype(np.bool_)
    values = grey.astype(np.int32)
    contrast = _variance(values[where]) - variance
    if contrast < LEAST_VARIANCE:
        return None
    across, down = _detail(values, where), _detail(values.T, where.T)
    return (across - 6 * variance) / contrast, (down - 6 * variance) / contrast


def _detail(values: NDArray[np.int32], where: Mask) -> float:
    """The mean square of the second differences along rows."""
    second = (values[:, 2:] - 2 * values[:, 1:-1] + values[:, :-2])[where[:, 1:-1]]
    return int((second * second).sum(dtype=np.int64)) / max(1, second.size)


def _variance(values: NDArray[np.int32]) -> float:
    size = max(1, values.size)
    return int((values * values).sum(dtype=np.int64)) / size - (int(values.sum(dtype=np.int64)) / size) ** 2
