"""Is there anything to look at? Motion, darkness and a missing signal, on a picture of 64×48 grey values.

Only operations that give the same bits on every machine: `pawlatch.image.fit`, and float64 arithmetic pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.camera import Frame
from pawlatch.image import fit

SIZE_HW = (48, 64)
STEP = 12.0  # grey levels; means over about 10×10 pixels: a night camera's noise moves them by 2, a cat by 20
MIN_SHARE = 0.008  # of the picture; a cat at the far end of a porch covers 0.02
LEARN_S, LEARN_CHANGED_S = 10.0, 120.0  # in which light becomes background, and a thing left on the porch
DARKEST = 24  # grey level that the brightest spot must reach
FLATTEST = 8  # grey levels between the darkest and the brightest spot


@dataclass(frozen=True)
class GateResult:
    """Whether a frame is worth classifying; `motion` is the share of the picture that changed, 0 to 1."""

    moved: bool
    motion: float
    reason: str


class Gate:
    """Compares each frame with a slowly learnt background and with the frame before."""

    def __init__(self) -> None:
        self._background: NDArray[np.float64] | None = None
        self._before: NDArray[np.float64] | None = None
        self._before_s = 0.0

    def __call__(self, frame: Frame) -> GateResult:
        """Look at the next frame. The first one counts as moved: nothing is known yet."""
        grey = cv2.cvtColor(fit(frame.image_bgr, SIZE_HW, policy="stretch"), cv2.COLOR_BGR2GRAY).astype(np.float64)
        darkest, brightest = grey.min(), grey.max()
        if brightest < DARKEST:
            return GateResult(False, 0.0, f"too dark: the brightest spot is {brightest:.0f} of 255")
        if brightest - darkest < FLATTEST:
            return GateResult(False, 0.0, "no signal: the picture is all one colour")
        if self._background is None or self._before is None:
            self._background, self._before, self._before_s = grey.copy(), grey, frame.time_s
            return GateResult(True, 1.0, "first frame")
        changed = _changed(grey, self._background)
        motion = max(float(changed.mean()), float(_changed(grey, self._before).mean()))
        weight = max(0.0, frame.time_s - self._before_s) / np.where(changed, LEARN_CHANGED_S, LEARN_S)
        self._background += (grey - self._background) * np.minimum(weight, 1.0)
        self._before, self._before_s = grey, frame.time_s
        moved = motion >= MIN_SHARE
        return GateResult(moved, motion, f"{motion:.1%} of the picture moved" if moved else "nothing moves")


def _changed(grey: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which pixels differ by STEP, once exposure and flicker (a common gain) are taken out."""
    gain = max(1.0, float(np.median(reference))) / max(1.0, float(np.median(grey)))
    return np.abs(grey * gain - reference) >= STEP
