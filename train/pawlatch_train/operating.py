"""The operating point: from which score on the door opens, and what may be promised of it.

The latch is one, so there is one threshold, on the sum of the scores of all unlock labels, as `pawlatch.decide.Consensus`
asks for: taking one cat of the house for the other lets in nobody else. A threshold for each unlock label would open to a
stranger who passes any of them, so that k of them at 1 % each promise k % together. What differs between the labels, how
often each is locked out, is measured for each.

Near-duplicates are one moment and count once. A moment of a stranger is a false unlock if any of its photos opens: the door
may have seen just that one. A moment of an own animal is a lock-out if half of its photos or more are refused: one good photo
does not open, frames have to agree. Photos of the empty place are nobody's and do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, log
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pawlatch.photos import EMPTY
from pawlatch.stats import binomial_upper
from pawlatch_train.calibrate import fit_temperature, softmax

GRID = 256  # an int8 softmax speaks in steps of 1/256, and its highest score is 255/256
LEAST_THRESHOLD = 205 / GRID  # 0.80: a few photos that happen to be told apart easily promise nothing of the next stranger
HIGHEST_THRESHOLD = 255 / GRID

Ints = NDArray[np.integer[Any]]
ChosenOn = Literal["choose", "folds", "these photos"]


@dataclass(frozen=True)
class LockOuts:
    """Of `n` moments of one unlock label, how many the door would have refused; the bound as in `OperatingPoint`."""

    lock_outs: int
    n: int
    upper_95: float | None


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the summed score of `unlock`, and single photos by it, counted in moments (near-duplicate groups).

    Attributes:
        chosen_on: which photos chose it: the "choose" split, the other "folds" of each fold, or "these photos" that are
            also counted here. Then the bounds are None, since what was selected to fit proves nothing.
        false_unlock_upper_95: exact one-sided 95 % bound of the share of strangers' moments that open; None also where
            there are none.
        lock_out_upper_95: the same of own moments that are refused.
        by_label: the own moments of each unlock label.
    """

    unlock: tuple[str, ...]
    threshold: float
    max_false_unlock: float
    chosen_on: ChosenOn
    false_unlocks: int
    strangers_n: int
    false_unlock_upper_95: float | None
    lock_outs: int
    own_n: int
    lock_out_upper_95: float | None
    by_label: dict[str, LockOuts]

    @property
    def false_unlock_rate(self) -> float:
        """The share of strangers' moments that open; NaN of none."""
        return _rate(self.false_unlocks, self.strangers_n)

    @property
    def lock_out_rate(self) -> float:
        """The share of own moments that are refused; NaN of none."""
        return _rate(self.lock_outs, self.own_n)

    @property
    def is_bounded(self) -> bool:
        """Whether the counted photos chose nothing."""
        return self.chosen_on != "these photos"

    @property
    def sentences(self) -> list[str]:
        """What a person is told."""
        told = [f"the door opens for {' or '.join(self.unlock)} from a score of {self.threshold:.3f} on"]
        told.append(f"strangers let in: {_count(self.false_unlocks, self.strangers_n, self.false_unlock_upper_95)}; "
                    f"own animals refused: {_count(self.lock_outs, self.own_n, self.lock_out_upper_95)}")
        if len(self.by_label) > 1:
            told.append("refused by label: " + ", ".join(f"{label} {one.lock_outs} of {one.n}"
                                                         for label, one in self.by_label.items()))
        return told + self._warnings()

    def _warnings(self) -> list[str]:
        if not self.is_bounded:
            return ["selected on these photos, no bound: keep some apart in test/ or valid/, or use --folds 5"]
        if not self.strangers_n:
            return ["no photo of a stranger was held out: nothing can be promised; put some into _other/"]
        if self.false_unlock_rate > self.max_false_unlock:
            return [f"more strangers open than the {self.max_false_unlock:.2g} that was asked for: photos of those that look "
                    "alike would help most"]
        if self.false_unlock_upper_95 is not None and self.false_unlock_upper_95 > self.max_false_unlock:
            needed = photos_needed(self.max_false_unlock)
            return [f"too few photos to promise {self.max_false_unlock:.1%}: {self.strangers_n} different photos of strangers "
                    f"were counted, and {needed} without a single false unlock would be needed"]
        return []

    def for_card(self) -> dict[str, Any]:
        """As the card keeps it: JSON, with `threshold` where `ModelCard.threshold` looks for it."""
        return {**asdict(self), "unlock": list(self.unlock), "sentences": self.sentences}


@dataclass(frozen=True, eq=False)
class CrossFitted:
    """What out-of-fold logits give: `scores` (n, k), each calibrated by the other folds; `temperature` of all for the model."""

    temperature: float
    scores: NDArray[np.float64]
    point: OperatingPoint | None


def photos_needed(rate: float) -> int:
    """How many moments without a single failure show with 95 % that failures come at most at `rate`: ⌈ln 0.05 / ln(1−rate)⌉."""
    return ceil(log(0.05) / log(1 - rate))


def choose_threshold(scores: ArrayLike, targets: Ints, *, labels: Sequence[str], unlock: Sequence[int],
                     max_false_unlock: float, groups: Ints | None = None) -> float:
    """The lowest threshold m/256, from 0.80 on, at which at most `max_false_unlock` of the strangers' moments open.

    `scores` (n, k) are calibrated softmax, `targets` (n,) indices into `labels`, `unlock` indices of the unlock labels,
    `groups` (n,) the moment of each photo (each its own where None). Where none is high enough it is 255/256, the highest
    that can open.
    """
    strangers = _strangers(targets, labels, unlock)
    summed = _own_scores(scores, unlock)[strangers]
    worst = np.sort(_by_moment(summed, _groups(groups, targets)[strangers], np.max))[::-1]
    allowed = int(max_false_unlock * len(worst) + 1e-9)  # 1 % of 100 is one
    if allowed >= len(worst):
        return LEAST_THRESHOLD
    above = (np.floor(worst[allowed] * GRID) + 1) / GRID
    return float(np.clip(above, LEAST_THRESHOLD, HIGHEST_THRESHOLD))


def measure(scores: ArrayLike, targets: Ints, *, labels: Sequence[str], unlock: Sequence[int], threshold: float,
            max_false_unlock: float, chosen_on: ChosenOn, groups: Ints | None = None) -> OperatingPoint:
    """Count single photos at a threshold.

    Raises:
        ValueError: `unlock` is empty, or `max_false_unlock` is not between 0 and 1.
    """
    opens = _own_scores(scores, unlock) >= threshold
    return _counted(opens, targets, labels, unlock, threshold, max_false_unlock, chosen_on, groups)


def cross_fitted(logits: ArrayLike, targets: Ints, folds: Ints, *, labels: Sequence[str], unlock: Sequence[int] = (),
                 max_false_unlock: float = 0.01, groups: Ints | None = None) -> CrossFitted:
    """Temperature and threshold from out-of-fold logits (n, k), and rates that neither of them was chosen for.

    For each fold, both are fitted on the other folds and applied to it. The temperature and the threshold that are returned
    for the model come from all folds. `point` is None without unlock labels. `folds` (n,) is the number of each photo's fold.

    Raises:
        ValueError: there are fewer than two folds, or a moment lies in more than one.
    """
    z, moments = np.asarray(logits, np.float64), _groups(groups, targets)
    if len(np.unique(folds)) < 2:
        raise ValueError("cross-fitting needs photos of two folds or more")
    if np.unique(np.stack([moments, folds]), axis=1).shape[1] != len(np.unique(moments)):
        raise ValueError("near-duplicates must lie in one fold")
    scores, opens = np.empty_like(z), np.zeros(len(z), bool)

    def chosen(on: NDArray[np.bool_]) -> tuple[float, float]:
        temperature = fit_temperature(z[on], targets[on])
        calibrated = softmax(z[on] / temperature)
        return temperature, choose_threshold(calibrated, targets[on], labels=labels, unlock=unlock,
                                             max_false_unlock=max_false_unlock, groups=moments[on])

    for fold in np.unique(folds):
        here = folds == fold
        temperature, threshold = chosen(~here)
        scores[here] = softmax(z[here] / temperature)
        opens[here] = _own_scores(scores[here], unlock) >= threshold
    temperature, threshold = chosen(np.ones(len(z), bool))
    point = _counted(opens, targets, labels, unlock, threshold, max_false_unlock, "folds", moments) if unlock else None
    return CrossFitted(temperature, scores, point)


def _counted(opens: NDArray[np.bool_], targets: Ints, labels: Sequence[str], unlock: Sequence[int], threshold: float,
             max_false_unlock: float, chosen_on: ChosenOn, groups: Ints | None) -> OperatingPoint:
    if not unlock or not 0 < max_false_unlock < 1:
        raise ValueError(f"expected unlock labels and a rate between 0 and 1, got {list(unlock)} and {max_false_unlock}")
    moments, strangers = _groups(groups, targets), _strangers(targets, labels, unlock)
    let_in = _by_moment(opens[strangers], moments[strangers], np.any)
    bounded = chosen_on != "these photos"

    def refused(mine: NDArray[np.bool_]) -> LockOuts:
        shares = _by_moment(~opens[mine], moments[mine], np.mean)
        k = int((shares >= 0.5).sum())
        return LockOuts(k, len(shares), _bound(k, len(shares), bounded))

    whole = refused(np.isin(targets, unlock))
    return OperatingPoint(
        tuple(labels[i] for i in unlock), threshold, max_false_unlock, chosen_on,
        int(let_in.sum()), len(let_in), _bound(int(let_in.sum()), len(let_in), bounded),
        whole.lock_outs, whole.n, whole.upper_95, {labels[i]: refused(targets == i) for i in unlock},
    )


def _own_scores(scores: ArrayLike, unlock: Sequence[int]) -> NDArray[np.float64]:
    """The summed score of the unlock labels (n,), as `Prediction.score_of` sums it."""
    return np.asarray(np.asarray(scores, np.float64)[:, list(unlock)].sum(axis=1))


def _strangers(targets: Ints, labels: Sequence[str], unlock: Sequence[int]) -> NDArray[np.bool_]:
    """Which photos show an animal that must stay outside (n,)."""
    inside = [*unlock, *(i for i, label in enumerate(labels) if label == EMPTY)]
    return ~np.isin(targets, inside)


def _groups(groups: Ints | None, targets: Ints) -> Ints:
    return np.arange(len(targets)) if groups is None else groups


def _by_moment(values: NDArray[Any], moments: Ints, summary: Any) -> NDArray[Any]:
    """One value of a moment from those of its photos."""
    return np.array([summary(values[moments == moment]) for moment in np.unique(moments)])


def _bound(k: int, n: int, bounded: bool) -> float | None:
    return binomial_upper(k, n) if bounded and n else None


def _rate(k: int, n: int) -> float:
    return k / n if n else float("nan")


def _count(k: int, n: int, upper: float | None) -> str:
    """As "0 of 120: at most 2.5 %"."""
    return f"{k} of {n}" + ("" if upper is None else f": at most {100 * upper:.1f} %")
