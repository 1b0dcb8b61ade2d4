"""Frame by frame: gate, model, decision, door, visits. It wires them and has no policy of its own.

A live camera and a replayed clip run through the same code; only the clock differs. What goes wrong on the way (a camera
that cannot be believed, a model that fails, a journal that cannot be written) is a fault of the door, which is locked until it
is over; the loop goes on.
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

from pawlatch.camera import Camera, CameraState, Frame
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Policy, Verdict
from pawlatch.door import Cause, Door, DoorState
from pawlatch.errors import EngineError, ImageError, JournalError, LatchError
from pawlatch.gate import Gate, GateResult
from pawlatch.image import Image
from pawlatch.ledger import Ledger
from pawlatch.visit import Visit, Visits

logger = logging.getLogger(__name__)

RECENT_OBSERVATIONS = 256  # two seconds at 120 frames a second
STALE_S = 1.0  # a frame that is older when its turn comes shows what was
OVERRUN_S = 2.0  # a model that takes longer says nothing of now


class Model(Protocol):
    """What the loop needs of a `Classifier`."""

    def see(self, frame_bgr: Image, *, box_yxyx: tuple[int, int, int, int] | None = None) -> tuple[Image, Prediction]:
        """The fitted pixels, uint8 (h, w, 3) RGB, and what the model says of them."""


@dataclass(frozen=True, eq=False)
class Step:
    """A frame's way. `prediction` and `verdict` are None where the gate kept it; `opened`: the door just opened.

    `observes`: a real latch stays locked whatever the door does. `took_s`: what the model took, None where it had no say.
    """

    frame: Frame
    gate: GateResult
    prediction: Prediction | None
    verdict: Verdict | None
    door: DoorState
    opened: bool
    visit: Visit | None
    observes: bool = False
    took_s: float | None = None


class Watch:
    """Watches frames and works a door. `on_visit` is called with each visit once it is over; `clock` is the door's."""

    def __init__(self, model: Model, policy: Policy, door: Door, *, clock: Callable[[], float] = time.monotonic,
                 on_visit: Callable[[Visit], object] | None = None, gate: Gate | None = None, camera: Camera | None = None,
                 ledger: Ledger | None = None) -> None:
        self._model, self._policy, self._door = model, policy, door
        self._clock, self._on_visit, self._gate = clock, on_visit, gate or Gate()
        self._camera, self._ledger = camera, ledger
        self._visits = Visits()
        self._seen_by_gate = CameraState.OK
        self._recent: deque[Observation] = deque(maxlen=RECENT_OBSERVATIONS)
        self._lock_asked = False
        self._stop_asked: Cause | None = None
        self._took_s: float | None = None
        if ledger is not None:
            ledger.current = lambda: self._visits.current

    def steps(self, frames: Iterable[Frame]) -> Iterator[Step]:
        """Yield a step for each frame. However it ends, and whatever is raised on the way, the door is locked first."""
        try:
            for frame in frames:
                self.tick()
                if self._stop_asked:
                    break
                yield self._step(frame)
        finally:
            self._door.lock(self._stop_asked or Cause.END)
        self._report(self._visits.finish())

    def tick(self) -> None:
        """Let time pass without a frame: the door locks when its time is over, visits end, faults come and go."""
        if self._stop_asked:
            self._door.close(self._stop_asked)
        if self._lock_asked:
            self._lock_asked = False
            self._recent.clear()  # only what is seen from now on may open it again
            self._door.lock()
        now_s = self._clock()
        self._mind(Cause.CAMERA, self._camera_trouble())
        if self._ledger is not None:
            self._mind(Cause.JOURNAL, self._ledger.trouble(now_s))
        with _door_tells():
            self._door.tick(now_s)
        self._report(self._visits.ended(now_s))

    @property
    def visit(self) -> Visit | None:
        """The visit that goes on, without its pictures; None between visits."""
        return self._visits.current

    @property
    def camera_state(self) -> CameraState:
        """Whether the camera can be believed, by what it gives and by what the pictures show."""
        return self._seen_by_gate if self._camera is None or self._camera.state is CameraState.OK else self._camera.state

    def use(self, model: Model, policy: Policy) -> None:
        """Go on with another model, between two frames; what the old one said counts no more."""
        self._model, self._policy = model, policy
        self._recent.clear()

    def lock(self) -> None:
        """Ask for the door to be locked within a tenth of a second; safe to call from a signal handler."""
        self._lock_asked = True

    def stop(self, cause: Cause = Cause.STOP) -> None:
        """Ask for the door to be locked for good, and for `steps` to end; safe to call from a signal handler."""
        self._stop_asked = cause

    def _step(self, frame: Frame) -> Step:
        was_open = self._door.is_unlocked
        gate = self._gate(frame)
        self._seen_by_gate = gate.camera
        self._mind(Cause.CAMERA, self._camera_trouble())
        prediction = verdict = None
        self._took_s = None
        if gate.worth:
            prediction, verdict = self._classify(frame, gate)
        else:
            self._visits.refused(frame.time_s, gate)
            if self._clock() - frame.time_s <= STALE_S:  # an empty porch in time is in time, too
                self._mind(Cause.STALE, None)
        if not self._door.faults:
            self._door.started()
        opened = self._door.is_unlocked and not was_open
        return Step(frame, gate, prediction, verdict, self._door.state, opened, self._visits.current, self._door.observes,
                    self._took_s)

    def _classify(self, frame: Frame, gate: GateResult) -> tuple[Prediction | None, Verdict | None]:
        began_s = self._clock()
        try:
            fitted, prediction = self._model.see(frame.image_bgr, box_yxyx=gate.box_yxyx)
        except (EngineError, ImageError) as error:
            self._mind(Cause.INFERENCE, str(error))
            return None, None
        self._mind(Cause.INFERENCE, None)
        self._took_s, late_s = (took_s := self._clock() - began_s), began_s - frame.time_s
        self._mind(Cause.OVERRUN, f"the model took {took_s:.1f} s" if took_s > OVERRUN_S else None)
        self._mind(Cause.STALE, f"a frame came {late_s:.1f} s late" if late_s > STALE_S else None)
        seen = Observation(frame.time_s, prediction, gate.infrared)
        verdict = self._decide(seen)
        self._visits.add(seen, verdict, self._clock(), frame=frame, fitted=fitted, gate=gate)
        return prediction, verdict

    def _decide(self, seen: Observation) -> Verdict:
        self.tick()  # inference takes time, and a signal may have come meanwhile
        self._recent.append(seen)
        now_s = self._clock()
        verdict = self._policy.decide(tuple(self._recent), now_s)
        try:
            return self._door.consider(verdict, now_s)
        except JournalError as error:  # not written, so not opened
            self._mind(Cause.JOURNAL, str(error))
        except LatchError as error:  # the door has told it to lock, and goes on telling it
            logger.error("%s", error)
        return _refused(verdict, self._door)

    def _camera_trouble(self) -> str | None:
        state = self.camera_state
        return None if state is CameraState.OK else f"the camera is {state.value}"

    def _mind(self, cause: Cause, trouble: str | None) -> None:
        """A fault of the door for as long as there is trouble; what was seen before it counts no more."""
        if (cause in self._door.faults) is (trouble is not None):
            return
        with _door_tells():
            if trouble is None:
                self._door.recover(cause)
            else:
                self._recent.clear()
                self._door.fault(cause, trouble)

    def _report(self, visit: Visit | None) -> None:
        if visit is None:
            return
        if self._ledger is not None:
            self._ledger.visit(visit)
        if not visit.unlocked and visit.label not in self._policy.unlock:
            with _door_tells():
                self._door.stranger(self._clock())
        if self._on_visit is not None:
            self._on_visit(visit)


@contextmanager
def _door_tells() -> Iterator[None]:
    """A latch that does not obey is the door's fault, which it names and mends; here it is only said."""
    try:
        yield
    except LatchError as error:
        logger.error("%s", error)


def _refused(verdict: Verdict, door: Door) -> Verdict:
    return replace(verdict, unlock=False, reason="; ".join(f"{cause.value}: {detail}" for cause, detail in door.faults.items()))


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
