"""Visits: frames with an animal, ended by three seconds without. What rates are counted by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pawlatch.decide import Observation, Verdict
from pawlatch.photos import EMPTY

VISIT_GAP_S = 3.0
MIN_FRAMES = 2  # fewer are a flicker of the model, not a visit
KEPT_OBSERVATIONS = 32  # the newest; a cat may sleep on the mat all night


@dataclass(frozen=True, eq=False)
class Visit:
    """An animal's stay: times in seconds, its newest observations, and what the door did."""

    start_s: float
    end_s: float
    frames: int
    score_sums: NDArray[np.float64]  # (n,), over all its frames, in label order
    observations: tuple[Observation, ...]
    reason: str  # of the unlock, else of the last refusal
    time_to_unlock_s: float | None = None  # from its first frame

    @property
    def unlocked(self) -> bool:
        """Whether the door opened, or was kept open, for it."""
        return self.time_to_unlock_s is not None

    @property
    def label(self) -> str:
        """The label with the best mean score over its frames; never the empty place's."""
        return self._best()[0]

    @property
    def score(self) -> float:
        """The mean score of `label` over its frames."""
        return self._best()[1]

    def _best(self) -> tuple[str, float]:
        labels = self.observations[-1].prediction.labels
        means = {label: float(total) / self.frames for label, total in zip(labels, self.score_sums, strict=True)}
        means.pop(EMPTY, None)
        return max(means.items(), key=lambda item: item[1])


class Visits:
    """Groups observations into visits. The gate saw motion in every frame it is told of."""

    def __init__(self) -> None:
        self.current: Visit | None = None

    def add(self, seen: Observation, verdict: Verdict, now_s: float) -> None:
        """Take in a frame and what was decided at `now_s`. A frame of the empty place belongs to no visit."""
        if seen.prediction.label == EMPTY:
            return
        visit = self.current or Visit(seen.time_s, seen.time_s, 0, np.zeros(len(seen.prediction.labels)), (), "")
        unlocks_now = verdict.unlock and not visit.unlocked
        self.current = replace(
            visit,
            end_s=seen.time_s,
            frames=visit.frames + 1,
            score_sums=visit.score_sums + seen.prediction.scores,
            observations=(*visit.observations, seen)[-KEPT_OBSERVATIONS:],
            reason=visit.reason if visit.unlocked else verdict.reason,
            time_to_unlock_s=now_s - visit.start_s if unlocks_now else visit.time_to_unlock_s,
        )

    def ended(self, now_s: float) -> Visit | None:
        """The visit that is over by `now_s`, once; None where none is, or where it was a flicker."""
        if self.current is None or now_s - self.current.end_s < VISIT_GAP_S:
            return None
        return self.finish()

    def finish(self) -> Visit | None:
        """End the current visit whatever the time, as when the clip is over."""
        visit, self.current = self.current, None
        return visit if visit is not None and visit.frames >= MIN_FRAMES else None
