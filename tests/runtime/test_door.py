from __future__ import annotations

import contextlib
import logging
import math
import random
from dataclasses import replace
from datetime import datetime

import pytest

from pawlatch.decide import Verdict
from pawlatch.door import HOLD_S, LONGEST, PERSON, RETRY_S, Cause, Door, DoorOptions, DoorState
from pawlatch.errors import ConfigError, LatchError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch
from pawlatch.limits import Duty, Elapsed, Tally
from pawlatch.rules import LabelRule
from pawlatch.sensors import CLEAR_S, SensorOptions

YES = Verdict(True, "own", 0.97, "3 of 3 frames")
NO = Verdict(False, "other", 0.93, "other 0.93: not a label that unlocks")


class RealLatch(RecordingLatch):
    """Counts as hardware. `broken` names what it does not do, or does and then denies."""

    is_real = True
    broken = ""

    def lock(self):
        if self.broken == "lock":
            raise LatchError("the bolt does not move")
        super().lock()

    def unlock(self):
        super().unlock()
        if self.broken == "unlock":
            raise LatchError("the relay does not answer")


class Rig:
    """A door, its latch, a clock to turn, and everything the door told."""

    def __init__(self, clock, latch=None, *, passage=None, reed=None, wall=datetime.now, **options):
        self.clock, self.told, self.written = clock, [], []
        self.latch = latch or RecordingLatch(clock=clock)
        self.door = Door(self.latch, options=DoorOptions(**options), clock=clock, wall=wall, on_transition=self.told.append,
                         on_unlock=lambda now_s, verdict: self.written.append((now_s, verdict)), passage=passage, reed=reed)

    def at(self, now_s, verdict=None):
        """The door's view of a moment; each step before it is ticked through, as the loop does."""
        while self.clock.now_s < now_s - 0.1:
            self.clock.now_s = round(self.clock.now_s + 0.1, 6)
            self.door.tick(self.clock.now_s)
        self.clock.now_s = now_s
        self.door.tick(now_s)
        return None if verdict is None else self.door.consider(verdict, now_s)

    @property
    def causes(self):
        return [transition.cause for transition in self.told]

    @property
    def changes(self):
        return [(transition.before, transition.after) for transition in self.told]


@pytest.fixture
def rig(clock):
    return lambda *args, **options: Rig(clock, *args, **options)


# locked first, and on every way out


def test_is_locked_before_anything_else_and_starting_until_something_works(rig):
    rig = rig()
    rig.latch.assert_states([LOCKED])
    rig.at(1.0)
    assert rig.door.state is DoorState.STARTING
    rig.door.started()
    rig.door.started()
    assert rig.door.state is DoorState.LOCKED
    assert rig.causes == [Cause.STARTED]


def test_a_latch_that_does_not_lock_lets_nothing_start(clock):
    latch = RealLatch(clock=clock)
    latch.broken = "lock"
    with pytest.raises(LatchError, match="does not move"):
        Door(latch, clock=clock)


def test_opens_for_a_bounded_time(rig):
    rig = rig(unlock_s=5)
    assert rig.at(1.0, YES) == YES
    rig.at(5.9)
    assert rig.door.is_unlocked
    rig.at(6.0)
    assert not rig.door.is_unlocked
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert rig.changes == [(DoorState.STARTING, DoorState.LOCKED), (DoorState.LOCKED, DoorState.UNLOCKED),
                           (DoorState.UNLOCKED, DoorState.LOCKED)]
    assert rig.causes == [Cause.STARTED, Cause.VERDICT, Cause.TIME]
    assert [transition.time_s for transition in rig.told] == [1.0, 1.0, 6.0]
    assert rig.told[1].detail == "own 0.97: 3 of 3 frames"


def test_a_refusal_moves_nothing(rig):
    rig = rig()
    assert rig.at(1.0, NO) == NO
    rig.latch.assert_states([LOCKED])


def test_an_exception_on_the_way_locks_and_is_named(rig):
    rig = rig()

    def interrupted():
        with rig.door:
            rig.at(1.0, YES)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        interrupted()
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert (rig.told[-1].cause, rig.told[-1].detail) == (Cause.EXCEPTION, "RuntimeError: out of memory")


def test_a_closed_door_never_opens_again_and_closes_twice(rig):
    rig = rig()
    rig.at(1.0, YES)
    rig.door.close()
    rig.door.close()
    assert rig.at(100.0, YES).reason == "the door is closed for good"
    assert rig.door.hold(open=True, for_s=10, who="Kim") == "the door is closed for good"
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert rig.causes[-1] is Cause.STOP


@pytest.mark.parametrize("cause", [Cause.RELOAD, Cause.STOP, Cause.END])
def test_locks_on_request_with_its_cause(rig, cause):
    rig = rig()
    rig.at(1.0, YES)
    rig.door.lock(cause, "SIGHUP")
    assert (rig.told[-1].cause, rig.told[-1].detail) == (cause, "SIGHUP")
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


# written first


def test_writes_first_tells_then_and_moves_last(clock):
    latch, order = RecordingLatch(clock=clock), []
    door = Door(latch, clock=clock, on_unlock=lambda now_s, verdict: order.append((now_s, verdict, latch.state)),
                on_transition=lambda transition: order.append((transition.after, latch.state)))
    clock.now_s = 4.0
    door.consider(YES, 4.0)
    assert order == [(DoorState.LOCKED, LOCKED), (4.0, YES, LOCKED), (DoorState.UNLOCKED, LOCKED)]


@pytest.mark.parametrize("hook", ["on_unlock", "on_transition"])
def test_what_cannot_be_written_stays_shut(clock, hook):
    def full_disk(*told):
        if len(told) == 2 or told[0].after is not DoorState.LOCKED:
            raise OSError("no space left")

    latch = RecordingLatch(clock=clock)
    door = Door(latch, clock=clock, **{hook: full_disk})
    with pytest.raises(OSError, match="no space left"):
        door.consider(YES, 1.0)
    assert door.state is DoorState.LOCKED
    assert not door.is_unlocked
    latch.assert_states([LOCKED])


def test_locks_even_where_nobody_can_be_told(clock):
    def deaf(transition):
        if transition.after is DoorState.LOCKED and transition.before is DoorState.UNLOCKED:
            raise OSError("no space left")

    latch = RecordingLatch(clock=clock)
    door = Door(latch, clock=clock, on_transition=deaf)
    door.consider(YES, 1.0)
    with pytest.raises(OSError, match="no space left"):
        door.tick(10.0)
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert door.state is DoorState.LOCKED


# how long, how often


def test_pauses_between_unlocks_and_says_so(rig):
    rig = rig(unlock_s=5, pause_s=2)
    rig.at(0.0, YES)
    refused = rig.at(5.5, YES)
    assert (refused.unlock, refused.reason) == (False, "the door rests for 1.5 s more")
    assert rig.at(7.5, YES).unlock


def test_stays_open_while_the_animal_is_there_but_not_for_ever(rig):
    rig = rig(unlock_s=5)
    for tenth in range(200):
        rig.at(tenth / 10, YES)
        if not rig.door.is_unlocked:
            break
    assert tenth / 10 == LONGEST * 5


def test_stays_open_for_a_moment_after_the_last_evidence(rig):
    rig = rig(unlock_s=5)
    rig.at(0.0, YES)
    rig.at(4.5, YES)
    rig.at(4.5 + HOLD_S - 0.1)
    assert rig.door.is_unlocked
    rig.at(4.5 + HOLD_S)
    assert not rig.door.is_unlocked


def test_opens_only_so_often_an_hour(rig):
    rig = rig(unlock_s=5, pause_s=0, max_unlocks_per_hour=2)
    assert [rig.at(now_s, YES).unlock for now_s in (0.0, 100.0, 200.0, 3599.0, 3600.0)] == [True, True, False, False, True]
    assert "2 times within an hour" in rig.at(3650.0, YES).reason


def test_a_solenoid_is_powered_only_so_long_a_minute(rig):
    rig = rig(unlock_s=4, pause_s=0, powered_s_per_minute=10)
    rig.at(0.0, YES)
    rig.at(4.0)
    rig.at(5.0, YES)
    rig.at(9.0)
    refused = rig.at(10.0, YES)
    assert (refused.unlock, refused.reason) == (False, "the latch was powered for 8.0 s of the last minute: 10 at most")
    assert not rig.at(61.9, YES).unlock
    assert rig.at(62.0, YES).unlock, "two of the first four seconds are over a minute ago"


def test_an_animal_that_stays_does_not_burn_the_solenoid(rig):
    rig = rig(unlock_s=4, powered_s_per_minute=6)
    for tenth in range(80):
        rig.at(tenth / 10, YES)
        if not rig.door.is_unlocked:
            break
    assert tenth == 60
    assert rig.causes[-1] is Cause.DUTY


def test_a_pulse_powers_the_latch_for_no_longer_than_it_lasts(rig, clock):
    rig = rig(RecordingLatch(clock=clock, pulse_s=0.5), unlock_s=5, pause_s=0, powered_s_per_minute=1)
    assert [rig.at(now_s, YES).unlock for now_s in (0.0, 10.0, 20.0, 60.5)] == [True, True, False, True]


def test_a_duty_that_never_allows_an_unlock_is_refused(rig):
    with pytest.raises(ConfigError, match="powered_s_per_minute = 3 never allows"):
        rig(unlock_s=5, powered_s_per_minute=3)


@pytest.mark.parametrize("wrong", [
    {"unlock_s": 0}, {"unlock_s": math.nan}, {"pause_s": -1}, {"max_unlocks_per_hour": 0}, {"powered_s_per_minute": 61},
    {"mode": "on"}, {"direction": "up"}, {"hours": ("daily",)}, {"lockout_strangers": -1}, {"lockout_s": math.inf},
])
def test_refuses_bounds_that_bound_nothing(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must|hours are written like"):
        DoorOptions(**wrong)


# strangers


def test_strangers_lock_everybody_out_for_a_while(rig):
    rig = rig(lockout_strangers=3, lockout_within_s=100, lockout_s=50)
    for now_s in (0.0, 10.0):
        rig.at(now_s)
        rig.door.stranger(now_s)
    assert rig.at(20.0, YES).unlock
    rig.at(30.0)
    rig.door.stranger(30.0)
    assert rig.door.state is DoorState.LOCKOUT
    assert rig.at(40.0, YES).reason == "too many strangers: locked for 40 s more"
    rig.at(79.9)
    assert rig.door.state is DoorState.LOCKOUT
    assert rig.at(80.0, YES).unlock
    assert rig.causes[-3:] == [Cause.STRANGERS, Cause.LOCKOUT_OVER, Cause.VERDICT]


def test_strangers_far_apart_or_not_counted_lock_nobody_out(rig, clock):
    for options in ({"lockout_strangers": 2, "lockout_within_s": 100}, {"lockout_strangers": 0}):
        clock.now_s = 0.0
        one = rig(**options)
        one.door.started()
        for now_s in (0.0, 150.0, 300.0):
            one.at(now_s)
            one.door.stranger(now_s)
        assert one.door.state is DoorState.LOCKED


# what the owner allows


def test_hours_rules_and_directions_refuse_with_a_reason(rig):
    wall = {"now": datetime(2026, 11, 23, 23, 30)}  # a Monday
    rig = rig(wall=lambda: wall["now"], pause_s=0, unlock_s=1, hours=("mon-fri 06:00-22:00",),
              labels={"bella": LabelRule("never"), "rex": LabelRule("out"), "own": LabelRule("in")})
    assert rig.at(0.0, YES).reason == "the door may not open at Mon 23:30"
    wall["now"] = datetime(2026, 11, 23, 21, 59)
    assert rig.at(1.0, Verdict(True, "bella", 0.9, "")).reason == "bella may never pass"
    assert rig.at(1.0, Verdict(True, "rex", 0.9, "")).reason == "rex may only go out, and this camera sees who goes in"
    assert rig.at(2.0, YES).unlock
    wall["now"] = datetime(2026, 11, 23, 22, 0)
    assert not rig.at(2.9, YES).unlock, "the curfew begins: it is not kept open"
    rig.at(4.0)
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


# observe, off, armed


def test_observe_moves_a_shadow_and_only_ever_locks_the_real_latch(rig, clock):
    rig = rig(RealLatch(clock=clock), unlock_s=5)
    assert not rig.door.is_armed
    assert rig.at(1.0, YES).unlock
    assert rig.door.is_unlocked
    rig.at(6.0)
    rig.latch.assert_states([LOCKED])
    rig.door.driven.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert [transition.armed for transition in rig.told] == [False] * 3
    assert str(rig.told[1]) == "locked to unlocked (moves nothing): an animal that may pass, own 0.97: 3 of 3 frames"


def test_observe_on_a_command_latch_tells_it_to_lock_each_time(rig, clock):
    class Counting(RealLatch):
        locks = 0

        def lock(self):
            super().lock()
            self.locks += 1

    rig = rig(Counting(clock=clock), unlock_s=5)
    assert rig.latch.locks == 1
    rig.at(1.0, YES)
    rig.at(6.0)
    assert rig.latch.locks == 2


def test_armed_moves_the_real_latch(rig, clock):
    rig = rig(RealLatch(clock=clock), mode="armed", unlock_s=5)
    assert rig.door.is_armed
    rig.at(1.0, YES)
    rig.at(6.0)
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert [transition.armed for transition in rig.told] == [True] * 3


@pytest.mark.parametrize("kind", [RecordingLatch, RealLatch])
def test_off_opens_nothing_not_even_the_shadow(rig, clock, kind):
    rig = rig(kind(clock=clock), mode="off")
    assert rig.at(1.0, YES).reason == 'the door is off: mode = "off"'
    assert rig.door.hold(open=True, for_s=10, who="Kim") == 'the door is off: mode = "off"'
    rig.latch.assert_states([LOCKED])
    rig.door.driven.assert_states([LOCKED])


# a person


def test_a_person_holds_it_open_for_a_while(rig):
    rig = rig(held_open_longest_s=60)
    rig.door.started()
    assert rig.door.hold(open=True, for_s=30, who="Kim") is None
    assert rig.door.state is DoorState.HELD
    assert rig.door.is_unlocked
    assert rig.written == [(0.0, Verdict(True, PERSON, 1.0, "Kim holds it open for 30 s"))]
    assert rig.at(20.0, YES).reason == "Kim holds the door open"
    rig.at(29.9)
    assert rig.door.is_unlocked
    rig.at(30.0)
    assert rig.door.state is DoorState.LOCKED
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert rig.causes[-2:] == [Cause.PERSON, Cause.HOLD_OVER]


def test_a_person_keeps_it_locked_over_a_fault_and_releases_it(rig):
    rig = rig()
    rig.at(1.0, YES)
    rig.door.hold(open=False, for_s=3600, who="Kim")
    assert rig.door.state is DoorState.HELD
    assert not rig.door.is_unlocked
    rig.door.fault(Cause.CAMERA, "stalled")
    assert rig.door.state is DoorState.FAULT
    rig.door.recover(Cause.CAMERA)
    assert rig.door.state is DoorState.HELD
    assert rig.at(100.0, YES).reason == "Kim holds the door locked"
    rig.door.release("Kim")
    assert rig.at(101.0, YES).unlock
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED, UNLOCKED])


def test_an_open_hold_ends_by_release_request_and_fault(rig, clock):
    for end in (lambda door: door.release("Kim"), lambda door: door.lock(), lambda door: door.fault(Cause.CAMERA, "black"),
                lambda door: door.hold(open=False, for_s=5, who="Kim")):
        clock.now_s = 0.0
        one = rig()
        one.door.hold(open=True, for_s=30, who="Kim")
        end(one.door)
        assert not one.door.is_unlocked
        one.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_person_cannot_open_a_door_that_is_at_fault(rig):
    rig = rig()
    rig.door.fault(Cause.JOURNAL, "no space left")
    assert rig.door.hold(open=True, for_s=5, who="Kim") == "journal: no space left"
    rig.latch.assert_states([LOCKED])


def test_a_person_ends_a_lockout_by_opening(rig):
    rig = rig(lockout_strangers=1)
    rig.door.stranger(0.0)
    assert rig.door.hold(open=True, for_s=5, who="Kim") is None
    rig.at(5.0)
    assert rig.door.state is DoorState.STARTING
    assert rig.at(8.0, YES).unlock


def test_holding_an_open_door_moves_nothing_twice(rig):
    rig = rig(unlock_s=5)
    rig.at(1.0, YES)
    rig.door.hold(open=True, for_s=20, who="Kim")
    rig.at(20.9)
    assert rig.door.is_unlocked
    rig.at(21.0)
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


@pytest.mark.parametrize("for_s", [0, -1, math.nan, 601])
def test_a_hold_is_bounded(rig, for_s):
    with pytest.raises(ValueError, match="held open for up to 600 s"):
        rig().door.hold(open=True, for_s=for_s, who="Kim")


# faults


def test_is_locked_until_all_faults_have_gone(rig):
    rig = rig()
    rig.at(1.0, YES)
    rig.door.fault(Cause.CAMERA, "no frame for 3 s")
    rig.door.fault(Cause.CAMERA, "no frame for 4 s")
    rig.door.fault(Cause.JOURNAL, "no space left")
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert rig.at(2.0, YES).reason == "camera: no frame for 4 s; journal: no space left"
    rig.door.recover(Cause.CAMERA)
    rig.door.recover(Cause.INFERENCE)
    assert rig.door.state is DoorState.FAULT
    assert rig.door.faults == {Cause.JOURNAL: "no space left"}
    rig.door.recover(Cause.JOURNAL)
    assert rig.door.state is DoorState.LOCKED
    assert [(transition.cause, transition.detail) for transition in rig.told[2:]] == [
        (Cause.CAMERA, "no frame for 3 s"), (Cause.JOURNAL, "no space left"), (Cause.RECOVERED, "camera"),
        (Cause.RECOVERED, "journal")]
    assert rig.at(10.0, YES).unlock


def test_a_fault_before_anything_works_leads_back_to_starting(rig):
    rig = rig()
    rig.door.fault(Cause.CAMERA, "connecting")
    rig.door.recover(Cause.CAMERA)
    assert rig.door.state is DoorState.STARTING


def test_an_unlock_that_fails_is_locked_again_and_a_fault_until_the_latch_obeys(rig, clock):
    rig = rig(RealLatch(clock=clock), mode="armed", pause_s=1)
    rig.latch.broken = "unlock"
    with pytest.raises(LatchError, match="does not answer"):
        rig.at(1.0, YES)
    assert rig.door.state is DoorState.FAULT
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    rig.latch.broken = ""
    rig.at(1.0 + RETRY_S)
    assert rig.door.state is DoorState.LOCKED
    assert rig.at(3.0, YES).unlock
    assert rig.causes[1:] == [Cause.VERDICT, Cause.LATCH, Cause.RECOVERED, Cause.VERDICT]


def test_a_lock_that_fails_is_loud_and_tried_again_until_it_obeys(rig, clock):
    rig = rig(RealLatch(clock=clock), mode="armed", unlock_s=5)
    rig.at(1.0, YES)
    rig.latch.broken = "lock"
    with pytest.raises(LatchError, match="does not move"):
        rig.at(6.0)
    assert rig.door.state is DoorState.FAULT
    rig.at(8.0, YES)
    assert rig.latch.state is UNLOCKED
    rig.latch.broken = ""
    rig.at(8.0 + RETRY_S)
    assert rig.latch.state is LOCKED
    assert rig.door.state is DoorState.LOCKED
    assert rig.causes[1:] == [Cause.VERDICT, Cause.LATCH, Cause.RECOVERED]


def test_nobody_else_can_say_that_the_latch_obeys_again(rig, clock):
    rig = rig(RealLatch(clock=clock), mode="armed")
    rig.at(1.0, YES)
    rig.latch.broken = "lock"
    with pytest.raises(LatchError):
        rig.door.lock()
    rig.door.recover(Cause.LATCH)
    assert rig.door.state is DoorState.FAULT


def test_a_latch_of_somebody_elses_that_raises_something_else_is_a_fault_too(rig, clock):
    class Odd(RealLatch):
        def lock(self):
            if self.broken:
                raise ZeroDivisionError("division by zero")
            super().lock()

    rig = rig(Odd(clock=clock), mode="armed")
    rig.at(1.0, YES)
    rig.latch.broken = "yes"
    with pytest.raises(LatchError, match="ZeroDivisionError"):
        rig.door.lock()
    assert rig.door.state is DoorState.FAULT


def test_a_score_that_is_no_number_opens_nothing(rig):
    assert rig().at(1.0, Verdict(True, "own", math.nan, "")).reason == "a score must be a number, got nan: the model is broken"


# clocks


def test_a_clock_that_goes_back_locks_and_shortens_no_wait(rig):
    rig = rig(unlock_s=5, pause_s=2, lockout_strangers=1, lockout_s=50)
    rig.at(1000.0, YES)
    rig.clock.now_s = 10.0
    rig.door.tick(10.0)
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert (rig.told[-1].cause, rig.told[-1].detail) == (Cause.CLOCK, "it went back by 990.0 s")
    assert rig.at(11.0, YES).reason == "the door rests for 1.0 s more"
    assert rig.at(12.0, YES).unlock
    rig.at(20.0)
    rig.door.stranger(20.0)
    rig.clock.now_s = 0.0
    rig.door.tick(0.0)
    rig.at(49.9)
    assert rig.door.state is DoorState.LOCKOUT
    rig.at(50.0)
    assert rig.door.state is DoorState.LOCKED


def test_a_clock_that_leaps_forward_locks(rig):
    rig = rig()
    rig.door.consider(YES, 1.0)
    rig.door.tick(1e6)
    assert not rig.door.is_unlocked


@pytest.mark.parametrize("time_s", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_no_number_is_a_fault_until_one_comes(rig, time_s):
    rig = rig()
    rig.at(1.0, YES)
    rig.clock.now_s = time_s
    assert not rig.door.consider(YES, time_s).unlock
    assert rig.door.state is DoorState.FAULT
    assert f"clock: it shows {time_s}" in rig.door.consider(YES, time_s).reason
    rig.door.stranger(time_s)
    rig.clock.now_s = 4.0
    assert rig.at(4.0, YES).unlock
    assert all(math.isfinite(transition.time_s) for transition in rig.told)


# sensors


class Contact:
    """A switch to close by hand."""

    def __init__(self, closed=False):
        self.closed, self.fails = closed, False

    def __call__(self):
        if self.fails:
            raise LatchError("pin 22 cannot be driven")
        return self.closed


def test_locks_once_the_animal_is_through(rig):
    passage = Contact()
    rig = rig(passage=passage, unlock_s=5)
    rig.at(1.0, YES)
    passage.closed = True
    rig.at(2.0)
    passage.closed = False
    rig.at(2.0 + CLEAR_S - 0.1)
    assert rig.door.is_unlocked, "its tail may follow"
    rig.at(2.0 + CLEAR_S)
    assert not rig.door.is_unlocked
    assert rig.causes[-1] is Cause.PASSAGE


def test_an_animal_in_the_passage_is_not_shut_in_but_a_stuck_sensor_holds_no_door_open(rig):
    passage = Contact(closed=True)
    rig = rig(passage=passage, unlock_s=5)
    rig.at(1.0, YES)
    rig.at(1.0 + LONGEST * 5 - 0.1)
    assert rig.door.is_unlocked
    rig.at(1.0 + LONGEST * 5)
    assert not rig.door.is_unlocked
    assert rig.causes[-1] is Cause.TIME


def test_what_passed_before_does_not_lock_the_next_one_out(rig):
    passage = Contact()
    rig = rig(passage=passage, unlock_s=5, pause_s=0)
    for begin_s in (1.0, 10.0):
        rig.at(begin_s, YES)
        rig.at(begin_s + 3)
        assert rig.door.is_unlocked
        passage.closed = True
        rig.at(begin_s + 4)
        passage.closed = False
        rig.at(begin_s + 5)
        assert not rig.door.is_unlocked


def jam_rig(rig, clock, reed, **options):
    return rig(RealLatch(clock=clock), reed=reed, mode="armed", unlock_s=5,
               sensors=SensorOptions(reed_pin=22, jam_s=1.0, **options))


def test_a_bolt_that_does_not_follow_is_jammed_until_it_does(rig, clock):
    reed = Contact(closed=True)
    rig = jam_rig(rig, clock, reed)
    rig.at(1.0, YES)
    reed.closed = False
    rig.at(6.0)
    rig.at(7.0)
    assert rig.door.state is DoorState.LOCKED
    rig.at(7.1)
    assert rig.door.state is DoorState.FAULT
    assert "told to be locked, and the reed switch says unlocked" in rig.door.faults[Cause.JAMMED]
    reed.closed = True
    rig.at(7.2)
    assert rig.door.state is DoorState.LOCKED
    assert [cause for cause in rig.causes if cause in (Cause.JAMMED, Cause.RECOVERED)] == [Cause.JAMMED, Cause.RECOVERED]


def test_a_jammed_bolt_is_told_to_lock_again_and_again(rig, clock):
    class Counting(RealLatch):
        locks = 0

        def lock(self):
            super().lock()
            self.locks += 1

    one = rig(Counting(clock=clock), reed=Contact(), mode="armed", sensors=SensorOptions(reed_pin=22, jam_s=1.0))
    one.at(1.2)
    before = one.latch.locks
    one.at(1.2 + 4 * RETRY_S)
    assert one.latch.locks >= before + 3


def test_a_bolt_that_does_not_open_is_jammed_and_locked(rig, clock):
    rig = jam_rig(rig, clock, Contact(closed=True))
    rig.at(1.0, YES)
    rig.at(2.1)
    assert not rig.door.is_unlocked
    assert Cause.JAMMED in rig.causes


def test_a_flap_may_rest_shut_while_unlocked_but_not_open_while_locked(rig, clock):
    reed = Contact(closed=True)
    rig = jam_rig(rig, clock, reed, reed_on="flap")
    rig.at(1.0, YES)
    rig.at(4.0)
    assert rig.door.is_unlocked
    rig.at(6.0)
    reed.closed = False
    rig.at(7.1)
    assert rig.door.state is DoorState.FAULT


def test_in_observe_the_bolt_must_stay_locked(rig, clock):
    one = rig(RealLatch(clock=clock), reed=Contact(closed=True), unlock_s=5, sensors=SensorOptions(reed_pin=22, jam_s=1.0))
    one.at(1.0, YES)
    one.at(4.0)
    assert one.door.is_unlocked
    assert not one.door.faults


def test_a_sensor_that_fails_is_a_fault_until_it_answers(rig):
    passage = Contact()
    rig = rig(passage=passage)
    rig.at(1.0, YES)
    passage.fails = True
    rig.at(1.1)
    assert rig.door.faults == {Cause.SENSOR: "pin 22 cannot be driven"}
    rig.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    passage.fails = False
    rig.at(1.2)
    assert rig.door.state is DoorState.LOCKED


# whatever happens


class Spy(RealLatch):
    """Knows what it was last told, and checks at each unlock that the door kept its word."""

    def __init__(self, walk):
        super().__init__(clock=walk.clock)
        self.walk, self.told, self.unlocked_s, self.locked_s, self.spans = walk, LOCKED, None, -math.inf, []

    def lock(self):
        if self.told is UNLOCKED:
            self.locked_s = self.walk.time_s
            self.spans.append((self.unlocked_s, self.locked_s))
        self.told = LOCKED
        super().lock()

    def unlock(self):
        walk, options = self.walk, self.walk.options
        assert walk.records == len(self.spans) + 1, "not written before it moved"
        assert walk.time_s - self.locked_s >= options.pause_s - 1e-6, "moved within the pause"
        assert walk.announced in (DoorState.UNLOCKED, DoorState.HELD), "moved before it was told as a transition"
        if not walk.by_person:
            last_hour = [start_s for start_s in walk.unlocks if walk.time_s - start_s < 3600]
            assert len(last_hour) < options.max_unlocks_per_hour, "too often within an hour"
            walk.unlocks.append(walk.time_s)
        self.told, self.unlocked_s = UNLOCKED, walk.time_s
        super().unlock()

    def powered_s(self):
        spans = self.spans + ([(self.unlocked_s, self.walk.time_s)] if self.told is UNLOCKED else [])
        return sum(max(0.0, end_s - max(start_s, self.walk.time_s - 60)) for start_s, end_s in spans)


class Walk:
    """A random life of a door. `time_s` is true time; the clock that the door sees goes back now and then."""

    options = DoorOptions(mode="armed", unlock_s=2, pause_s=1.5, max_unlocks_per_hour=3, powered_s_per_minute=12,
                          lockout_strangers=2, lockout_within_s=60, lockout_s=20, held_open_longest_s=9,
                          labels={"banned": LabelRule("never")}, sensors=SensorOptions(reed_pin=22, jam_s=3))

    def __init__(self, seed, clock):
        self.random = random.Random(seed)
        self.clock, self.time_s, self.records, self.unlocks = clock, 100.0, 0, []
        self.by_person, self.held_until_s, self.announced, self.state = False, 0.0, None, DoorState.STARTING
        clock.now_s = 100.0
        self.latch = Spy(self)
        self.passage, self.reed = Contact(), Contact(closed=True)
        self.door = Door(self.latch, options=self.options, clock=clock, on_unlock=self.write, on_transition=self.hear,
                         passage=self.passage, reed=self.reed)

    def write(self, now_s, verdict):
        if self.random.random() < 0.05:
            raise OSError("no space left")
        self.records += self.door.is_armed  # otherwise a shadow moves

    def hear(self, transition):
        assert transition.before is self.state, "a transition was not told"
        self.state = self.announced = transition.after

    def step(self):
        kind, door = self.random.choice(self.kinds), self.door
        before = self.records
        try:
            kind(self, door)
        except OSError as error:  # of the journal or of the latch; the loop goes on
            if "no space" in str(error):
                self.records = before
        self.check()

    def pass_time(self, door):
        step_s = self.random.choice((0.07, 0.1, 0.3, 1.0))
        for _ in range(self.random.randint(1, 12)):
            self.time_s += step_s
            self.clock.now_s += step_s
            door.tick(self.clock.now_s)
            self.check()

    def long_time(self, door):
        self.time_s += 30.0
        self.clock.now_s += 30.0
        door.tick(self.clock.now_s)

    def jump(self, door):
        self.clock.now_s = self.random.uniform(0, self.clock.now_s)
        door.tick(self.clock.now_s)

    def no_time(self, door):
        door.tick(math.nan)

    def verdict(self, door):
        label = self.random.choice(("own", "own", "banned"))
        did = door.consider(Verdict(self.random.random() < 0.8, label, 0.9, ""), self.clock.now_s)
        assert not (did.unlock and label == "banned"), "opened for a label that may never pass"

    def fault(self, door):
        door.fault(self.random.choice((Cause.CAMERA, Cause.JOURNAL, Cause.INFERENCE)), "random")

    def recover(self, door):
        for cause in (Cause.CAMERA, Cause.JOURNAL, Cause.INFERENCE):
            door.recover(cause)

    def stranger(self, door):
        door.stranger(self.clock.now_s)

    def hold(self, door):
        for_s, is_open = self.random.uniform(1, 9), self.random.random() < 0.5
        self.by_person = is_open
        try:
            if door.hold(open=is_open, for_s=for_s, who="Kim") is None and is_open:
                self.held_until_s = self.time_s + for_s
        finally:
            self.by_person = False

    def release(self, door):
        door.release("Kim")

    def lock(self, door):
        door.lock(Cause.RELOAD)

    def set_mode(self, door):
        door.set_mode(self.random.choice(("armed", "armed", "observe", "off")), who="Kim")

    def break_latch(self, door):
        self.latch.broken = self.random.choice(("", "", "lock", "unlock"))

    def sense(self, door):
        self.passage.closed = self.random.random() < 0.3
        self.reed.closed = self.random.random() < 0.7
        self.reed.fails = self.random.random() < 0.1

    def arm(self, door):
        if not door.is_armed:
            door.set_mode("armed", who="Kim")

    kinds = (*[verdict] * 6, *[pass_time] * 5, *[recover] * 3, *[arm] * 3, long_time, jump, no_time, fault, stranger, hold, release,
             lock, set_mode, break_latch, sense)

    def check(self):
        door, latch = self.door, self.latch
        shut = door.state in (DoorState.STARTING, DoorState.LOCKED, DoorState.LOCKOUT, DoorState.FAULT)
        assert not (shut and latch.told is UNLOCKED), f"unlocked while {door.state.value}"
        if door.is_armed:
            assert door.is_unlocked == (latch.told is UNLOCKED), "the door is wrong about its latch"
        else:
            assert latch.told is LOCKED, "a real latch moves in a door that is not armed"
        assert door.state is self.state, "a change was not told"
        if latch.state is UNLOCKED and latch.told is LOCKED:
            assert Cause.LATCH in door.faults, "a lock that failed is no fault"
        if latch.told is UNLOCKED:
            longest_s = max(latch.unlocked_s + LONGEST * self.options.unlock_s, self.held_until_s)
            assert self.time_s < longest_s + 1e-6, "open for too long"
            assert latch.powered_s() < self.options.powered_s_per_minute + 1e-6, "powered for too long"


def wander(clock, *, walks, steps=60):
    opened = held = faults = lockouts = 0
    for seed in range(walks):
        walk = Walk(seed, clock)
        for _ in range(steps):
            walk.step()
            held += walk.door.state is DoorState.HELD
            faults += walk.door.state is DoorState.FAULT
            lockouts += walk.door.state is DoorState.LOCKOUT
        opened += len(walk.unlocks)
        walk.latch.broken = ""
        walk.door.close()
        assert walk.latch.state is LOCKED
    return opened, held, faults, lockouts


@pytest.fixture
def quiet_door(caplog):
    caplog.set_level(logging.CRITICAL, logger="pawlatch")


@pytest.mark.usefixtures("quiet_door")
def test_no_random_life_breaks_the_rules(clock):
    seen = wander(clock, walks=2500)
    assert min(seen) > 2000, f"the walks must open, hold, fail and lock out often, got {seen}"


def _moves_then_writes(door, verdict, state, cause, unlock=Door._unlock):
    door.driven.unlock()
    unlock(door, verdict, state, cause)


def _locks_and_hides_that_it_failed(latch):
    with contextlib.suppress(LatchError):
        latch.lock()
    return iter(())


def _lets_the_latch_be(door, mode, *, who):
    door.options = replace(door.options, mode=mode)
    door.driven = door._drive()


def _believes_the_clock(elapsed, shown_s):
    elapsed.shown_s = elapsed.now_s = shown_s if math.isfinite(shown_s) else elapsed.now_s
    return 0.0


SABOTAGES = {
    "unlocked while": (Door, "_command_lock", lambda door: None),
    "open for too long": (Door, "_extend", lambda door: setattr(door, "_until_s", math.inf)),
    "within the pause|powered for": (Door, "_not_again_yet", lambda door: None),
    "powered for too long": (Duty, "used_s", lambda duty, time_s: 0.0),
    "too often within an hour": (Tally, "is_full", lambda tally, time_s: False),
    "not written before": (Door, "_unlock", _moves_then_writes),
    "was not told": (Door, "_tell", lambda door, *told, **more: None),
    "may never pass": (Door, "_refusal", lambda door, verdict: door._never_or_not_now() or door._not_again_yet()),
    "open for|within the|powered for": (Elapsed, "take", _believes_the_clock),
    "is not armed|wrong about": (Door, "set_mode", _lets_the_latch_be),
    "is no fault": ("pawlatch.door._failures", _locks_and_hides_that_it_failed),
}


@pytest.mark.usefixtures("quiet_door")
@pytest.mark.parametrize("rule", SABOTAGES)
def test_a_door_that_breaks_a_rule_is_found_out(clock, monkeypatch, rule):
    monkeypatch.setattr(*SABOTAGES[rule])
    with pytest.raises(AssertionError, match=rule):
        wander(clock, walks=300)
