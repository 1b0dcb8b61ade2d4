from __future__ import annotations

import pytest

from pawlatch.decide import Verdict
from pawlatch.door import HOLD_S, Door, DoorState
from pawlatch.errors import LatchError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch

YES = Verdict(True, "own", 0.97, "3 of 3 frames")
NO = Verdict(False, "other", 0.93, "other 0.93: not a label that unlocks")


class StuckLatch(RecordingLatch):
    """Moves when told to unlock, then reports a failure: the worst kind."""

    def unlock(self) -> None:
        super().unlock()
        raise LatchError("the relay does not answer")


@pytest.fixture
def latch(clock):
    return RecordingLatch(clock=clock)


def test_locks_at_construction_and_opens_for_a_bounded_time(latch, clock):
    door = Door(latch, clock=clock, unlock_s=5)
    latch.assert_states([LOCKED])
    assert door.consider(YES, 1.0) == YES
    door.tick(5.9)
    assert door.is_unlocked
    door.tick(6.0)
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_refusal_moves_nothing(latch, clock):
    with Door(latch, clock=clock) as door:
        assert door.consider(NO, 1.0) == NO
    latch.assert_states([LOCKED])


def test_rests_between_unlocks_and_says_so(latch, clock):
    door = Door(latch, clock=clock, unlock_s=5, rest_s=2)
    door.consider(YES, 0.0)
    refused = door.consider(YES, 5.5)
    assert (refused.unlock, refused.reason) == (False, "the door rests for 2.0 s more")
    assert door.state is DoorState.RESTING
    assert door.consider(YES, 7.5).unlock


def test_stays_open_while_the_animal_is_there_but_not_for_ever(latch, clock):
    door = Door(latch, clock=clock, unlock_s=5)
    for tenth in range(200):
        door.consider(YES, tenth / 10)
        if not door.is_unlocked:
            break
    assert tenth / 10 == 15.0


def test_is_held_for_a_moment_after_the_last_evidence(latch, clock):
    door = Door(latch, clock=clock, unlock_s=5)
    door.consider(YES, 0.0)
    door.consider(YES, 4.5)
    door.tick(4.5 + HOLD_S - 0.1)
    assert door.is_unlocked
    door.tick(4.5 + HOLD_S)
    assert not door.is_unlocked


def test_opens_only_so_often_an_hour(latch, clock):
    door = Door(latch, clock=clock, unlock_s=5, rest_s=0, max_unlocks_per_hour=2)
    assert [door.consider(YES, now_s).unlock for now_s in (0.0, 100.0, 200.0, 3599.0, 3600.0)] == [
        True, True, False, False, True]
    assert "2 times within an hour" in door.consider(YES, 3650.0).reason


def test_writes_to_the_journal_before_the_latch_moves(latch, clock):
    written = []
    door = Door(latch, clock=clock, journal=lambda now_s, verdict: written.append((now_s, verdict, latch.state)))
    door.consider(YES, 4.0)
    assert written == [(4.0, YES, LOCKED)]


def test_a_journal_that_fails_keeps_it_locked(latch, clock):
    def full_disk(now_s, verdict):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"), Door(latch, clock=clock, journal=full_disk) as door:
        door.consider(YES, 1.0)
    latch.assert_states([LOCKED])


def test_a_latch_that_fails_is_locked_again(clock):
    latch = StuckLatch(clock=clock)
    door = Door(latch, clock=clock)
    with pytest.raises(LatchError, match="does not answer"):
        door.consider(YES, 1.0)
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert not door.is_unlocked


def test_an_exception_on_the_way_locks(latch, clock):
    def interrupted():
        with Door(latch, clock=clock) as door:
            door.consider(YES, 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_closed_door_never_opens_again_and_closes_twice(latch, clock):
    door = Door(latch, clock=clock)
    door.consider(YES, 1.0)
    door.close()
    door.close()
    assert door.consider(YES, 100.0).reason == "the door is closed for good"
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])


@pytest.mark.parametrize(
    "wrong", [{"unlock_s": 0}, {"unlock_s": float("nan")}, {"rest_s": -1}, {"max_unlocks_per_hour": 0}])
def test_refuses_bounds_that_bound_nothing(latch, clock, wrong):
    with pytest.raises(ValueError, match="a door needs"):
        Door(latch, clock=clock, **wrong)
