"""What the door would have done: clips to visits. Every frame, clip time, no thread; the code is the live door's.

To compare policies, a clip is classified once (`classify_clip`) and each policy judges the same predictions (`unlocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pawlatch.camera import Frame, clip_frames
from pawlatch.classify import Classifier
from pawlatch.decide import Observation, Policy, policy_from_card
from pawlatch.door import Door
from pawlatch.gate import Gate, GateOptions
from pawlatch.latch import LatchState, RecordingLatch
from pawlatch.loop import RECENT_OBSERVATIONS, Step, Watch
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


@dataclass(frozen=True, eq=False)
class Take:
    """A clip as the model saw it: what it said of each frame that the gate let through, oldest first."""

    clip: str
    observations: tuple[Observation, ...]
    frames: int


def replay_clip(classifier: Classifier, clip: str | Path, *, policy: Policy | None = None,
                gate: GateOptions | None = None, on_step: Callable[[Step], object] | None = None) -> ClipReplay:
    """Run a clip (or `scene:…`) through a door of its own; `on_step` is called with each step.

    Raises:
        CameraError: the clip does not open.
        ModelCardError: no `policy` was given and the card holds no operating point.
    """
    visits: list[Visit] = []
    clock = ClipClock()
    latch = RecordingLatch(clock=clock)
    policy = policy or policy_from_card(classifier.card, classifier.variant)
    with Door(latch, clock=clock) as door:
        watch = Watch(classifier, policy, door, clock=clock, on_visit=visits.append, gate=Gate(gate))
        for step in watch.steps(clock.follow(clip_frames(clip))):
            if on_step is not None:
                on_step(step)
    return ClipReplay(str(clip), tuple(visits), tuple(latch.history))


def classify_clip(classifier: Classifier, clip: str | Path, *, gate: GateOptions | None = None) -> Take:
    """What the live door's gate and model make of each frame of a clip.

    Raises:
        CameraError, ModelCardError: as `replay_clip`.
    """
    seen: list[Observation] = []
    frames = 0

    def keep(step: Step) -> None:
        nonlocal frames
        frames += 1
        if step.prediction is not None:
            seen.append(Observation(step.frame.time_s, step.prediction, step.gate.infrared))

    replay_clip(classifier, clip, gate=gate, on_step=keep)
    return Take(str(clip), tuple(seen), frames)


def unlocks(policy: Policy, observations: Sequence[Observation]) -> list[float]:
    """When a policy says to open: times in seconds, each frame judged when it came. The door's own pauses are left out."""
    said = []
    for i, seen in enumerate(observations):
        if policy.decide(observations[max(0, i + 1 - RECENT_OBSERVATIONS) : i + 1], seen.time_s).unlock:
            said.append(seen.time_s)
    return said
