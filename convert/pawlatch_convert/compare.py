"""What differs between the SavedModel and a variant on the same photos: outputs in, numbers out; no engine, no TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pawlatch.calibration import expected_calibration_error
from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.photos import EMPTY
from pawlatch.stats import mcnemar_exact, paired_difference_interval, wilson_interval
from pawlatch.strangers import StrangerModel

SURE_MARGIN = 0.2  # photos whose best score leads the second by more: the SavedModel is not guessing
DOOR_MARGIN = 0.1  # photos whose unlock score lies farther from the threshold: the door is no borderline case
KL_FLOOR = 1 / 512  # half of an int8 softmax's step: what it rounds to zero

Scores = NDArray[np.float32]  # (photos, labels)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a model says of n photos: `scores` (n, k) float32 and `embeddings` (n, d) float32, in the photos' order.

    `unsteady` is the largest |difference| of a score when some photos were run again, and with other threads.
    """

    scores: Scores
    embeddings: NDArray[np.float32]
    unsteady: float = 0.0


@dataclass(frozen=True, eq=False)
class Scored:
    """Photos with what the SavedModel (`reference`) and each variant that ran say of them."""

    names: tuple[str, ...]
    true_labels: tuple[str, ...]
    judged: Bools  # (n,): held out, and of a label that the model knows; what accuracy is counted on
    reference: Outputs
    variants: Mapping[str, Outputs]
    failures: Mapping[str, str]  # variant -> why it does not run

    def with_variant(self, name: str, outputs: Outputs) -> Scored:
        """The same photos, with a variant added or replaced."""
        failures = {variant: why for variant, why in self.failures.items() if variant != name}
        return replace(self, variants={**self.variants, name: outputs}, failures=failures)

    def targets(self, labels: tuple[str, ...]) -> NDArray[np.int64]:
        """The true labels (n,) as indices into `labels`; -1 for a label that is none of them."""
        position = {label: index for index, label in enumerate(labels)}
        return np.array([position.get(label, -1) for label in self.true_labels], np.int64)

    def is_right(self, scores: Scores, labels: tuple[str, ...]) -> Bools:
        """Of the judged photos, in their order, whether `scores` put the true label first."""
        right: Bools = (scores.argmax(1) == self.targets(labels))[self.judged]
        return right


@dataclass(frozen=True)
class Flip:
    """A photo on which a variant decides otherwise than the SavedModel. Pairs are the SavedModel's, then the variant's."""

    index: int  # of the photo
    photo: str
    true_label: str
    reference_label: str
    variant_label: str
    reference_score: float
    variant_score: float
    margin: float  # of the SavedModel: its best score less its second
    unlock_scores: tuple[float, float] | None = None  # summed over the unlock labels; None without an operating point
    unlocks: tuple[bool, bool] | None = None  # whether that is enough
    strangers: tuple[bool, bool] | None = None  # None without stranger statistics

    @property
    def moves_label(self) -> bool:
        """Whether they name different labels."""
        return self.reference_label != self.variant_label

    @property
    def moves_door(self) -> bool:
        """Whether one of them would have opened and the other not."""
        return self.unlocks is not None and self.unlocks[0] != self.unlocks[1]

    @property
    def weight(self) -> tuple[bool, bool, bool, float, str]:
        """To sort by: "opens here, shut there" first, then what else moves the door, then labels, then the surest."""
        opens_here = self.moves_door and self.unlocks == (False, True)
        return not opens_here, not self.moves_door, not self.moves_label, -self.margin, self.photo


@dataclass(frozen=True)
class DoorFlips:
    """Decisions of single photos at the card's threshold, in photos."""

    threshold: float
    opens_here: int  # the variant opens, the SavedModel did not
    shut_here: int  # the SavedModel opened, the variant does not
    far: int  # of both, those whose SavedModel's score lies more than DOOR_MARGIN from the threshold
    reference_opens: int
    variant_opens: int


@dataclass(frozen=True)
class StrangerFlips:
    """Whether an embedding is none of the labels, by the statistics of each; in photos."""

    newly_strange: int
    no_longer_strange: int
    reference_strange: int


@dataclass(frozen=True)
class Comparison:
    """A variant against the SavedModel. Accuracy and calibration are counted on held-out photos, all else on every photo."""

    n_photos: int
    n_heldout: int
    top1: float
    top1_interval: tuple[float, float]  # 95 %, Wilson
    lost: int  # photos that only the SavedModel gets right, less those that only the variant does
    difference: float  # of top-1, variant less SavedModel
    difference_interval: tuple[float, float]  # 95 %, paired
    mcnemar_p: float  # exact, two-sided
    agreement: float
    n_relabelled: int  # photos that got another label
    n_sure: int  # photos whose float margin is over SURE_MARGIN
    sure_agreement: float | None  # among them; None of none
    n_sure_relabelled: int
    door: DoorFlips | None  # None without an operating point
    max_delta: float  # largest |difference| of one score
    mean_delta: float
    mean_kl: float  # in nats
    ece_reference: float | None  # None where a score is no number
    ece: float | None
    mean_cosine: float  # of the embeddings
    lowest_cosine: float
    strangers: StrangerFlips | None  # None without stranger statistics
    flips: tuple[Flip, ...]


def accuracy(scored: Scored, card: ModelCard) -> tuple[float, tuple[float, float]]:
    """The SavedModel's top-1 on the judged photos, with its 95 % interval."""
    return _share(scored.is_right(scored.reference.scores, card.labels))


def agreement_matrix(scored: Scored) -> dict[str, dict[str, float]]:
    """The share of photos on which any two give the same label, the SavedModel among them; symmetric."""
    first = {SAVED_MODEL: scored.reference.scores.argmax(1)}
    first |= {name: outputs.scores.argmax(1) for name, outputs in scored.variants.items()}
    return {a: {b: float((first[a] == first[b]).mean()) for b in first} for a in first}


def compare(scored: Scored, outputs: Outputs, card: ModelCard) -> Comparison:
    """What a variant says of the scored photos, against what the SavedModel says of them."""
    scores, reference = outputs.scores, scored.reference.scores
    right, reference_right = (scored.is_right(s, card.labels) for s in (scores, reference))
    both, gained, lost = (
        int(count.sum()) for count in (right & reference_right, right & ~reference_right, ~right & reference_right)
    )
    same, is_sure = scores.argmax(1) == reference.argmax(1), margins(reference) > SURE_MARGIN
    delta = np.abs(scores.astype(np.float64) - reference)
    cosines = _cosines(outputs.embeddings, scored.reference.embeddings)
    top1, top1_interval = _share(right)
    door, strange = _Door.of(scored, outputs, card), _strange(scored, outputs, card)
    return Comparison(
        n_photos=len(scored.names),
        n_heldout=right.size,
        top1=top1,
        top1_interval=top1_interval,
        lost=lost - gained,
        difference=(gained - lost) / right.size,
        difference_interval=paired_difference_interval(both, gained, lost, right.size - both - gained - lost),
        mcnemar_p=mcnemar_exact(gained, lost),
        agreement=float(same.mean()),
        n_relabelled=int((~same).sum()),
        n_sure=int(is_sure.sum()),
        sure_agreement=float(same[is_sure].mean()) if is_sure.any() else None,
        n_sure_relabelled=int((~same & is_sure).sum()),
        door=door.flips() if door else None,
        max_delta=float(delta.max()),
        mean_delta=float(delta.mean()),
        mean_kl=float(divergence(reference, scores).mean()),
        ece_reference=_calibration_error(scored, reference, card),
        ece=_calibration_error(scored, scores, card),
        mean_cosine=float(cosines.mean()),
        lowest_cosine=float(cosines.min()),
        strangers=_stranger_flips(strange),
        flips=_flips(scored, outputs, card, door, strange),
    )


def margins(scores: Scores) -> NDArray[np.float64]:
    """By how much the best score of each photo leads the second (n,)."""
    two = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def divergence(reference: Scores, scores: Scores) -> NDArray[np.float64]:
    """KL(reference ‖ scores) of each photo (n,), in nats: Σ p ln(p / q).

    Both are raised to at least 1/512 and brought to a sum of 1 again: an int8 softmax says 0 for all that is smaller, and
    of zeros the divergence would be infinite.
    """
    p, q = (np.maximum(s.astype(np.float64), KL_FLOOR) for s in (reference, scores))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    return np.asarray((p * np.log(p / q)).sum(1))


def decides(card: ModelCard) -> bool:
    """Whether the card says when a door opens."""
    return bool(card.unlock) and SAVED_MODEL in card.operating_points


def unlock_scores(scores: Scores, card: ModelCard) -> NDArray[np.float64]:
    """The summed score of the card's unlock labels (n,), as `Prediction.score_of` sums it."""
    return np.asarray(scores.astype(np.float64)[:, [card.labels.index(label) for label in card.unlock]].sum(1))


def _share(right: Bools) -> tuple[float, tuple[float, float]]:
    return float(right.mean()), wilson_interval(int(right.sum()), right.size)


def _calibration_error(scored: Scored, scores: Scores, card: ModelCard) -> float | None:
    judged = scores[scored.judged]
    return expected_calibration_error(judged, scored.targets(card.labels)[scored.judged]) if np.isfinite(judged).all() else None


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each pair of rows (n,): 1 where both are zeros, 0 where one is, or where they are of different lengths."""
    if a.shape != b.shape:
        return np.zeros(len(a))
    x, y = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinities give NaN, which passes no gate
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        cosines = (x * y).sum(1) / np.where(lengths == 0, 1.0, lengths)
    return np.where((lengths == 0) & (x == y).all(1), 1.0, cosines)


@dataclass(frozen=True, eq=False)
class _Door:
    """Unlock scores (n,) of the SavedModel and the variant."""

    threshold: float
    before: NDArray[np.float64]
    after: NDArray[np.float64]

    @classmethod
    def of(cls, scored: Scored, outputs: Outputs, card: ModelCard) -> _Door | None:
        if not decides(card):
            return None
        before, after = (unlock_scores(s, card) for s in (scored.reference.scores, outputs.scores))
        return cls(card.threshold(SAVED_MODEL), before, after)

    @property
    def opens(self) -> tuple[Bools, Bools]:
        return self.before >= self.threshold, self.after >= self.threshold

    def flips(self) -> DoorFlips:
        opened, opens = self.opens
        is_far = np.abs(self.before - self.threshold) > DOOR_MARGIN
        return DoorFlips(
            self.threshold, int((opens & ~opened).sum()), int((opened & ~opens).sum()),
            int(((opened != opens) & is_far).sum()), int(opened.sum()), int(opens.sum()),
        )


def stranger_scores(scored: Scored, outputs: Outputs,
                    card: ModelCard) -> tuple[NDArray[np.float64], NDArray[np.float64], float] | None:
    """How strange each photo (n,) is by the SavedModel's embedding and by a variant's, and from where on the first is."""
    model = StrangerModel.from_card(card, SAVED_MODEL)
    if model is None:
        return None
    return model.scores(scored.reference.embeddings), model.scores(outputs.embeddings), model.threshold


def moved_threshold(before: NDArray[np.float64], after: NDArray[np.float64], threshold: float) -> float:
    """A variant's stranger threshold: the SavedModel's, moved by the median of what its scores moved."""
    moved = np.median((after - before)[np.isfinite(after - before)]) if np.isfinite(after - before).any() else 0.0
    return float(np.clip(threshold + moved, 1e-3, 2 - 1e-3))


def _strange(scored: Scored, outputs: Outputs, card: ModelCard) -> tuple[Bools, Bools] | None:
    """Which photos each says to be of a stranger, as `Classifier` does: an empty place has none, each has its threshold."""
    found = stranger_scores(scored, outputs, card)
    if found is None:
        return None
    before, after, threshold = found
    empty = card.labels.index(EMPTY) if EMPTY in card.labels else -1
    return (
        ~(before <= threshold) & (scored.reference.scores.argmax(1) != empty),
        ~(after <= moved_threshold(before, after, threshold)) & (outputs.scores.argmax(1) != empty),
    )


def _stranger_flips(strange: tuple[Bools, Bools] | None) -> StrangerFlips | None:
    if strange is None:
        return None
    before, after = strange
    return StrangerFlips(int((after & ~before).sum()), int((before & ~after).sum()), int(before.sum()))


def _flips(scored: Scored, outputs: Outputs, card: ModelCard, door: _Door | None,
           strange: tuple[Bools, Bools] | None) -> tuple[Flip, ...]:
    """What is decided otherwise: first what moves the door, "opens here" before "shut there", then the surest."""
    before, after = scored.reference.scores, outputs.scores
    first, now, margin = before.argmax(1), after.argmax(1), margins(before)
    differs = first != now
    if door:
        differs |= door.opens[0] != door.opens[1]
    if strange:
        differs |= strange[0] != strange[1]
    flips = [
        Flip(
            i, scored.names[i], scored.true_labels[i], card.labels[first[i]], card.labels[now[i]],
            float(before[i, first[i]]), float(after[i, now[i]]), float(margin[i]),
            (float(door.before[i]), float(door.after[i])) if door else None,
            (bool(door.opens[0][i]), bool(door.opens[1][i])) if door else None,
            (bool(strange[0][i]), bool(strange[1][i])) if strange else None,
        )
        for i in np.flatnonzero(differs).tolist()
    ]
    return tuple(sorted(flips, key=lambda flip: flip.weight))
