from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from pawlatch.camera import clip_frames
from pawlatch.classify import Classifier
from pawlatch.decide import Consensus
from pawlatch.door import Door
from pawlatch.errors import EngineError, LatchError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch
from pawlatch.loop import Watch, signals
from pawlatch.replay import ClipClock

POLICY = Consensus(("own",), 0.8)


class Porch:
    """A watch on a clip in which the own animal comes after half a second and stays for two."""

    def __init__(self, tiny_bundle, draw_clip, *, latch=RecordingLatch, **door):
        self.clock = ClipClock()
        self.latch = latch(clock=self.clock)
        self.door = Door(self.latch, clock=self.clock, **door)
        self.classifier = Classifier(tiny_bundle)
        self.calls = 0
        self.on_call = {}
        self.visits = []
        self.watch = Watch(self.classify, POLICY, self.door, clock=self.clock, on_visit=self.visits.append)
        self.frames = self.clock.follow(clip_frames(draw_clip("own", [(0.5, None), (2, "own")])))

    def classify(self, image_rgb):
        self.calls += 1
        self.on_call.get(self.calls, lambda: None)()
        return self.classifier(image_rgb)

    def steps(self):
        return list(self.watch.steps(self.frames))


@pytest.fixture
def porch(tiny_bundle, draw_clip):
    return Porch(tiny_bundle, draw_clip)


def test_opens_and_locks_at_the_end(porch):
    assert len(porch.steps()) == 25
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert [visit.unlocked for visit in porch.visits] == [True]


def test_a_classifier_that_raises_locks_the_open_door(porch):
    def fail():
        assert porch.door.is_unlocked
        raise EngineError("inference failed")

    porch.on_call[10] = fail
    with pytest.raises(EngineError, match="inference failed"):
        porch.steps()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_journal_that_raises_keeps_it_locked(tiny_bundle, draw_clip):
    def full_disk(now_s, verdict):
        raise OSError("no space left")

    porch = Porch(tiny_bundle, draw_clip, journal=full_disk)
    with pytest.raises(OSError, match="no space left"):
        porch.steps()
    porch.latch.assert_states([LOCKED])


def test_a_latch_that_raises_ends_locked(tiny_bundle, draw_clip):
    class Stuck(RecordingLatch):
        def unlock(self):
            super().unlock()
            raise LatchError("the relay does not answer")

    porch = Porch(tiny_bundle, draw_clip, latch=Stuck)
    with pytest.raises(LatchError, match="does not answer"):
        porch.steps()
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_end_it_locked(porch, number):
    porch.on_call[8] = lambda: os.kill(os.getpid(), number)
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        steps = porch.steps()
    assert len(steps) < 25
    assert steps[-1].verdict is not None
    assert steps[-1].verdict.reason == "the door is closed for good"
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_signal_on_the_frame_that_would_unlock_comes_first(porch):
    porch.on_call[4] = lambda: os.kill(os.getpid(), signal.SIGTERM)  # the first frame, then three of the animal
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        porch.steps()
    porch.latch.assert_states([LOCKED])


def test_sighup_locks_and_asks_for_new_evidence(tiny_bundle, draw_clip):
    porch = Porch(tiny_bundle, draw_clip, rest_s=0)
    porch.on_call[8] = lambda: os.kill(os.getpid(), signal.SIGHUP)
    with signals(stop=(porch.watch.stop,), lock=(porch.watch.lock,)):
        steps = porch.steps()
    assert len(steps) == 25
    porch.latch.assert_states([LOCKED, UNLOCKED, LOCKED, UNLOCKED, LOCKED])
    assert [time_s for time_s, _ in porch.latch.history] == pytest.approx([0, 0.7, 1.1, 1.3, 2.4])


def test_the_old_signal_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with signals(stop=(), lock=()):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
