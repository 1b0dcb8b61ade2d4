"""Do scores mean what they say: of photos that were given 0.8, are 80 % right?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pawlatch.stats import wilson_interval

BINS = 15  # as Guo et al. 2017

Floats = NDArray[np.float64]


class Reliability(NamedTuple):
    """By bin (bins,): mean score and share of right answers, NaN where it is empty, and the number of photos."""

    confidence: Floats
    accuracy: Floats
    photos: NDArray[np.int64]

    def intervals(self) -> tuple[Floats, Floats]:
        """Both ends of Wilson's 95 % interval of `accuracy` (bins,), NaN where the bin is empty."""
        ends = [wilson_interval(round(share * n), n) if n else (np.nan, np.nan)
                for share, n in zip(self.accuracy, self.photos.tolist(), strict=True)]
        low, high = np.array(ends, np.float64).T
        return low, high


def reliability(scores: ArrayLike, targets: NDArray[np.integer[Any]], *, bins: int = BINS) -> Reliability:
    """Scores (n, k) of n photos, whose true labels are `targets` (n,), by the highest score: bins of equal width, (low, high].

    Source: A. Niculescu-Mizil and R. Caruana, "Predicting good probabilities with supervised learning" (ICML 2005).
    """
    s = np.asarray(scores, np.float64)
    top = s.max(axis=1, initial=0.0)
    right = s.argmax(axis=1) == targets if len(s) else np.zeros(0, bool)
    chosen = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(chosen, minlength=bins)
    per = np.where(count == 0, np.nan, 1.0) / np.maximum(count, 1)  # 0 / 0 without a warning
    return Reliability(
        np.bincount(chosen, top, minlength=bins) * per, np.bincount(chosen, right, minlength=bins) * per, count
    )


def expected_calibration_error(scores: ArrayLike, targets: NDArray[np.integer[Any]], *, bins: int = BINS) -> float:
    """Σ photos/n · |accuracy − confidence| over the bins: 0 is calibrated. NaN of no photos.

    Source: M. P. Naeini, G. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning"
    (AAAI 2015); with 15 bins as C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks"
    (ICML 2017).
    """
    confidence, accuracy, photos = reliability(scores, targets, bins=bins)
    filled = photos > 0
    if not filled.any():
        return float("nan")
    return float(photos[filled] @ np.abs(accuracy - confidence)[filled] / photos.sum())
