from __future__ import annotations

import itertools
import os
import signal
from dataclasses import replace

import pytest

from pawlatch.camera import CameraState, clip_frames
from pawlatch.classify import Classifier
from pawlatch.decide import Consensus
from pawlatch.door import Cause, Door, DoorOptions, DoorState
from pawlatch.errors import EngineError, JournalError, LatchError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch
from pawlatch.ledger import Ledger
from pawlatch.loop import OVERRUN_S, STALE_S, Watch, signals
from pawlatch.replay import ClipClock

POLICY = Consensus(("own",), 0.8)


class Porch:
    """A watch on a clip in which the own animal comes after half a second and stays for two. It is model and camera, too."""

    state = CameraState.OK

    def __init__(self, tiny_bundle, draw_clip, *, latch=RecordingLatch, journal=None, **options):
        self.clock = ClipClock()
        self.latch = latch(clock=self.clock)
        self.told = []
        ledger = None if journal is None else Ledger(journal)
        self.door = Door(self.latch, options=DoorOptions(**options), clock=self.clock, on_transition=self.told.append,
                         on_unlock=None if ledger is None else ledger.unlocking)
        self.classifier = Classifier(tiny_bundle)
        self.calls = 0
        self.on_call = {}
        self.visits = []
        self.watch = Watch(self, POLICY, self.door, clock=self.clock, on_visit=self.visits.append, camera=self, ledger=ledger)
        self.frames = self.clock.follow(clip_frames(draw_clip("own", [(0.5, None), (2, "own")])))

    def see(self, frame_bgr, *, box_yxyx=None):
        self.calls += 1
        self.on_call.get(self.calls, lambda: None)()
        return self.classifier.see(frame_bgr, box_yxyx=box_yxyx)

    def steps(self):
        return list(self.watch.steps(self.frames))

    @property
    def causes(self):
        return [transition.cause for transition in self.told]


class Paper:
    """A journal that can be written for as long as `full` is false."""

    full = False

    def __init__(self):
        self.unlocks, self.seen, self.probes = [], [], 0

    def unlocking(self, now_s, verdict, visit):
        self.check()
        self.unlocks.append((now_s, visit))

    def visit(self, visit):
        self.seen.append(visit)

    def check(self):
        if self.full:
            raise JournalError("no space left")

    def probe(self):
        self.probes += 1
        self.check()


@pytest.fixture
def porch(tiny_bundle, draw_clip):
    return Porch(tiny_bundle, draw_clip)


def test_opens_and_locks_at_the_end(porch):
    assert len(porch.steps()) == 25
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert [visit.unlocked for visit in porch.visits] == [True]
    assert porch.causes[0] is Cause.STARTED


def test_a_model_that_fails_once_is_a_fault_until_it_works_again(porch):
    def fail():
        assert porch.door.is_unlocked
        raise EngineError("inference failed")

    porch.on_call[10] = fail
    assert len(porch.steps()) == 25
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    fault, recovered = [(it.cause, it.detail) for it in porch.told if it.cause in (Cause.INFERENCE, Cause.RECOVERED)]
    assert fault == (Cause.INFERENCE, "inference failed")
    assert recovered == (Cause.RECOVERED, Cause.INFERENCE.value)


def test_a_model_that_always_fails_never_opens(porch):
    def broken():
        raise EngineError("the model's scores are not finite numbers")

    porch.on_call = dict.fromkeys(range(100), broken)
    steps = porch.steps()
    assert steps[-1].door is DoorState.FAULT
    porch.latch.assert_states([LOCKED])


def test_whatever_else_is_raised_locks_the_open_door(porch):
    def fail():
        assert porch.door.is_unlocked
        raise MemoryError

    porch.on_call[10] = fail
    with pytest.raises(MemoryError):
        porch.steps()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


@pytest.mark.parametrize("state", [state for state in CameraState if state is not CameraState.OK])
def test_a_camera_that_cannot_be_believed_locks_until_it_can(porch, state):
    for step in porch.watch.steps(porch.frames):
        if step.opened:
            break
    porch.state = state
    porch.watch.tick()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert porch.door.faults == {Cause.CAMERA: f"the camera is {state.value}"}
    porch.state = CameraState.OK
    porch.watch.tick()
    assert porch.door.state is DoorState.LOCKED


def test_what_was_seen_before_a_fault_opens_nothing_after_it(tiny_bundle, draw_clip):
    porch = Porch(tiny_bundle, draw_clip, pause_s=0)
    frames = iter(porch.watch.steps(porch.frames))
    next(step for step in frames if step.opened)
    porch.state = CameraState.STALLED
    porch.watch.tick()
    porch.state = CameraState.OK
    porch.watch.tick()
    assert [step.opened for step in itertools.islice(frames, 3)] == [False, False, True]


def test_a_model_that_takes_too_long_is_a_fault(porch):
    porch.on_call[8] = lambda: setattr(porch.clock, "_now_s", porch.clock() + OVERRUN_S + 0.1)
    porch.steps()
    assert [it.cause for it in porch.told if it.after is DoorState.FAULT] == [Cause.OVERRUN]


def test_a_frame_that_comes_late_is_a_fault(porch):
    frame = next(porch.frames)
    porch.clock._now_s = STALE_S + 0.1
    next(iter(porch.watch.steps([frame])))
    assert Cause.STALE in porch.door.faults


def test_an_empty_porch_in_time_ends_the_fault_of_a_late_frame(porch):
    """A service whose first frame came late would be ready only once an animal came."""
    empty, *_ = porch.steps()
    porch.door.fault(Cause.STALE, "a frame came late")
    late = replace(empty.frame, time_s=empty.frame.time_s - STALE_S - 1.0)
    next(porch.watch.steps([late]))
    assert Cause.STALE in porch.door.faults
    next(porch.watch.steps([replace(empty.frame, time_s=porch.clock())]))
    assert Cause.STALE not in porch.door.faults


def test_an_unlock_that_cannot_be_written_does_not_happen(tiny_bundle, draw_clip):
    paper = Paper()
    porch = Porch(tiny_bundle, draw_clip, journal=paper)
    porch.on_call[3] = lambda: setattr(paper, "full", True)
    porch.on_call[12] = lambda: setattr(paper, "full", False)
    steps = porch.steps()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert Cause.JOURNAL in porch.causes
    assert 1 <= paper.probes <= 3  # about once a second
    ((now_s, visit),) = paper.unlocks
    assert now_s >= steps[11].frame.time_s
    assert visit is not None
    assert [visit.unlocked for visit in paper.seen] == [True]


def test_a_latch_that_denies_ends_locked_in_a_fault(tiny_bundle, draw_clip):
    class Stuck(RecordingLatch):
        def unlock(self):
            super().unlock()
            raise LatchError("the relay does not answer")

    porch = Porch(tiny_bundle, draw_clip, latch=Stuck)
    porch.steps()
    assert porch.latch.history[1][1] is UNLOCKED
    assert porch.latch.state is LOCKED
    assert Cause.LATCH in porch.causes


def test_leaving_the_steps_early_locks(porch):
    steps = porch.watch.steps(porch.frames)
    for step in steps:
        if step.opened:
            break
    steps.close()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_an_open_door_locks_in_time_without_a_frame(porch):
    for step in porch.watch.steps(porch.frames):
        if step.opened:
            break
    later = replace(step.frame, time_s=step.frame.time_s + 5.0)
    next(porch.clock.follow([later]))
    porch.watch.tick()
    assert not porch.door.is_unlocked


def test_strangers_visits_are_counted(tiny_bundle, draw_clip):
    porch = Porch(tiny_bundle, draw_clip, lockout_strangers=1)
    porch.frames = porch.clock.follow(clip_frames(draw_clip("stranger", [(0.5, None), (1, "other"), (4, None), (1, "own")])))
    steps = porch.steps()
    assert steps[-1].door is DoorState.LOCKOUT
    porch.latch.assert_states([LOCKED])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_end_it_locked(porch, number):
    porch.on_call[8] = lambda: os.kill(os.getpid(), number)
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        steps = porch.steps()
    assert len(steps) < 25
    assert steps[-1].verdict is not None
    assert not steps[-1].verdict.unlock
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_signal_on_the_frame_that_would_unlock_comes_first(porch):
    porch.on_call[4] = lambda: os.kill(os.getpid(), signal.SIGTERM)  # the first frame, then three of the animal
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        porch.steps()
    porch.latch.assert_states([LOCKED])


def test_a_lock_that_is_asked_for_wants_new_evidence(tiny_bundle, draw_clip):
    porch = Porch(tiny_bundle, draw_clip, pause_s=0)
    porch.on_call[8] = lambda: os.kill(os.getpid(), signal.SIGHUP)
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        steps = porch.steps()
    assert len(steps) == 25
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED, UNLOCKED, LOCKED])


def test_another_model_begins_with_nothing_seen(porch):
    frames = iter(porch.watch.steps(porch.frames))
    for step in frames:
        if step.verdict is not None and step.verdict.label == "own":
            break
    porch.watch.use(porch, POLICY)
    assert [step.opened for step in itertools.islice(frames, 3)] == [False, False, True]


def test_the_old_signal_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals(stop=(), lock=()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
