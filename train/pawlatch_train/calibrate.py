"""Scores that mean what they say: one temperature, and how far scores and shares of right answers lie apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LOWEST, HIGHEST = 0.05, 20.0  # temperatures
SPREAD = 0.5  # of log T, before any photo was seen: within a factor e^½ either way
STEPS = 400

Floats = NDArray[np.float64]
Targets = NDArray[np.integer[Any]]


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


def _golden_section(cost: Any, low: float, high: float) -> float:
    """Where a function with one valley between `low` and `high` is lowest."""
    ratio = (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if cost(left) < cost(right) else (left, high)
    return (low + high) / 2
