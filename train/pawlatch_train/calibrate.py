"""Scores that mean what they say: one temperature, and how far scores and shares of right answers lie apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
SPREAD = 0.5  # of log T, before any photo was seen: within a factor e^½ either way
STEPS = 400

Floats = NDArray[np.float64]
Targets = NDArray[np.integer[Any]]


class Reliability(NamedTuple):
    """By bin (bins,): mean score and share of right answers, NaN where it is empty, and the number of photos."""

    confidence: Floats
    accuracy: Floats
    photos: NDArray[np.int64]


def softmax(logits: ArrayLike) -> Floats:
    """exp(z) / Σ exp(z) over the last axis, in float64; the highest is taken off first, so that nothing overflows."""
    z = np.asarray(logits, np.float64)
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def fit_temperature(logits: ArrayLike, targets: Targets, *, weights: ArrayLike | None = None) -> float:
    """The T, 0.05 to 20, by which to divide logits (n, k) so that their softmax is calibrated; 1 where there are no photos.

    Minimises Σ wᵢ · −log softmax(zᵢ/T)[tᵢ] + (log T)² / (2 · 0.5²). The first term is the likelihood's, convex in 1/T. The
    second is a normal prior on log T: where all are right, the likelihood alone would have T = 0 and scores of exactly 1,
    which a dozen photos cannot vouch for; a hundred photos outvote it. `weights` (n,) count photos, 1 each where None; give
    1/m to each of m near-duplicates.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks" (ICML 2017), 4.2.

    Raises:
        ValueError: shapes that do not belong together, or logits that are not finite.
    """
    z = np.asarray(logits, np.float64)
    w = np.ones(len(z)) if weights is None else np.asarray(weights, np.float64)
    if z.ndim != 2 or len(z) != len(targets) or len(z) != len(w) or not np.isfinite(z).all():
        raise ValueError(f"expected finite logits (n, k) with n targets and weights, got {z.shape}, {len(targets)}, {len(w)}")
    if not len(z):
        return 1.0
    z = z - z[np.arange(len(z)), targets][:, np.newaxis]  # so that −log softmax[t] = log Σ exp

    def cost(log_t: float) -> float:
        scaled = z / np.exp(log_t)
        top = scaled.max(axis=1)
        losses = top + np.log(np.exp(scaled - top[:, np.newaxis]).sum(axis=1))
        return float(w @ losses + log_t**2 / (2 * SPREAD**2))

    grid = np.linspace(np.log(LOWEST), np.log(HIGHEST), STEPS)  # the sum of the two need not have one valley
    best = int(np.argmin([cost(log_t) for log_t in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, STEPS - 1)]
    return float(np.exp(_golden_section(cost, *map(float, around))))


def reliability(scores: ArrayLike, targets: Targets, *, bins: int = 15) -> Reliability:
    """Scores (n, k) of n photos by the score of what was predicted, in `bins` bins of equal width, (low, high].

    Source: A. Niculescu-Mizil and R. Caruana, "Predicting good probabilities with supervised learning" (ICML 2005).
    """
    s = np.asarray(scores, np.float64)
    top = s.max(axis=1, initial=0.0)
    right = s.argmax(axis=1) == targets if len(s) else np.zeros(0, bool)
    chosen = np.clip(np.ceil(top * bins).astype(np.int64) - 1, 0, bins - 1)
    count = np.bincount(chosen, minlength=bins)
    none = np.where(count == 0, np.nan, 1.0)  # 0 / 0 without a warning
    per = none / np.maximum(count, 1)
    return Reliability(
        np.bincount(chosen, top, minlength=bins) * per, np.bincount(chosen, right, minlength=bins) * per, count
    )


def expected_calibration_error(scores: ArrayLike, targets: Targets, *, bins: int = 15) -> float:
    """Σ photos/n · |accuracy − confidence| over the bins: 0 is calibrated. NaN of no photos.

    Source: M. P. Naeini, G. Cooper and M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning"
    (AAAI 2015); with 15 bins as Guo et al. 2017.
    """
    confidence, accuracy, photos = reliability(scores, targets, bins=bins)
    filled = photos > 0
    if not filled.any():
        return float("nan")
    return float(photos[filled] @ np.abs(accuracy - confidence)[filled] / photos.sum())


def _golden_section(cost: Any, low: float, high: float) -> float:
    """Where a function with one valley between `low` and `high` is lowest."""
    ratio = (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return (low + high) / 2
