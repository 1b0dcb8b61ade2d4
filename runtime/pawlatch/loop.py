"""Frame by frame: gate, classifier, decision, door, visits. It wires them and has no policy of its own.

A live camera and a replayed clip run through the same code; only the clock differs.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np

from pawlatch.camera import Frame
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Policy, Verdict
from pawlatch.door import Door, DoorState
from pawlatch.gate import Gate, GateResult
from pawlatch.image import Image
from pawlatch.visit import Visit, Visits

RECENT_OBSERVATIONS = 256  # two seconds at 120 frames a second


@dataclass(frozen=True, eq=False)
class Step:
    """A frame's way. `prediction` and `verdict` are None where the gate kept it; `opened`: the door just opened."""

    frame: Frame
    gate: GateResult
    prediction: Prediction | None
    verdict: Verdict | None
    door: DoorState
    opened: bool
    visit: Visit | None


class Watch:
    """Watches frames and works a door. `on_visit` is called with each visit once it is over."""

    def __init__(self, classify: Callable[[Image], Prediction], policy: Policy, door: Door, *,
                 clock: Callable[[], float], on_visit: Callable[[Visit], object]) -> None:
        self._classify, self._policy, self._door = classify, policy, door
        self._clock, self._on_visit = clock, on_visit
        self._gate, self._visits = Gate(), Visits()
        self._recent: deque[Observation] = deque(maxlen=RECENT_OBSERVATIONS)
        self._lock_asked = self._stop_asked = False

    def steps(self, frames: Iterable[Frame]) -> Iterator[Step]:
        """Yield a step for each frame. However it ends, and whatever is raised on the way, the door is locked first."""
        try:
            for frame in frames:
                self.tick()
                if self._stop_asked:
                    break
                yield self._step(frame)
        finally:
            self._door.lock()
        self._report(self._visits.finish())

    def tick(self) -> None:
        """Let time pass without a frame: the door locks when its time is over, and visits end."""
        if self._stop_asked:
            self._door.close()
        if self._lock_asked:
            self._lock_asked = False
            self._recent.clear()  # only what is seen from now on may open it again
            self._door.lock()
        now_s = self._clock()
        self._door.tick(now_s)
        self._report(self._visits.ended(now_s))

    def lock(self) -> None:
        """Ask for the door to be locked within a tenth of a second; safe to call from a signal handler."""
        self._lock_asked = True

    def stop(self) -> None:
        """Ask for the door to be locked for good, and for `steps` to end; safe to call from a signal handler."""
        self._stop_asked = True

    def _step(self, frame: Frame) -> Step:
        was_open = self._door.is_unlocked
        gate = self._gate(frame)
        prediction = verdict = None
        if gate.moved:
            prediction = self._classify(np.asarray(cv2.cvtColor(frame.image_bgr, cv2.COLOR_BGR2RGB), np.uint8))
            verdict = self._decide(Observation(frame.time_s, prediction))
        opened = self._door.is_unlocked and not was_open
        return Step(frame, gate, prediction, verdict, self._door.state, opened, self._visits.current)

    def _decide(self, seen: Observation) -> Verdict:
        self.tick()  # inference takes time, and a signal may have come meanwhile
        self._recent.append(seen)
        now_s = self._clock()
        verdict = self._door.consider(self._policy.decide(tuple(self._recent), now_s), now_s)
        self._visits.add(seen, verdict, now_s)
        return verdict

    def _report(self, visit: Visit | None) -> None:
        if visit is not None:
            self._on_visit(visit)


@contextmanager
def signals(*, stop: Iterable[Callable[[], None]], lock: Iterable[Callable[[], None]]) -> Iterator[None]:
    """SIGTERM and SIGINT call each of `stop`, SIGHUP each of `lock`; afterwards the old handlers are back."""
    calls = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: lock}

    def handle(number: int, _: object) -> None:
        for call in calls[signal.Signals(number)]:
            call()

    before = {number: signal.signal(number, handle) for number in calls}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
