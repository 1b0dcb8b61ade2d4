"""Visits: frames with an animal, ended by three seconds without. What rates are counted by, and what the journal keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pawlatch.album import Album, Box, Shot
from pawlatch.camera import Frame
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Verdict
from pawlatch.gate import GateResult
from pawlatch.image import Image
from pawlatch.photos import EMPTY

VISIT_GAP_S = 3.0
MIN_FRAMES = 2  # fewer are a flicker of the model, not a visit
KEPT_FRAMES = 512  # a cat may sleep on the mat all night: beyond them, older frames are thinned out
PINNED_FRAMES = 60  # never thinned out: the first ones, and those that led to the unlock


@dataclass(frozen=True, eq=False)
class VisitFrame:
    """A frame of a visit, the `number`-th: what the model said of it, or why the gate kept it from the model.

    `refusal` is the name of the gate's refusal, "" for a frame that was classified; then `seen` is None. `reason` is the
    verdict's sentence, or the gate's; `unlock` whether the verdict was to open.
    """

    number: int
    time_s: float
    seen: Observation | None
    box_yxyx: Box | None
    refusal: str
    reason: str
    unlock: bool


@dataclass(frozen=True, eq=False)
class Visit:
    """An animal's stay: times in seconds, its frames as far as they were kept, and what the door did.

    `frames` counts those that show an animal; `kept` also holds those between them that show none or were refused, in
    order of time, and says by their numbers which were thinned out. `verdict` is the one that unlocked, else the last.
    """

    start_s: float
    end_s: float
    frames: int
    labels: tuple[str, ...]
    score_sums: NDArray[np.float64]  # (n,), over all its frames with an animal, in label order
    kept: tuple[VisitFrame, ...]
    verdict: Verdict
    time_to_unlock_s: float | None = None  # from its first frame
    shots: tuple[Shot, ...] = ()
    best_bgr: Image | None = None  # the whole picture of its best moment, uint8 (H, W, 3)
    best_s: float = 0.0

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What the model said of the frames that were kept, oldest first."""
        return tuple(frame.seen for frame in self.kept if frame.seen is not None)

    @property
    def reason(self) -> str:
        """Of the unlock, else of the last refusal."""
        return self.verdict.reason

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
        means = {label: float(total) / self.frames for label, total in zip(self.labels, self.score_sums, strict=True)}
        means.pop(EMPTY, None)
        return max(means.items(), key=lambda item: item[1])


class Visits:
    """Groups observations into visits. The gate saw motion in every frame it is told of."""

    def __init__(self) -> None:
        self._open: _Open | None = None
        self._cut: Visit | None = None

    @property
    def current(self) -> Visit | None:
        """The visit that goes on, as far as it has come, without its pictures."""
        return None if self._open is None or not self._open.frames else self._open.so_far()

    def add(self, seen: Observation, verdict: Verdict, now_s: float, *, frame: Frame | None = None,
            fitted: Image | None = None, gate: GateResult | None = None) -> None:
        """Take in a frame and what was decided at `now_s`. A frame of the empty place begins no visit and prolongs none.

        With `frame`, the pixels `fitted` that the model saw of it, uint8 (h, w, 3) RGB, and the gate's result, the visit
        keeps pictures; `fitted` must not be written to afterwards. Another model's predictions begin another visit.
        """
        prediction = seen.prediction
        shows_animal = prediction.label != EMPTY
        if self._open is not None and self._open.is_of_another_model(prediction):
            self._cut = self.finish()
        if self._open is None:
            if not shows_animal:
                return
            self._open = _Open(seen.time_s, prediction, verdict)
        box_yxyx = None if gate is None else gate.box_yxyx
        self._open.keep(seen.time_s, seen, box_yxyx, "", verdict.reason, verdict.unlock)
        if not shows_animal:
            return
        unlocks_now = self._open.count(seen, verdict, now_s)
        if frame is not None and fitted is not None:
            self._open.album.add(frame, fitted, time_s=seen.time_s, score=prediction.score, box_yxyx=box_yxyx,
                                 unlocks=unlocks_now)

    def refused(self, frame_time_s: float, gate: GateResult) -> None:
        """Take in a frame that the gate kept from the model; between visits it is nobody's."""
        if self._open is not None:
            name = gate.reason if gate.refusal is None else gate.refusal.value
            self._open.keep(frame_time_s, None, gate.box_yxyx, name, gate.reason, False)

    def ended(self, now_s: float) -> Visit | None:
        """The visit that is over by `now_s`, once; None where none is, or where it was a flicker."""
        if self._cut is not None:
            visit, self._cut = self._cut, None
            return visit
        if self._open is None or now_s - self._open.end_s < VISIT_GAP_S:
            return None
        return self.finish()

    def finish(self) -> Visit | None:
        """End the current visit whatever the time, as when the clip is over."""
        visit, self._open = self._open, None
        return None if visit is None or visit.frames < MIN_FRAMES else visit.whole()


class _Open:
    """A visit that goes on."""

    def __init__(self, start_s: float, first: Prediction, verdict: Verdict) -> None:
        self.start_s = self.end_s = start_s
        self.labels, self.verdict = first.labels, verdict
        self.frames = self.numbers = 0
        self.sums = np.zeros(len(first.labels))
        self._features = first.embedding.size
        self.kept: list[VisitFrame] = []
        self.time_to_unlock_s: float | None = None
        self.album = Album()

    def is_of_another_model(self, said: Prediction) -> bool:
        return said.labels != self.labels or said.embedding.size != self._features

    def keep(self, time_s: float, seen: Observation | None, box_yxyx: Box | None, refusal: str, reason: str,
             unlock: bool) -> None:
        self.kept.append(VisitFrame(self.numbers, time_s, seen, box_yxyx, refusal, reason, unlock))
        self.numbers += 1
        if len(self.kept) > KEPT_FRAMES:
            self.kept = _thinned(self.kept)

    def count(self, seen: Observation, verdict: Verdict, now_s: float) -> bool:
        """Count a frame with an animal; whether it is the one that unlocks."""
        self.end_s = seen.time_s
        self.frames += 1
        self.sums += seen.prediction.scores
        if self.time_to_unlock_s is not None:
            return False
        self.verdict = verdict
        if verdict.unlock:
            self.time_to_unlock_s = now_s - self.start_s
        return verdict.unlock

    def so_far(self) -> Visit:
        return Visit(self.start_s, self.end_s, self.frames, self.labels, self.sums.copy(), tuple(self.kept), self.verdict,
                     self.time_to_unlock_s)

    def whole(self) -> Visit:
        kept = tuple(frame for frame in self.kept if frame.time_s <= self.end_s)  # what follows shows that it has gone
        return replace(self.so_far(), kept=kept, shots=self.album.shots, best_bgr=self.album.best_bgr, best_s=self.album.best_s)


def _thinned(frames: list[VisitFrame]) -> list[VisitFrame]:
    """Without every second frame of the older half, but with those that decided."""
    unlock = next((frame.number for frame in frames if frame.unlock), -1)
    older, newer = frames[: len(frames) // 2], frames[len(frames) // 2 :]
    pinned = (range(PINNED_FRAMES), range(unlock - PINNED_FRAMES, unlock + 1))
    return [*(frame for at, frame in enumerate(older) if at % 2 == 0 or any(frame.number in span for span in pinned)), *newer]
