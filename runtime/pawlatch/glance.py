"""A frame at a glance: about 80 lines of grey, on which everything cheap is decided.

Every operation gives the same bits on every machine: nearest pixels, halving, sums of whole numbers, and arithmetic pixel by
pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import ImageError
from pawlatch.image import MIN_SIDE_PX, Image

Grey = NDArray[np.uint8]
Soft = NDArray[np.float32]
Mask = NDArray[np.bool_]

LINES = 80  # of the shorter side; an animal of 5 % of the picture's height is four of them high
SOFT = 9  # pixels summed in each value of `soft`
_WINDOW = (5, 5)
SLOPE = 4  # of sums over 3×3, two pixels apart: 2 / 9 grey levels a pixel
_TEXTURE = 2800  # squared slopes in a window: an edge of 8 grey levels has it, a night camera's noise a quarter of it
_ALIKE = 0.7  # correlation of the slopes; an outline under another light keeps 0.9, fur on boards has 0.0 to 0.4
_COLOUR = 8  # grey levels off the picture's own tint
_COLOURED_SHARE = 0.005


@dataclass(frozen=True, eq=False)
class Glance:
    """`bgr` uint8 (h, w, 3), `grey` uint8 (h, w), `soft` float32 (h, w): sums over 3×3, whole numbers 0 to 2295."""

    bgr: Image
    grey: Grey
    soft: Soft

    def extremes(self) -> tuple[float, float]:
        """The grey level of the darkest and of the brightest spot; means over 4×4, which noise hardly moves."""
        height, width = (side // 2 * 2 for side in self.grey.shape)
        tiny = cv2.resize(self.grey[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        height, width = (side // 2 * 2 for side in tiny.shape)
        tiny = cv2.resize(tiny[:height, :width], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        darkest, brightest, _, _ = cv2.minMaxLoc(tiny)
        return darkest, brightest

    def is_grey(self) -> bool:
        """Whether the picture has no colour but one tint, as under an infra-red lamp."""
        some = self.bgr[::4, ::4].reshape(-1, 3).astype(np.int32)
        blue, green, red = np.partition(some, len(some) // 2, axis=0)[len(some) // 2]
        off_blue = abs(some[:, 0] * green - some[:, 1] * blue)
        off_red = abs(some[:, 2] * green - some[:, 1] * red)
        return count(np.maximum(off_blue, off_red) > _COLOUR * green) < _COLOURED_SHARE * len(some)


def glance(image_bgr: Image) -> Glance:
    """Look at a frame, uint8 (H, W, 3).

    Raises:
        ImageError: it has another shape or type, or is smaller than 16 pixels on a side.
    """
    if image_bgr.ndim != 3 or image_bgr.shape[2] != 3 or image_bgr.dtype != np.uint8 or min(image_bgr.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(f"a frame is uint8 of shape (H, W, 3), {MIN_SIDE_PX} pixels a side or more, but {image_bgr.dtype} "
                         f"{image_bgr.shape} came; check the camera's format")
    height, width = image_bgr.shape[:2]
    step = max(1, min(height, width) // LINES)
    size_wh = width // step, height // step
    double = cv2.resize(image_bgr, (2 * size_wh[0], 2 * size_wh[1]), interpolation=cv2.INTER_NEAREST)
    bgr = np.asarray(cv2.resize(double, size_wh, interpolation=cv2.INTER_AREA), np.uint8)  # a mean of four
    grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
    return Glance(bgr, grey, np.asarray(cv2.boxFilter(grey, cv2.CV_32F, (3, 3), normalize=False)))


def count(mask: Mask) -> int:
    """How many pixels are in a mask."""
    return int(np.count_nonzero(mask))


def slopes(soft: Soft) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How brightness changes downwards and to the right, in whole numbers of SLOPE; 0 at the rim."""
    whole = soft.astype(np.int32)
    down, right = np.zeros_like(whole), np.zeros_like(whole)
    np.right_shift(whole[2:] - whole[:-2], 2, out=down[1:-1])
    np.right_shift(whole[:, 2:] - whole[:, :-2], 2, out=right[:, 1:-1])
    return down, right


def compare(here: Soft, before: Soft, where: Mask | None = None) -> tuple[Mask, Mask]:
    """Where `before` has outlines to go by, and where the outlines of `here` are the same, whatever the light.

    Only the slopes in `where` count: what lies around a small thing must not speak for it.
    """
    (down, right), (down_0, right_0) = slopes(here), slopes(before)
    products = down * down_0 + right * right_0, down * down + right * right, down_0 * down_0 + right_0 * right_0
    both, energy, energy_0 = (_window_sums(product if where is None else product * where) for product in products)
    textured = energy_0 >= _TEXTURE
    return textured, textured & (both > 0) & (both * both >= np.float32(_ALIKE * _ALIKE) * energy * energy_0)


def outline_energy(soft: Soft) -> int:
    """The sum of all squared slopes beyond what noise makes."""
    down, right = slopes(soft)
    squares = down * down + right * right
    return int(squares[squares >= _TEXTURE // 25].sum(dtype=np.int64))


def _window_sums(values: NDArray[np.int32]) -> NDArray[np.float32]:
    """Sums over 5×5: whole numbers of at most 50 · 574², below 2^24, so that float32 holds them whatever the order."""
    return np.asarray(cv2.boxFilter(values.astype(np.float32), cv2.CV_32F, _WINDOW, normalize=False))
