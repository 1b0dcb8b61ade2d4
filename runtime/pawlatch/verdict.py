"""What every policy takes and gives: observations in, a verdict with its reasons out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pawlatch.classify import Prediction


@dataclass(frozen=True, eq=False)
class Observation:
    """What the model said of the frame of `time_s`; `infrared`: the camera saw by its own lamp, in grey."""

    time_s: float
    prediction: Prediction
    infrared: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether to unlock, for whom, with which score (0 to 1), and why: a sentence for a person.

    `evidence` is what the policy has gathered and `needed` from where on it opens, in the policy's own unit: the natural
    logarithm of a likelihood ratio (evidence), a share of frames (consensus), a score (single). `used` frames of the last
    seconds counted, `refused` ones did not: they show no animal, or came too long ago.
    """

    unlock: bool
    label: str
    score: float
    reason: str
    policy: str = ""
    evidence: float = 0.0
    needed: float = 0.0
    used: int = 0
    refused: int = 0


class Policy(Protocol):
    """Turns observations into a verdict, without a state of its own: the same ones give the same verdict, at any time."""

    @property
    def name(self) -> str:
        """`single`, `consensus` or `evidence`."""

    @property
    def unlock(self) -> tuple[str, ...]:
        """The labels that may pass."""

    @property
    def threshold(self) -> float:
        """From which score on a frame by daylight speaks for opening."""

    def decide(self, observations: Sequence[Observation], now_s: float) -> Verdict:
        """Judge the observations (oldest first) that are still of interest at `now_s`."""


@dataclass(frozen=True)
class Veto:
    """Labels that keep the door shut whatever else is seen, such as a cat with prey, from a summed score of `score` on and
    for `hold_s` after the last frame that shows one."""

    labels: tuple[str, ...] = ()
    score: float = 0.5
    hold_s: float = 10.0

    def refusal(self, observations: Sequence[Observation], now_s: float) -> str | None:
        """Why not to unlock; None where no frame shows one."""
        if not self.labels:
            return None
        for seen in reversed(observations):
            if 0 <= now_s - seen.time_s <= self.hold_s and not seen.prediction.score_of(self.labels) < self.score:
                return (f"{' or '.join(self.labels)} {seen.prediction.score_of(self.labels):.2f} was seen "
                        f"{now_s - seen.time_s:.1f} s ago: shut for {self.hold_s:.0f} s")
        return None


NO_VETO = Veto()


def stricter(threshold: float) -> float:
    """The threshold for infra-red frames where none was measured for them: half as far from certainty."""
    return (1 + threshold) / 2
