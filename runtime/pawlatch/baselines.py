"""The policies that others have, as they are: what `pawlatch.evidence` is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from pawlatch.card import ModelCard
from pawlatch.classify import Prediction
from pawlatch.errors import ModelCardError
from pawlatch.photos import EMPTY
from pawlatch.verdict import NO_VETO, Observation, Verdict, Veto, stricter

UNARMED = "the card names no unlock label: the door cannot be armed"


@dataclass(frozen=True)
class Single:
    """Unlock for the best single frame, as Kittyhack does (there with a threshold of 0.70).

    The best frame of the last `window_s` must give the `unlock` labels a summed score of `threshold` or more; in infra-red
    `infrared`, which is `stricter(threshold)` where it is None.
    """

    name: ClassVar[str] = "single"
    unlock: tuple[str, ...]
    threshold: float
    infrared: float | None = None
    window_s: float = 2.0
    veto: Veto = NO_VETO

    def __post_init__(self) -> None:
        require_threshold(self.threshold, self.infrared)
        if not self.window_s > 0:
            raise ValueError(f"window_s must be above 0, got {self.window_s}")

    def decide(self, observations: Sequence[Observation], now_s: float) -> Verdict:
        """Judge the observations of the window before `now_s`."""
        window = [seen for seen in observations if 0 <= now_s - seen.time_s <= self.window_s]
        if not window:
            return nobody(self.name, self.window_s, self.threshold)
        animals = [seen for seen in window if seen.prediction.label != EMPTY]
        best = max(animals or window, key=self._lead)
        score = best.prediction.score_of(self.unlock)
        needed = self.threshold_of(best)
        refusal = self._refusal(animals, best, now_s) or self.veto.refusal(observations, now_s)
        label = best.prediction.label if refusal else best_label(best, self.unlock)
        reason = refusal or f"{best_label(best, self.unlock)} {score:.2f} in one frame: {needed:.2f} or more"
        return Verdict(not refusal, label, best.prediction.score if refusal else score, reason, self.name, score, needed,
                       len(animals), len(window) - len(animals))

    def threshold_of(self, seen: Observation) -> float:
        """The score from which a frame speaks for opening: by daylight or in infra-red."""
        return by_light(seen, self.threshold, self.infrared)

    def _lead(self, seen: Observation) -> float:
        return seen.prediction.score_of(self.unlock) - self.threshold_of(seen)

    def _refusal(self, animals: list[Observation], best: Observation, now_s: float) -> str | None:
        if not self.unlock:
            return UNARMED
        if not animals:
            return "no animal in the last frames"
        if not self._lead(best) >= 0:
            return (f"{' or '.join(self.unlock)} {best.prediction.score_of(self.unlock):.2f} in the best frame: below "
                    f"{self.threshold_of(best):.2f}")
        return None


@dataclass(frozen=True)
class Consensus:
    """Unlock when enough of the last frames agree, as Frigate does (there with a threshold of 0.80).

    A frame speaks for opening when the summed score of the `unlock` labels is `threshold` or more (in infra-red `infrared`,
    which is `stricter(threshold)` where it is None) and its embedding does not say "none of these". Within the last
    `window_s`, at least `min_frames` frames and at least `share` of those that show an animal must speak for opening, and
    the newest frame must be one of them and no older than `fresh_s`.
    """

    name: ClassVar[str] = "consensus"
    unlock: tuple[str, ...]
    threshold: float
    min_frames: int = 3
    share: float = 0.6
    window_s: float = 2.0
    fresh_s: float = 1.0
    infrared: float | None = None
    veto: Veto = NO_VETO

    def __post_init__(self) -> None:
        require_threshold(self.threshold, self.infrared)
        if self.min_frames < 1 or not 0 < self.share <= 1 or not 0 < self.fresh_s <= self.window_s:
            raise ValueError(f"min_frames must be 1 or more, share in (0, 1] and fresh_s in (0, window_s], got {self}")

    @classmethod
    def from_card(cls, card: ModelCard, variant: str) -> Self:
        """The policy of a model: its unlock labels, and the threshold measured for the variant.

        Raises:
            ModelCardError: the card names unlock labels, but holds no usable operating point.
        """
        return cls(card.unlock, card.threshold(variant) if card.unlock else 1.0)

    def decide(self, observations: Sequence[Observation], now_s: float) -> Verdict:
        """Judge the observations of the window before `now_s`."""
        window = [seen for seen in observations if 0 <= now_s - seen.time_s <= self.window_s]
        if not window:
            return nobody(self.name, self.window_s, self.share)
        newest = max(window, key=lambda seen: seen.time_s)
        label, score = newest.prediction.label, newest.prediction.score
        animals, speaking = self._count(window)
        counted = (self.name, speaking / max(1, animals), self.share, animals, len(window) - animals)
        refusal = self._refusal(window, newest, now_s) or self.veto.refusal(observations, now_s)
        if refusal:
            return Verdict(False, label, score, refusal, *counted)
        return Verdict(True, best_label(newest, self.unlock), newest.prediction.score_of(self.unlock), self._tally(window),
                       *counted)

    def threshold_of(self, seen: Observation) -> float:
        """The score from which a frame speaks for opening: by daylight or in infra-red."""
        return by_light(seen, self.threshold, self.infrared)

    def _refusal(self, window: list[Observation], newest: Observation, now_s: float) -> str | None:
        """Why not to unlock; None where nothing speaks against it."""
        if not self.unlock:
            return UNARMED
        if not self._speaks(newest):
            return self._why_silent(newest)
        if now_s - newest.time_s > self.fresh_s:
            return stale(newest, now_s, self.fresh_s)
        animals, speaking = self._count(window)
        if speaking < self.min_frames:
            return f"{self._tally(window)}: {self.min_frames} frames are needed"
        if speaking < self.share * animals:
            return f"{self._tally(window)}: {self.share:.0%} must"
        return None

    def _speaks(self, seen: Observation) -> bool:
        prediction = seen.prediction
        if prediction.label == EMPTY or prediction.is_stranger:
            return False
        return prediction.score_of(self.unlock) >= self.threshold_of(seen)

    def _why_silent(self, seen: Observation) -> str:
        if seen.prediction.label != EMPTY and seen.prediction.is_stranger:
            return said_stranger(seen.prediction)
        return why_silent(seen, self.unlock, self.threshold_of(seen))

    def _count(self, window: list[Observation]) -> tuple[int, int]:
        """How many frames show an animal, and how many speak for opening."""
        return sum(seen.prediction.label != EMPTY for seen in window), sum(map(self._speaks, window))

    def _tally(self, window: list[Observation]) -> str:
        animals, speaking = self._count(window)
        return (f"{speaking} of {animals} frames of the last {self.window_s:.1f} s say {' or '.join(self.unlock)} "
                f"at {self.threshold_of(window[-1]):.2f} or more")


def require_threshold(threshold: float, infrared: float | None) -> None:
    """Refuse what decides nothing; NaN does not.

    Raises:
        ModelCardError: a threshold is not above 0 and at most 1.
    """
    for value in (threshold, *([] if infrared is None else [infrared])):
        if not 0 < value <= 1:
            raise ModelCardError(f"a threshold must be above 0 and at most 1, got {value}; train again")


def by_light(seen: Observation, threshold: float, infrared: float | None) -> float:
    """The threshold for a frame: `threshold` by daylight; in infra-red `infrared`, else a stricter one."""
    if not seen.infrared:
        return threshold
    return stricter(threshold) if infrared is None else infrared


def best_label(seen: Observation, unlock: tuple[str, ...]) -> str:
    """The unlock label with the highest score."""
    return next(label for label, _ in seen.prediction.ranked() if label in unlock)


def nobody(policy: str, window_s: float, needed: float) -> Verdict:
    """The verdict where nothing was seen."""
    return Verdict(False, EMPTY, 0.0, f"nothing was seen in the last {window_s:.1f} s", policy, 0.0, needed)


def stale(newest: Observation, now_s: float, fresh_s: float) -> str:
    """Why a newest frame that is too old does not open."""
    return f"the newest frame is {now_s - newest.time_s:.1f} s old: {fresh_s:.1f} s at most"


def said_stranger(prediction: Prediction) -> str:
    """Why a frame with a stranger's embedding does not open."""
    return f"none of these: {prediction.label} {prediction.score:.2f}, but its features are a stranger's"


def why_silent(newest: Observation, unlock: tuple[str, ...], threshold: float) -> str:
    """Why a newest frame whose scores are too low does not open."""
    prediction = newest.prediction
    if prediction.label == EMPTY:
        return "no animal in the newest frame"
    if prediction.label in unlock:
        by = " by infra-red light" if newest.infrared else ""
        return f"{' or '.join(unlock)} {prediction.score_of(unlock):.2f}: below {threshold:.2f}{by}"
    return f"{prediction.label} {prediction.score:.2f}: not a label that unlocks"
