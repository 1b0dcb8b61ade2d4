"""The empty porch as the gate has learnt it: how bright each spot is, and how restless."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pawlatch.glance import SOFT, Mask, Soft, count

RESTLESS_S = 60.0  # in which a swaying branch or rain is learnt
RESTLESS_MOST = 6.0 * SOFT  # what a dog that plays for minutes may teach
RESTLESS = 3.0  # a spot must differ by this many times as much as it does from frame to frame
QUIET = 1.0 * SOFT  # a good camera's noise by day
FEW = 0.02  # of the picture; more is worth a look at the exposure
NOISE_S = 5.0
STILL_S = 1.0


class Background:
    """Compares with what was learnt, and learns. All in sums over 3×3 pixels (`Glance.soft`)."""

    def __init__(self, soft: Soft, *, step: float, learn_s: float, stay_s: float) -> None:
        self.soft = soft.copy()
        self._before = soft
        self._usual_step = 0.0  # the median, slowly
        self._restless: Soft | None = None
        self._limit = np.full_like(soft, SOFT * step)
        self._strange_s = np.zeros_like(soft)  # how long each spot has been another than the porch's
        self._quiet_s = np.zeros_like(soft)  # how long since each spot last changed from one frame to the next
        self._step, self._learn_s, self._stay_s = SOFT * step, learn_s, stay_s

    def changed(self, soft: Soft) -> Mask:
        """Where `soft` differs from the empty porch, once a change of exposure is taken out."""
        changed: Mask = np.abs(soft - self.soft) >= self._limit
        if count(changed) > FEW * changed.size:
            gain = _median(self.soft) / max(1.0, _median(soft))
            exposed: Mask = np.abs(soft * np.float32(gain) - self.soft) >= self._limit
            if 0.5 <= gain <= 2 and count(exposed) < count(changed):
                return exposed
        return changed

    def watch(self, soft: Soft, elapsed_s: float) -> None:
        """Note where the picture moves, from one frame to the next."""
        step = np.abs(soft - self._before)
        self._before = soft
        self._quiet_s += np.float32(elapsed_s)
        self._quiet_s[step >= self._limit] = 0
        if self._restless is None:
            self._usual_step = _median(step)
            self._restless = np.full_like(soft, max(QUIET, 1.5 * self._usual_step))
        self._usual_step += (_median(step) - self._usual_step) * min(1.0, elapsed_s / NOISE_S)
        self._restless += (step - self._restless) * np.float32(min(1.0, elapsed_s / RESTLESS_S))
        np.minimum(self._restless, RESTLESS_MOST, out=self._restless)
        self._limit = self._step + RESTLESS * self._restless

    def learn(self, soft: Soft, changed: Mask, elapsed_s: float) -> None:
        """Take in what did not change, slowly, and what has been there for as long as a thing that was left behind."""
        self.soft += (soft - self.soft) * (~changed * np.float32(min(1.0, elapsed_s / self._learn_s)))
        self._strange_s += changed * np.float32(3 * elapsed_s) - np.float32(2 * elapsed_s)
        np.maximum(self._strange_s, 0, out=self._strange_s)
        stayed = self._strange_s >= self._stay_s
        if stayed.any():
            self.accept(soft, stayed)

    def accept(self, soft: Soft, where: Mask) -> None:
        """Take `soft` for the empty porch at once."""
        self.soft[where] = soft[where]
        self._strange_s[where] = 0

    def scale(self, where: Mask, gain: float) -> None:
        """Think of `where` as lit `gain` times as brightly."""
        self.soft[where] *= np.float32(gain)

    def noise(self) -> float:
        """The sensor's noise, as the standard deviation of one pixel of a frame, in grey levels.

        Half of the steps of `soft` from frame to frame are below 0.6745 deviations; one is 3 · 2 ** 0.5 of the glance's,
        which is half of the frame's, for each of its pixels is a mean of four.
        """
        return self._usual_step / (0.6745 * 3 * 2**0.5) * 2

    def moving(self) -> Mask:
        """Where the picture has just moved."""
        return np.asarray(self._quiet_s == 0)

    def still_where(self) -> Mask:
        """Where nothing has moved for a second."""
        return np.asarray(self._quiet_s >= STILL_S)


def _median(values: NDArray[np.float32]) -> float:
    some = values[::4, ::4].ravel()
    return float(np.partition(some, some.size // 2)[some.size // 2])
