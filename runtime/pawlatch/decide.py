"""From what the model said of the last frames to a verdict with its reason. Pure, float64, replayable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from pawlatch.card import ModelCard
from pawlatch.classify import Prediction
from pawlatch.errors import ModelCardError
from pawlatch.photos import EMPTY


@dataclass(frozen=True, eq=False)
class Observation:
    """What the model said of the frame of `time_s`."""

    time_s: float
    prediction: Prediction


@dataclass(frozen=True)
class Verdict:
    """Whether to unlock, for whom, with which score (0 to 1), and why: a sentence for a person."""

    unlock: bool
    label: str
    score: float
    reason: str


class Policy(Protocol):
    """Turns observations into a verdict, without a state of its own."""

    def decide(self, observations: Sequence[Observation], now_s: float) -> Verdict:
        """Judge the observations (oldest first) that are still of interest at `now_s`."""


@dataclass(frozen=True)
class Consensus:
    """Unlock when enough of the last frames agree.

    A frame speaks for opening when the summed score of the `unlock` labels is `threshold` or more and its embedding does
    not say "none of these". Within the last `window_s`, at least `min_frames` frames and at least `share` of those that
    show an animal must speak for opening, and the newest frame must be one of them and no older than `fresh_s`.
    """

    unlock: tuple[str, ...]
    threshold: float
    min_frames: int = 3
    share: float = 0.6
    window_s: float = 2.0
    fresh_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:  # nor may it be NaN
            raise ModelCardError(f"a threshold must be above 0 and at most 1, got {self.threshold}; train again")
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
            return Verdict(False, EMPTY, 0.0, f"nothing was seen in the last {self.window_s:.1f} s")
        newest = max(window, key=lambda seen: seen.time_s)
        label, score = newest.prediction.label, newest.prediction.score
        refusal = self._refusal(window, newest, now_s)
        if refusal:
            return Verdict(False, label, score, refusal)
        return Verdict(True, self._best_label(newest), newest.prediction.score_of(self.unlock), self._tally(window))

    def _refusal(self, window: list[Observation], newest: Observation, now_s: float) -> str | None:
        """Why not to unlock; None where nothing speaks against it."""
        if not self.unlock:
            return "the card names no unlock label: the door cannot be armed"
        if not self._speaks(newest):
            return self._why_silent(newest.prediction)
        if now_s - newest.time_s > self.fresh_s:
            return f"the newest frame is {now_s - newest.time_s:.1f} s old: {self.fresh_s:.1f} s at most"
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
        return prediction.score_of(self.unlock) >= self.threshold

    def _why_silent(self, prediction: Prediction) -> str:
        if prediction.label == EMPTY:
            return "no animal in the newest frame"
        if prediction.is_stranger:
            return f"none of these: {prediction.label} {prediction.score:.2f}, but its features are a stranger's"
        if prediction.label in self.unlock:
            return f"{self._names()} {prediction.score_of(self.unlock):.2f}: below {self.threshold:.2f}"
        return f"{prediction.label} {prediction.score:.2f}: not a label that unlocks"

    def _count(self, window: list[Observation]) -> tuple[int, int]:
        """How many frames show an animal, and how many speak for opening."""
        return sum(seen.prediction.label != EMPTY for seen in window), sum(map(self._speaks, window))

    def _tally(self, window: list[Observation]) -> str:
        animals, speaking = self._count(window)
        return (f"{speaking} of {animals} frames of the last {self.window_s:.1f} s say {self._names()} "
                f"at {self.threshold:.2f} or more")

    def _best_label(self, seen: Observation) -> str:
        return next(label for label, _ in seen.prediction.ranked() if label in self.unlock)

    def _names(self) -> str:
        return " or ".join(self.unlock)
