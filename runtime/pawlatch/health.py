"""What pictures tell of their camera: black, frozen, covered or turned away, and not merely an empty porch."""

from __future__ import annotations

import cv2
import numpy as np

from pawlatch.camera import CameraState
from pawlatch.glance import Grey, Soft, compare, count, outline_energy

LOST = 0.9  # of the porch's outlines; a big dog that fills most of the picture hides 0.8
BARE = 0.1  # of the porch's outline energy; a hand or a cloth before the lens has less
QUIET = 16  # a frozen picture changes in less than this part of the pixels in which noise did
NOISY_S = 3.0  # of noise that was seen make a picture without noise suspicious
SLOW = 6  # how much longer it takes where no noise was seen: drawn clips and folders repeat themselves
NUDGED_PX = 4  # of the glance: a camera that was touched, and sees the same porch


class Health:
    """Counts for how long something has been wrong."""

    def __init__(self, *, black_s: float, frozen_s: float, covered_s: float, turned_s: float) -> None:
        self._black, self._flat = _Spell(black_s), _Spell(covered_s)
        self._covered = _Spell(covered_s)
        self._turned_s, self._turned, self._turned_since_s = turned_s, False, 0.0
        self._frozen, self._frozen_s = _Spell(frozen_s), frozen_s
        self._before: Grey | None = None
        self._noise, self._noise_s, self._before_s = 0.0, 0.0, 0.0

    def unlit(self, time_s: float, *, dark: bool, flat: bool) -> CameraState:
        """Told of every frame; BLACK or COVERED after a while without light, or without anything to see in it."""
        black, flat_long = self._black(dark, time_s), self._flat(flat and not dark, time_s)
        return CameraState.BLACK if black else CameraState.COVERED if flat_long else CameraState.OK

    def frozen(self, grey: Grey, time_s: float) -> bool:
        """Told of every frame; whether the picture has been one and the same for too long."""
        before, self._before = self._before, grey
        elapsed_s, self._before_s = time_s - self._before_s, time_s
        if before is None or before.shape != grey.shape:
            return self._frozen(False, time_s)
        differing = cv2.countNonZero(cv2.absdiff(grey, before)) / grey.size
        same = differing == 0 or differing < self._noise / QUIET
        if not same:
            self._noise_s += elapsed_s
            self._noise += (differing - self._noise) * min(1.0, elapsed_s / min(30.0, max(0.1, self._noise_s)))
        noisy = self._noise_s >= NOISY_S
        return self._frozen(same, time_s, least_s=self._frozen_s * (1 if noisy else SLOW))

    def outlines(self, time_s: float, *, lost: bool, bare: bool, elsewhere_s: float) -> CameraState:
        """Told of every frame; COVERED or MOVED after a while without the porch's outlines. MOVED lasts until they are back."""
        covered = self._covered(lost and bare, time_s)
        self._turned = lost and not bare and (self._turned or elsewhere_s >= self._turned_s)
        self._turned_since_s = time_s if not self._turned else self._turned_since_s
        return CameraState.COVERED if covered else CameraState.MOVED if self._turned else CameraState.OK

    def turned_for_s(self, time_s: float) -> float:
        """How long the camera has been MOVED."""
        return time_s - self._turned_since_s


class _Spell:
    """Whether something has lasted for `least_s`."""

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._since_s: float | None = None

    def __call__(self, is_so: bool, time_s: float, *, least_s: float | None = None) -> bool:
        if not is_so:
            self._since_s = None
            return False
        self._since_s = time_s if self._since_s is None else self._since_s
        return time_s - self._since_s >= (self._least_s if least_s is None else least_s)


def is_bare(here: Soft, porch: Soft) -> bool:
    """Whether a picture has lost its outlines, for its brightness."""
    light, light_0 = int(here.sum(dtype=np.float64)), int(porch.sum(dtype=np.float64))
    dimmed = min(1.0, max(1, light) / max(1, light_0))
    return outline_energy(here) < BARE * dimmed * dimmed * outline_energy(porch)


def is_nudged(here: Soft, porch: Soft) -> bool:
    """Whether the porch's outlines are all there, a little further on."""
    shifts = range(-NUDGED_PX, NUDGED_PX + 1)
    return any(_alike(here, porch, down, right) for down in shifts for right in shifts)


def _alike(here: Soft, porch: Soft, down: int, right: int) -> bool:
    edge = NUDGED_PX
    height, width = porch.shape
    inner = porch[edge : height - edge, edge : width - edge]
    shifted = here[edge + down : height - edge + down, edge + right : width - edge + right]
    textured, same = compare(shifted, inner)
    return count(same) >= 0.5 * count(textured)
