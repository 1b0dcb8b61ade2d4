"""What a person may ask of a door from elsewhere, and what of it outlives the process."""

from __future__ import annotations

import json
import time
from datetime import datetime

import pytest

from pawlatch.attendant import Attendant
from pawlatch.door import Cause, Door, DoorOptions, DoorState
from pawlatch.errors import JournalError
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch
from pawlatch.panel import Request, Wish
from pawlatch.standing import NAME

WHO = "the page (192.168.1.5)"


class RealLatch(RecordingLatch):
    """One that counts as something that moves."""

    is_real = True


class Rig:
    def __init__(self, clock, folder, *, latch=None, on_unlock=None, **options):
        self.clock, self.folder, self.told = clock, folder, []
        self.latch = latch or RealLatch(clock=clock)
        self.wall_s = 1_800_000_000.0
        self.door = Door(self.latch, options=DoorOptions(**{"mode": "armed"} | options), clock=clock,
                         wall=lambda: datetime(2026, 11, 26, 12), on_transition=self.told.append, on_unlock=on_unlock)
        self.attendant = Attendant(self.door, folder=folder, wall_s=lambda: self.wall_s)
        self.said = self.attendant.resume()
        self.door.started()

    def ask(self, wish, **more):
        return self.attendant.carry_out(Request(wish, WHO, **more))

    def later(self, seconds):
        self.clock.now_s += seconds
        self.wall_s += seconds
        self.door.tick(self.clock.now_s)


@pytest.fixture
def rig(clock, tmp_path):
    return lambda **options: Rig(clock, tmp_path, **options)


def test_unlock_opens_as_long_as_for_an_animal_and_is_written_with_who_asked(rig):
    written = []
    one = rig(on_unlock=lambda now_s, verdict: written.append(verdict.reason))
    assert one.ask(Wish.UNLOCK).text == "open for 5 s"
    assert one.latch.state is UNLOCKED
    assert written == [f"{WHO} holds it open for 5 s"]
    one.later(5.0)
    one.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_lock_works_at_any_time(rig):
    one = rig()
    one.ask(Wish.HOLD_OPEN, for_s=60.0)
    assert one.ask(Wish.LOCK).is_done
    assert one.latch.state is LOCKED
    assert (one.told[-1].cause, one.told[-1].detail) == (Cause.PERSON, f"{WHO} locks it")
    one.door.fault(Cause.CAMERA, "it is black")
    assert one.ask(Wish.LOCK).is_done


def test_a_wish_to_lock_if_open_tells_a_latch_that_is_locked_nothing(rig):
    one, commands = rig(), []
    one.latch.lock = lambda: commands.append("lock")
    assert one.ask(Wish.LOCK, if_open=True).text == "it is locked"
    assert not commands
    assert one.ask(Wish.LOCK).text == "locked"  # by a hand at the page: the latch may stand otherwise than the door knows
    one.ask(Wish.UNLOCK)
    assert one.ask(Wish.LOCK, if_open=True).text == "locked"
    assert commands == ["lock", "lock"]


@pytest.mark.parametrize("cause", [Cause.JAMMED, Cause.LATCH])
def test_nobody_is_told_that_what_does_not_obey_is_locked(rig, cause):
    one = rig()
    one.door.fault(cause, "look at the bolt")
    for if_open in (False, True):
        answer = one.ask(Wish.LOCK, if_open=if_open)
        assert not answer.is_done
        assert answer.text == f"it was told to lock, but {cause.value}: look at the bolt"


@pytest.mark.parametrize("for_s", [0.0, -1.0, float("nan"), float("inf"), 601.0])
@pytest.mark.parametrize("wish", [Wish.HOLD_OPEN, Wish.HOLD_LOCKED])
def test_a_hold_without_bounds_is_refused(rig, wish, for_s):
    one = rig(held_locked_longest_s=600.0)
    answer = one.ask(wish, for_s=for_s)
    assert not answer.is_done
    assert "600 s" in answer.text
    one.latch.assert_states([LOCKED])


@pytest.mark.parametrize("wish", [Wish.UNLOCK, Wish.HOLD_OPEN])
def test_a_door_that_observes_does_not_open_for_a_person_either(rig, wish):
    one = rig(mode="observe")
    answer = one.ask(wish)
    assert not answer.is_done
    assert "observes" in answer.text
    one.latch.assert_states([LOCKED])


def test_a_fault_or_a_journal_that_cannot_be_written_keeps_it_shut(rig):
    def full(now_s, verdict):
        raise JournalError("the disk is full")

    one = rig(on_unlock=full)
    assert one.ask(Wish.UNLOCK).text == "the disk is full"
    one.door.fault(Cause.CAMERA, "it is black")
    assert one.ask(Wish.UNLOCK).text == "camera: it is black"
    one.latch.assert_states([LOCKED])


def test_nobody_arms_from_elsewhere_what_the_settings_do_not_arm(rig):
    one = rig(mode="observe")
    answer = one.ask(Wish.MODE, mode="armed")
    assert not answer.is_done
    assert answer.text == 'door.toml says mode = "observe": from elsewhere it can be off or observe, got armed'
    assert one.door.options.mode == "observe"
    one.attendant.modes = ("off", "observe", "armed")  # sabotage: it is the list that keeps it from being armed
    assert one.ask(Wish.MODE, mode="armed").is_done
    assert one.door.is_armed


def test_a_mode_locks_first_and_moves_the_latch_it_says(rig):
    one = rig()
    one.ask(Wish.HOLD_OPEN, for_s=60.0)
    assert one.ask(Wish.MODE, mode="observe").is_done
    assert one.latch.state is LOCKED
    assert one.door.observes
    one.later(10.0)
    assert not one.ask(Wish.UNLOCK).is_done
    one.ask(Wish.MODE, mode="armed")
    assert one.ask(Wish.UNLOCK).is_done
    assert one.latch.state is UNLOCKED
    assert one.ask(Wish.MODE, mode="armed").text == "the mode is armed"
    assert one.latch.state is UNLOCKED, "a mode that is already there changes nothing"


def test_a_mode_and_a_hold_outlive_the_process(rig):
    one = rig()
    one.ask(Wish.MODE, mode="off")
    one.ask(Wish.HOLD_LOCKED, for_s=3600.0)
    again = rig()
    assert again.door.options.mode == "off"
    assert again.door.state is DoorState.HELD
    assert f'the mode is "off", as {WHO} chose; door.toml says "armed"; {WHO} keeps it locked for 60 min more' == again.said
    again.ask(Wish.MODE, mode="armed")
    again.ask(Wish.RELEASE)
    assert rig().said is None
    assert not (again.folder / NAME).exists()


def test_a_hold_that_a_person_opens_does_not_come_back(rig):
    """What held before an unlock is over; so it is at the next start, too."""
    one = rig()
    one.ask(Wish.HOLD_LOCKED, for_s=3600.0)
    assert one.ask(Wish.UNLOCK).text == "open for 5 s"
    one.later(10.0)
    assert one.door.held is None
    assert rig().said is None


def test_a_hold_that_could_not_be_opened_holds_on(rig):
    one = rig()
    one.ask(Wish.HOLD_LOCKED, for_s=3600.0)
    one.door.fault(Cause.CAMERA, "it is black")
    assert not one.ask(Wish.UNLOCK).is_done
    assert "60 min more" in rig().said


def test_an_owner_who_changes_the_settings_has_spoken_later(rig):
    rig().ask(Wish.MODE, mode="off")
    assert rig(mode="observe").door.options.mode == "observe"


def test_a_hold_that_is_over_at_the_start_holds_nothing(rig):
    one = rig()
    one.ask(Wish.HOLD_LOCKED, for_s=60.0)
    kept = json.loads((one.folder / NAME).read_text())
    (one.folder / NAME).write_text(json.dumps(kept | {"locked_until_unix_s": one.wall_s - 1}))
    assert rig().said is None


def test_a_clock_that_was_set_back_holds_no_longer_than_anybody_may(rig):
    one = rig()
    one.ask(Wish.HOLD_LOCKED, for_s=60.0)
    kept = json.loads((one.folder / NAME).read_text())
    (one.folder / NAME).write_text(json.dumps(kept | {"locked_until_unix_s": one.wall_s + 1e9}))
    assert "1440 min" in rig().said


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mode": "open"}', '{"locked_until_unix_s": "soon"}', '{"modes": "off"}'])
def test_a_damaged_file_keeps_the_door_off_until_somebody_chooses(rig, text):
    one = rig()
    (one.folder / NAME).write_text(text)
    again = rig()
    assert again.door.options.mode == "off"
    assert "damaged" in again.said
    assert again.ask(Wish.MODE, mode="armed").is_done
    assert rig().door.options.mode == "armed"


def test_a_wish_that_cannot_be_kept_is_done_and_says_so(rig, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    one = rig()
    monkeypatch.setattr("pawlatch.standing.write_atomic", full)
    answer = one.ask(Wish.MODE, mode="off")
    assert answer.is_done
    assert "only until the next start" in answer.text
    assert one.door.options.mode == "off"


def test_a_latch_that_does_not_obey_leaves_the_wish_written(rig):
    class Stuck(RealLatch):
        def lock(self):
            if self.state is UNLOCKED:
                raise OSError("stuck")
            super().lock()

    one = rig(latch=Stuck(clock=time.monotonic))
    one.ask(Wish.UNLOCK)
    answer = one.ask(Wish.HOLD_LOCKED, for_s=60.0)
    assert not answer.is_done
    assert "stuck" in answer.text
    assert json.loads((one.folder / NAME).read_text())["locked_until_unix_s"] > one.wall_s
