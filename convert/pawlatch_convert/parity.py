"""Does the small file decide as the SavedModel does? Numbers in, verdict out; a file that does not is red."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from pawlatch.card import VariantFile
from pawlatch_convert.census import Census
from pawlatch_convert.compare import DOOR_MARGIN, SURE_MARGIN, Comparison, Outputs, Scored, Scores
from pawlatch_convert.recipes import Recipe
from pawlatch_convert.speed import Speed

MAX_UNSTEADY = 1e-5  # of float files, whose sums may be taken in another order; integers have no such excuse
SUM_TOLERANCE = 1e-3  # of float scores
MAX_PIXEL_DELTA = 0.01  # of a score: other builds of OpenCV and TensorFlow round otherwise, in the third digit at most
MIXED_SHARE = 0.5  # of a file of integers in which some layers were left in float on purpose
AIM_DROP = 0.005
AIM_SURE_AGREEMENT = 0.99


@dataclass(frozen=True)
class Gate:
    """What a variant may lose; shares 0..1, `max_door_flips` in photos. One photo's label alone condemns nobody."""

    max_drop: float = 0.02  # of top-1 accuracy
    min_agreement: float = 0.95  # with the SavedModel, on all photos
    min_sure_agreement: float = 0.99  # on those whose float margin is over 0.2
    max_door_flips: int = 0  # whose float score lies more than 0.1 from the threshold
    min_cosine: float = 0.9  # of the embeddings, on average


@dataclass(frozen=True)
class Reason:
    """Why a variant is red: a word for programs and a sentence for people."""

    code: str
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass(frozen=True)
class Step:
    """What a rung of the ladder gave. What could not be measured is None."""

    rung: str
    what: str
    seconds: float
    verdict: str  # "green" or "red"
    within_aim: bool
    difference: float | None  # of top-1
    agreement: float | None
    sure_agreement: float | None
    mean_kl: float | None
    integer_share: float | None
    bytes: int


@dataclass(frozen=True)
class VariantResult:
    """One variant with its verdict. What could not be measured is None, and then `reasons` says why."""

    variant: str
    reasons: tuple[Reason, ...]  # why it is red
    file: VariantFile | None = None
    rung: str = "bare"  # of the ladder: what was done beyond the bare recipe
    census: Census | None = None
    speed: Speed | None = None
    comparison: Comparison | None = None
    operating_point: Mapping[str, Any] | None = None
    steps: tuple[Step, ...] = ()  # of the ladder, where it was climbed: every rung that was tried, the bare recipe first

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
    deploy_reason: str = ""
    matrix: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # agreement of any two

    @property
    def is_green(self) -> bool:
        """Whether every variant may be deployed."""
        return all(result.is_green for result in self.variants)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, each variant with its verdict; a number that is none is null."""
        raw = asdict(self)
        for entry, result in zip(raw["variants"], self.variants, strict=True):
            entry["verdict"] = "green" if result.is_green else "red"
            entry["census"] = result.census.to_dict() if result.census else None
            entry["speed"] = result.speed.to_dict() if result.speed else None
        plain: dict[str, Any] = _finite(raw)
        return plain


def within_aim(comparison: Comparison) -> bool:
    """Whether a variant is as good as was aimed for: no further work on it is worth its time.

    Top-1 within 0.5 points of the SavedModel's (a gain is another decision too), at least 99 % agreement where the float
    margin is over 0.2, and no other decision at the door where the SavedModel's score lies more than 0.1 from the threshold.
    """
    return (
        abs(comparison.difference) <= AIM_DROP
        and (comparison.sure_agreement is None or comparison.sure_agreement >= AIM_SURE_AGREEMENT)
        and (comparison.door is None or comparison.door.far == 0)
    )


# ---------------------------------------------------------------------------------------------------- judging


def pixel_faults(scored: Scored, expected: Mapping[str, Mapping[str, float]], labels: Sequence[str]) -> tuple[Reason, ...]:
    """Whether photos still reach the SavedModel as they did in training, `expected` being each label's score then.

    The variants cannot tell: what they are given is wrong in the same way, or their scores get the same wrong names.
    """
    said = zip(scored.names, scored.reference.scores.tolist(), scored.judged, strict=True)
    off = [
        max(abs(score - expected[name].get(label, 0.0)) for label, score in zip(labels, scores, strict=True))
        for name, scores, is_heldout in said  # one that calibrates may have the name of one held out
        if is_heldout and name in expected
    ]
    far = sum(value > MAX_PIXEL_DELTA for value in off)
    if not far:
        return ()
    return (Reason("pixels", (
        f"of {far} of {len(off)} held-out photos the SavedModel says something else than when it was trained (by up to "
        f"{max(off):.3f}): they no longer reach it as they did (colour order, scaling, resizing, EXIF), or the card's labels "
        "are in another order"
    )),)


def judge(recipe: Recipe, census: Census, outputs: Outputs, comparison: Comparison, *, gate: Gate) -> tuple[Reason, ...]:
    """Why a variant is red; nothing if it is green."""
    return (
        *_integer_faults(recipe, census),
        *_score_faults(outputs.scores, census.scores_step),
        *_repeat_faults(recipe, outputs),
        *_decision_faults(comparison, gate),
        *_door_faults(comparison, gate),
        *_embedding_faults(outputs, comparison, gate),
    )


def _integer_faults(recipe: Recipe, census: Census) -> Iterator[Reason]:
    if recipe.is_integer and census.integer_share < 1:
        yield Reason("integer", f"it is called int8, but {1 - census.integer_share:.1%} of its multiplications are of floats")
    if recipe.is_integer and census.float_operators:
        yield Reason("integer", f"it is called int8, but {', '.join(census.float_operators)} compute in float")
    if recipe.takes_bytes and not recipe.is_integer and census.integer_share < MIXED_SHARE:
        yield Reason("integer", (
            f"some of its layers may stay float, but only {census.integer_share:.1%} of its multiplications are of integers; "
            f"{MIXED_SHARE:.0%} must be"
        ))
    if recipe.takes_bytes and (census.input_type, census.input_scale, census.input_zero_point) != ("uint8", 1.0, 0):
        yield Reason("input", (
            f"its input must be uint8 with scale 1 and zero point 0, but is {census.input_type} with scale "
            f"{census.input_scale} and zero point {census.input_zero_point}: calibration did not see both 0 and 255"
        ))


def _score_faults(scores: Scores, step: float | None) -> Iterator[Reason]:
    if not np.isfinite(scores).all():
        yield Reason("scores", "some of its scores are not finite numbers")
        return
    if len(scores) > 1 and float(np.ptp(scores, axis=0).max()) < 1e-6:
        yield Reason("scores", "it gives every photo the same scores")
    off = float(np.abs(scores.sum(1, dtype=np.float64) - 1).max())
    rounding = 0.0 if step is None else (scores.shape[1] / 2 + 1) * step  # half a step each, and 1 itself is one step too high
    if off > max(SUM_TOLERANCE, rounding):
        yield Reason("scores", f"its scores must sum to 1, but are off by up to {off:.3f}")


def _repeat_faults(recipe: Recipe, outputs: Outputs) -> Iterator[Reason]:
    if not outputs.unsteady <= (0 if recipe.is_integer else MAX_UNSTEADY):
        yield Reason("repeat", (
            f"the same photo gives other scores when it is run again or with other threads, by up to {outputs.unsteady:.2g}"
        ))


def _decision_faults(comparison: Comparison, gate: Gate) -> Iterator[Reason]:
    drop = comparison.lost / comparison.n_heldout
    if comparison.lost > 1 and drop > gate.max_drop:
        yield Reason("top1", (
            f"top-1 fell by {drop:.1%} ({comparison.lost} of {comparison.n_heldout} held-out photos); "
            f"{gate.max_drop:.1%} are allowed"
        ))
    if comparison.n_relabelled > 1 and comparison.agreement < gate.min_agreement:
        yield Reason("agreement", (
            f"it agrees with the SavedModel on {comparison.agreement:.1%} of the photos ({comparison.n_relabelled} got "
            f"another label); {gate.min_agreement:.1%} are required"
        ))
    sure = comparison.sure_agreement
    if sure is not None and comparison.n_sure_relabelled > 1 and sure < gate.min_sure_agreement:
        yield Reason("sure", (
            f"{comparison.n_sure_relabelled} of {comparison.n_sure} photos of which the SavedModel is sure (a margin over "
            f"{SURE_MARGIN}) got another label; {gate.min_sure_agreement:.1%} must keep theirs"
        ))


def _door_faults(comparison: Comparison, gate: Gate) -> Iterator[Reason]:
    door = comparison.door
    if door is None:
        return
    if door.far > gate.max_door_flips:
        yield Reason("door", (
            f"the door decides otherwise on {_photos(door.far)} whose SavedModel's score lies more than {DOOR_MARGIN} from the "
            f"threshold of {door.threshold:.3f}; {gate.max_door_flips or 'none'} may (in all, {door.opens_here} open it that "
            f"did not, {door.shut_here} no longer do)"
        ))
    elif door.reference_opens > 1 and door.variant_opens == 0:
        yield Reason("door", f"the SavedModel opens the door on {door.reference_opens} photos, and it never does")


def _embedding_faults(outputs: Outputs, comparison: Comparison, gate: Gate) -> Iterator[Reason]:
    if not np.isfinite(outputs.embeddings).all():
        yield Reason("embedding", "some numbers of its embeddings are not finite, so that strangers cannot be told")
    elif not comparison.mean_cosine >= gate.min_cosine:
        yield Reason("embedding", (
            f"its embeddings point elsewhere than the SavedModel's (a cosine of {comparison.mean_cosine:.3f} on average; "
            f"{gate.min_cosine} is required), so that the statistics that tell strangers do not fit it"
        ))


def _photos(n: int) -> str:
    return "1 photo" if n == 1 else f"{n} photos"


def _finite(value: Any) -> Any:
    """The same, with None for NaN and infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value
