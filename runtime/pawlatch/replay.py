"""What the door would have done: clips to visits. Every frame, clip time, no thread; the code is the live door's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pawlatch.camera import Frame, clip_frames
from pawlatch.classify import Classifier
from pawlatch.decide import Consensus, Policy
from pawlatch.door import Door
from pawlatch.latch import LatchState, RecordingLatch
from pawlatch.loop import Step, Watch
from pawlatch.visit import Visit


class ClipClock:
    """A clock that shows the time of the newest frame."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        """The newest frame's time, in seconds."""
        return self._now_s

    def follow(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Pass frames on, and move to the time of each."""
        for frame in frames:
            self._now_s = frame.time_s
            yield frame


@dataclass(frozen=True, eq=False)
class ClipReplay:
    """What happened in a clip: its visits, and the latch's moves as (time_s, state)."""

    clip: str
    visits: tuple[Visit, ...]
    moves: tuple[tuple[float, LatchState], ...]


def replay_clip(classifier: Classifier, clip: str | Path, *, policy: Policy | None = None,
                on_step: Callable[[Step], object] | None = None) -> ClipReplay:
    """Run a clip (or `scene:…`) through a door of its own; `on_step` is called with each step.

    Raises:
        CameraError: the clip does not open.
        EngineError: inference failed.
        ModelCardError: no `policy` was given and the card holds no operating point.
    """
    visits: list[Visit] = []
    clock = ClipClock()
    latch = RecordingLatch(clock=clock)
    policy = policy or Consensus.from_card(classifier.card, classifier.variant)
    with Door(latch, clock=clock) as door:
        watch = Watch(classifier, policy, door, clock=clock, on_visit=visits.append)
        for step in watch.steps(clock.follow(clip_frames(clip))):
            if on_step is not None:
                on_step(step)
    return ClipReplay(str(clip), tuple(visits), tuple(latch.history))
