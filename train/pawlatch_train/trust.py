"""What may be promised of a model: its operating point, how honest its scores are, and whether it would know a stranger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.calibration import expected_calibration_error
from pawlatch_train.calibrate import softmax
from pawlatch_train.dataset import Dataset, balanced
from pawlatch_train.fit import Indices
from pawlatch_train.folds import OutOfFold
from pawlatch_train.infrared import MOST_PHOTOS, Lit, Score, infrared_point
from pawlatch_train.judged import Judged
from pawlatch_train.operating import OperatingPoint, choose_threshold, cross_fitted, measure
from pawlatch_train.report import StrangerRow
from pawlatch_train.stranger_stats import Embedded, leave_one_label_out, stranger_model

STRANGER_PHOTOS = 500  # from so many on, more photos move a label's directions no longer
VIEWS = 3  # augmented ones of each
EXACT = "Head and statistics were redone without the label; the features below them have never seen any of these photos."
FLATTERED = (
    "Head and statistics were redone without the label, but the fine-tuning has seen it, which flatters: where it was redone "
    "too (two cats of five), the AUROC fell by 0.10 and 0.17, to what frozen features give or less."
)

Embed = Callable[[Indices, int], NDArray[np.float32]]  # photos, which view -> embeddings (n, d)


@dataclass(frozen=True)
class Trust:
    """What was found, as the card and the report tell it. Calibration errors are None where nothing was held out."""

    temperature: float
    ece_before: float | None
    ece_after: float | None
    point: OperatingPoint | None
    infrared: dict[str, Any]
    strangers: list[StrangerRow]
    strangers_note: str
    stranger_statistics: dict[str, Any]

    @property
    def sentences(self) -> list[str]:
        """Of the operating point, for a person."""
        return [*self.point.sentences, *([self.infrared["sentence"]] if self.infrared else [])] if self.point else []

    @property
    def operating_point(self) -> dict[str, Any]:
        """For the card."""
        return {**self.point.for_card(), **({"infrared": self.infrared} if self.infrared else {})} if self.point else {}

    @property
    def metrics(self) -> dict[str, Any]:
        """For the card's provenance."""
        return {
            "temperature": self.temperature, "ece_before": self.ece_before, "ece_after": self.ece_after,
            "stranger_auroc": {row.left_out: row.ours for row in self.strangers},
            "stranger_auroc_max_softmax": {row.left_out: row.max_softmax for row in self.strangers},
        }

    def lines(self) -> list[str]:
        """For a terminal."""
        told = [f"scores are divided by a temperature of {self.temperature:.2f}"]
        if self.ece_before is not None and self.ece_after is not None:
            told[0] += f": calibration error {self.ece_before:.3f} before, {self.ece_after:.3f} after"
        if self.strangers:
            ours, softmaxes = (np.mean([getattr(row, name) for row in self.strangers]) for name in ("ours", "max_softmax"))
            told.append(f"each label left out in turn is told from the others with an AUROC of {ours:.2f} "
                        f"(by the highest score alone: {softmaxes:.2f})")
        return told


def assess(data: Dataset, judged: Judged, said: OutOfFold, temperature: float, *, unlock: Sequence[str], embed: Embed,
           score: Score, known: Sequence[int], fine_tuned: bool, max_false_unlock: float, seed: int) -> Trust:
    """Choose the operating point by what was `said` of the photos that choose, and count it on the `judged` ones.

    `score` gives the calibrated scores of fitted pixels, by the model as it was saved.

    `known` are the photos that the stranger statistics are made of: those that trained and, where nothing below the head has
    learned from photos, those that chose as well. `fine_tuned`: the backbone too has learned from them.
    """
    opens = [data.labels.index(label) for label in unlock]
    point = _operating_point(data, judged, said, temperature, opens, max_false_unlock)
    night = infrared_point(_lit(data, said.photos, seed), _lit(data, data.splits.held_out, seed), score, labels=data.labels,
                           unlock=opens, max_false_unlock=max_false_unlock, seed=seed) if opens else {}
    has_judged = len(judged) > 0
    statistics, rows = _strangers(data, embed, known, said)
    note = "" if not rows else FLATTERED if fine_tuned else EXACT
    return Trust(
        temperature, expected_calibration_error(judged.raw_scores, judged.targets) if has_judged else None,
        expected_calibration_error(judged.scores, judged.targets) if has_judged else None, point, night, rows, note, statistics,
    )


def _lit(data: Dataset, photos: Sequence[int] | Indices, seed: int) -> Lit:
    """At most MOST_PHOTOS of them, labels alike."""
    given = [int(photo) for photo in photos]
    some = np.array(balanced(data, given, most=MOST_PHOTOS, seed=seed) if given else [], np.int64)
    return Lit(data.images(some), data.targets[some], data.check.groups[some])


def _operating_point(data: Dataset, judged: Judged, said: OutOfFold, temperature: float, unlock: list[int],
                     max_false_unlock: float) -> OperatingPoint | None:
    if not unlock:
        return None
    targets, groups = data.targets[said.photos], data.check.groups[said.photos]
    how: dict[str, Any] = {"labels": data.labels, "unlock": unlock, "max_false_unlock": max_false_unlock}
    if len(np.unique(said.fold)) > 1:
        return cross_fitted(said.logits, targets, said.fold, groups=groups, **how).point
    scores = softmax(said.logits / temperature)
    threshold = choose_threshold(scores, targets, groups=groups, **how)
    if not len(judged):
        return measure(scores, targets, threshold=threshold, chosen_on="these photos", groups=groups, **how)
    return measure(judged.scores, judged.targets, threshold=threshold, chosen_on="choose", groups=judged.groups, **how)


def _strangers(data: Dataset, embed: Embed, known: Sequence[int], said: OutOfFold) -> tuple[dict[str, Any], list[StrangerRow]]:
    """The statistics for the card, and each label left out in turn; empty where a label's photos cannot carry them."""
    def embedded(photos: Indices, views: int) -> Embedded:
        augmented = np.stack([embed(photos, view) for view in range(1, views + 1)]) if views else None
        return Embedded(embed(photos, 0), data.targets[photos], data.check.groups[photos], augmented)

    training = embedded(np.array(balanced(data, known, most=STRANGER_PHOTOS, seed=0)), VIEWS)
    held_out = np.setdiff1d(data.splits.held_out, known)
    chosen = np.setdiff1d(said.photos, known)
    try:
        model = stranger_model(training, data.labels, choose=embedded(chosen, 0) if len(chosen) else None)
    except ValueError:
        return {}, []
    judges = embedded(held_out, 0) if len(held_out) else None
    rows = [
        StrangerRow(row.label, row.auroc, row.auroc_max_softmax)
        for row in leave_one_label_out(training, data.labels, known=judges) if row.auroc_max_softmax is not None
    ]
    return (model.statistics() if model else {}), rows
