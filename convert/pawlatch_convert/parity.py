"""Does the small file decide as the SavedModel does? Scores in, verdict out; a file that does not is red."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import SAVED_MODEL, ModelCard, VariantFile
from pawlatch.stats import paired_difference_interval, wilson_interval
from pawlatch_convert.census import Census
from pawlatch_convert.recipes import Recipe

SUM_TOLERANCE = 0.02
_ROUNDING = 1 / 512  # the most that rounding to int8 moves one score

Scores = NDArray[np.float32]  # (photos, labels)


@dataclass(frozen=True)
class Gate:
    """What a variant may lose: top-1 accuracy, and agreement with the SavedModel; shares, 0..1."""

    max_drop: float = 0.02
    min_agreement: float = 0.95


@dataclass(frozen=True, eq=False)
class Scored:
    """Photos with their scores by the SavedModel (`reference`) and by each variant that ran."""

    names: tuple[str, ...]
    true_labels: tuple[str, ...]
    judged: NDArray[np.bool_]  # held out, and of a label that the model knows: what accuracy is counted on
    reference: Scores
    variants: Mapping[str, Scores]
    failures: Mapping[str, str]  # variant -> why it does not run

    def is_right(self, scores: Scores, labels: tuple[str, ...]) -> NDArray[np.bool_]:
        """Of the judged photos, in their order, whether `scores` put the true label first."""
        first = np.array(labels)[scores.argmax(1)]
        right: NDArray[np.bool_] = (first == np.array(self.true_labels))[self.judged]
        return right


@dataclass(frozen=True)
class Flip:
    """A photo on which a variant decides otherwise than the SavedModel."""

    photo: str
    true_label: str
    reference_label: str
    variant_label: str
    reference_score: float
    variant_score: float
    margin: float  # of the SavedModel: its best score less its second
    unlocks: tuple[bool, bool] | None  # by the SavedModel, by the variant; None without an operating point

    @property
    def moves_door(self) -> bool:
        """Whether one of them would have opened and the other not."""
        return self.unlocks is not None and self.unlocks[0] != self.unlocks[1]


@dataclass(frozen=True)
class Comparison:
    """A variant against the SavedModel. Accuracy is counted on held-out photos, all else on every photo."""

    top1: float
    lost: int  # photos that only the SavedModel gets right, less those that only the variant does
    difference: float  # of top-1, variant less SavedModel
    difference_interval: tuple[float, float]  # 95 %, paired
    agreement: float
    n_relabelled: int  # photos that got another label
    max_delta: float  # largest |difference| of one score
    mean_delta: float
    flips: tuple[Flip, ...]


@dataclass(frozen=True)
class VariantResult:
    """One variant with its verdict. What could not be measured is None, and then `reasons` says why."""

    variant: str
    reasons: tuple[str, ...]  # why it is red
    file: VariantFile | None = None
    integer_share: float | None = None  # of multiply-accumulates
    latency_ms: tuple[float, float] | None = None  # median, 95th percentile
    comparison: Comparison | None = None

    @property
    def is_green(self) -> bool:
        """Whether it may be deployed."""
        return not self.reasons


@dataclass(frozen=True)
class ParityResult:
    """The verdict on a conversion: what `edge/parity.json` holds and the table shows."""

    model: str
    n_photos: int
    n_heldout: int
    top1: float  # of the SavedModel, on held-out photos
    top1_interval: tuple[float, float]  # 95 %, Wilson
    gate: Gate
    threads: int
    variants: tuple[VariantResult, ...]
    deploy: str | None  # the bundle's choice; None if there is no bundle
    set_aside: tuple[tuple[str, str], ...] = ()  # photos that could not be read, and why

    @property
    def is_green(self) -> bool:
        """Whether every variant may be deployed."""
        return all(result.is_green for result in self.variants)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, each variant with its verdict."""
        raw = asdict(self)
        for entry, result in zip(raw["variants"], self.variants, strict=True):
            entry["verdict"] = "green" if result.is_green else "red"
        return raw


# -------------------------------------------------------------------------------------------------- comparing


def accuracy(scored: Scored, card: ModelCard) -> tuple[float, tuple[float, float]]:
    """The SavedModel's top-1 on the judged photos, with its 95 % interval."""
    right = scored.is_right(scored.reference, card.labels)
    return float(right.mean()), wilson_interval(int(right.sum()), right.size)


def compare(scored: Scored, scores: Scores, card: ModelCard) -> Comparison:
    """A variant's scores against the SavedModel's, photo by photo."""
    right, reference_right = (scored.is_right(s, card.labels) for s in (scores, scored.reference))
    both, gained, lost = (
        int(count.sum()) for count in (right & reference_right, right & ~reference_right, ~right & reference_right)
    )
    same = scores.argmax(1) == scored.reference.argmax(1)
    delta = np.abs(scores.astype(np.float64) - scored.reference)
    return Comparison(
        top1=float(right.mean()),
        lost=lost - gained,
        difference=(gained - lost) / right.size,
        difference_interval=paired_difference_interval(both, gained, lost, right.size - both - gained - lost),
        agreement=float(same.mean()),
        n_relabelled=int((~same).sum()),
        max_delta=float(delta.max()),
        mean_delta=float(delta.mean()),
        flips=_flips(scored, scores, card),
    )


def _flips(scored: Scored, scores: Scores, card: ModelCard) -> tuple[Flip, ...]:
    """What is decided otherwise: first what moves the door, then what the SavedModel was surest of."""
    flips = []
    for name, true_label, before, after in zip(scored.names, scored.true_labels, scored.reference, scores, strict=True):
        first, now = int(before.argmax()), int(after.argmax())
        unlocks = (_unlocks(before, card), _unlocks(after, card)) if _decides(card) else None
        if first == now and (unlocks is None or unlocks[0] == unlocks[1]):
            continue
        margin = float(before[first] - np.partition(before, -2)[-2])
        flips.append(Flip(
            name, true_label, card.labels[first], card.labels[now], float(before[first]), float(after[now]), margin,
            unlocks,
        ))
    return tuple(sorted(flips, key=lambda flip: (not flip.moves_door, -flip.margin, flip.photo)))


def _decides(card: ModelCard) -> bool:
    return bool(card.unlock) and SAVED_MODEL in card.operating_points


def _unlocks(scores: Scores, card: ModelCard) -> bool:
    """Whether one photo's scores (labels,) speak for opening."""
    return sum(float(scores[card.labels.index(label)]) for label in card.unlock) >= card.threshold(SAVED_MODEL)


# ---------------------------------------------------------------------------------------------------- judging


def judge(recipe: Recipe, census: Census, scores: Scores, comparison: Comparison, *, n_heldout: int,
          gate: Gate) -> tuple[str, ...]:
    """Why a variant is red, as sentences; none if it is green. One photo alone condemns nobody."""
    return (*_integer_faults(recipe, census), *_score_faults(scores), *_decision_faults(comparison, n_heldout, gate))


def _integer_faults(recipe: Recipe, census: Census) -> Iterator[str]:
    if not recipe.is_integer:
        return
    if census.integer_share < 1:
        yield f"it is called int8, but {1 - census.integer_share:.1%} of its multiplications are of floats"
    if census.float_operators:
        yield f"it is called int8, but {', '.join(census.float_operators)} compute in float"
    if recipe.takes_bytes and (census.input_type, census.input_scale, census.input_zero_point) != ("uint8", 1.0, 0):
        yield (
            f"its input must be uint8 with scale 1 and zero point 0, but is {census.input_type} with scale "
            f"{census.input_scale} and zero point {census.input_zero_point}: calibration did not see both 0 and 255"
        )


def _score_faults(scores: Scores) -> Iterator[str]:
    if not np.isfinite(scores).all():
        yield "some of its scores are not finite numbers"
        return
    if len(scores) > 1 and float(np.ptp(scores, axis=0).max()) < 1e-6:
        yield "it gives every photo the same scores"
    off = float(np.abs(scores.sum(1, dtype=np.float64) - 1).max())
    if off > max(SUM_TOLERANCE, scores.shape[1] * _ROUNDING):  # of many labels, rounding alone may take more
        yield f"its scores must sum to 1, but are off by up to {off:.3f}"


def _decision_faults(comparison: Comparison, n_heldout: int, gate: Gate) -> Iterator[str]:
    drop = comparison.lost / n_heldout
    if comparison.lost > 1 and drop > gate.max_drop:
        yield (
            f"top-1 fell by {drop:.1%} ({comparison.lost} of {n_heldout} held-out photos); "
            f"{gate.max_drop:.1%} are allowed"
        )
    if comparison.n_relabelled > 1 and comparison.agreement < gate.min_agreement:
        yield (
            f"it agrees with the SavedModel on {comparison.agreement:.1%} of the photos ({comparison.n_relabelled} got "
            f"another label); {gate.min_agreement:.1%} are required"
        )
