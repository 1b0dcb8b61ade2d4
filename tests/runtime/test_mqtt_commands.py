"""What comes in by MQTT and what of it is believed, message by message; and that each guard is what keeps the door shut."""

from __future__ import annotations

import json

import pytest

from pawlatch.mqtt import commands
from pawlatch.mqtt.commands import LATE_S, LONGEST_PAUSE_S, PAUSE_S, TRIES, Codes, Doorman, Heard, RefusedError, Task
from pawlatch.panel import Request, Wish

CODE, NOW_S = "271828", 1_800_000_000.0


def heard(topic: str, value: object, *, is_retained: bool = False, **more: object) -> Heard:
    return Heard(topic, json.dumps({"value": value, **more}).encode(), is_retained)


def unlock(at: object = NOW_S, code: object = CODE, *, is_retained: bool = False) -> Heard:
    return heard("lock/set", "UNLOCK", at=at, code=code, is_retained=is_retained)


@pytest.fixture
def doorman(clock):
    """One that has been there for an hour."""
    it = Doorman(Codes(CODE, clock=clock), wall_s=lambda: NOW_S, clock=clock)
    clock.now_s += 3600.0
    return it


@pytest.mark.parametrize(("message", "wish"), [
    (unlock(), Wish.UNLOCK),
    (heard("lock/set", "LOCK"), Wish.LOCK),
    (Heard("lock/set", b"LOCK", False), Wish.LOCK),
    (heard("lock/set", "LOCK", at=0, code="wrong"), Wish.LOCK),  # to lock, nothing has to be right
    (heard("keep_locked/set", "ON"), Wish.HOLD_LOCKED),
    (heard("keep_locked/set", "OFF", at=NOW_S), Wish.RELEASE),
    (heard("mode/set", "armed", at=NOW_S), Wish.MODE),
    (heard("mode/set", "off"), Wish.MODE),
])
def test_what_is_asked_for(doorman, message, wish):
    order = doorman.order(message)
    assert isinstance(order, Request)
    assert (order.wish, order.who) == (wish, "MQTT")


def test_the_bridges_own_tasks(doorman):
    assert doorman.order(Heard("snapshot/set", b"PRESS", False)) is Task.SNAPSHOT
    assert doorman.order(Heard("update/set", b"INSTALL", False)) is Task.INSTALL


@pytest.mark.parametrize("message", [
    heard("lock/set", "LOCK", is_retained=True), heard("snapshot/set", "PRESS", is_retained=True), unlock(is_retained=True),
])
def test_no_retained_command_is_obeyed(doorman, message):
    with pytest.raises(RefusedError, match="retained"):
        doorman.order(message)


@pytest.mark.parametrize(("at", "why"), [
    (NOW_S - LATE_S - 1, "late: sent 11 s ago"), (NOW_S + LATE_S + 1, "future"), (None, "does not say when"), ("now", "does not say"),
    (True, "does not say"), (float("nan"), "future"), (float("inf"), "future"), (-1e308, "late"), (10**500, "future"), (-(10**500), "late"),
])
@pytest.mark.parametrize("command", [("lock/set", "UNLOCK"), ("keep_locked/set", "OFF"), ("mode/set", "observe")])
def test_nothing_that_could_let_in_is_obeyed_late(doorman, command, at, why):
    with pytest.raises(RefusedError, match=why):
        doorman.order(heard(*command, at=at, code=CODE))


def test_a_recorded_command_does_not_open_again(doorman):
    assert doorman.order(unlock(NOW_S - 1))
    for at in (NOW_S - 1, NOW_S - 2):
        with pytest.raises(RefusedError, match="was sent before"):
            doorman.order(unlock(at))
    assert doorman.order(unlock(NOW_S))


def test_a_recorded_command_does_not_open_after_a_restart_either(clock):
    """A new process does not know what the one before has obeyed, but when itself began."""
    doorman = Doorman(Codes(CODE, clock=clock), wall_s=lambda: NOW_S, clock=clock)
    clock.now_s += 1.0
    with pytest.raises(RefusedError, match="before this door began"):
        doorman.order(unlock(NOW_S - 1.5))
    assert doorman.order(unlock(NOW_S - 0.5))


@pytest.mark.parametrize("code", ["271829", "", None, 271828, ["271828"], "\ud800", "271828 ", "２71828"])
def test_only_the_code_unlocks(doorman, code):
    with pytest.raises(RefusedError, match="code"):
        doorman.order(unlock(code=code))


def test_without_a_code_nobody_unlocks(clock):
    nobody = Doorman(Codes(None, clock=clock), wall_s=lambda: NOW_S)
    for code in (None, "", "None", CODE):
        with pytest.raises(RefusedError, match="no code is set"):
            nobody.order(unlock(code=code))


def test_codes_cannot_be_tried_one_after_the_other(clock):
    codes = Codes(CODE, clock=clock)
    for _ in range(TRIES):
        with pytest.raises(RefusedError, match="wrong"):
            codes.check("000000")
    with pytest.raises(RefusedError, match="no code counts for 60 s"):
        codes.check(CODE)
    clock.now_s = PAUSE_S
    codes.check(CODE)  # the right one ends it


def test_a_day_allows_a_few_tries(clock):
    """Each pause is twice as long as the one before: of a million codes a patient one tries some thirty in a day."""
    codes, tried = Codes(CODE, clock=clock), 0
    for clock.now_s in range(0, 24 * 3600, 5):
        with pytest.raises(RefusedError) as caught:
            codes.check("000000")
        tried += "is wrong" in str(caught.value)
    assert TRIES + 20 < tried < TRIES + 35
    clock.now_s += LONGEST_PAUSE_S
    codes.check(CODE)


@pytest.mark.parametrize("payload", [
    b"", b"UNLOCK", b"unlock", b"\xff\xfe", b"{", b"[]", b"{}", b'{"value": {"a": 1}}', b'{"value": null}', b'{"a":' * 200, b"[" * 1000,
    b'{"value": "UNLOCK"}', b'{"value": ["UNLOCK"], "code": "271828", "at": 1800000000}', b"x" * 1_000_000, b'{"at": 1e999}',
])
def test_nonsense_is_refused(doorman, payload):
    for topic in commands.COMMAND_TOPICS:
        with pytest.raises(RefusedError):
            doorman.order(Heard(topic, payload, False))


def test_no_refusal_tells_what_came(doorman):
    for message in (unlock(code="3141592"), heard("lock/set", "s3cret"), heard("s3cret", "s3cret"), Heard("lock/set", b"s3cret", False)):
        with pytest.raises(RefusedError) as caught:
            doorman.order(message)
        assert "3141592" not in str(caught.value)
        assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(("guard", "without", "message"), [
    ("refuse_retained", lambda heard: None, unlock(is_retained=True)),
    ("LATE_S", float("inf"), unlock(NOW_S - 3600)),
    ("hmac.compare_digest", lambda *_: True, unlock(code="000000")),
])
def test_it_is_this_guard_that_keeps_it_shut(doorman, monkeypatch, guard, without, message):
    """Each without its guard: the door would open, so that nothing else hides a guard that has gone."""
    with pytest.raises(RefusedError):
        doorman.order(message)
    monkeypatch.setattr(f"pawlatch.mqtt.commands.{guard}", without)
    assert doorman.order(message).wish is Wish.UNLOCK
