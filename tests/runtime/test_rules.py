from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace

import pytest

from pawlatch.errors import ConfigError
from pawlatch.rules import DoorOptions, Hours, LabelRule, Rules, arming_doubts, check_labels

MONDAY = datetime(2026, 11, 23)


def at(day, hour, minute=0):
    """Day 0 is a Monday."""
    return MONDAY.replace(day=23 + day, hour=hour, minute=minute)


@pytest.mark.parametrize(("text", "inside", "outside"), [
    ("06:00-22:00", [at(0, 6), at(6, 21, 59)], [at(0, 5, 59), at(0, 22)]),
    ("mon-fri 06:00-22:00", [at(0, 12), at(4, 12)], [at(5, 12), at(6, 12), at(0, 23)]),
    ("sat,sun 22:00-06:00", [at(5, 22), at(6, 5, 59), at(6, 23), at(0, 5)], [at(5, 5), at(4, 23), at(0, 22), at(6, 6)]),
    ("fri-mon 00:00-24:00", [at(4, 0), at(6, 23, 59), at(0, 12)], [at(1, 0), at(3, 23, 59)]),
    ("Mon,Wed-Thu 7:30-8:00", [at(0, 7, 30), at(2, 7, 45), at(3, 7, 59)], [at(1, 7, 30), at(0, 8)]),
    ("sun 23:00-24:00", [at(6, 23, 30)], [at(0, 0), at(6, 22)]),
])
def test_hours_hold_on_their_days_and_over_midnight(text, inside, outside):
    hours = Hours.parse(text)
    assert [moment for moment in inside if moment not in hours] == []
    assert [moment for moment in outside if moment in hours] == []


@pytest.mark.parametrize(("text", "says"), [
    ("always", "hours are written like"), ("06:00", "hours are written like"), ("06:00-25:00", "00:00 to 24:00"),
    ("06:60-07:00", "00:00 to 24:00"), ("06:00-06:00", "must have a length"), ("24:00-06:00", "must have a length"),
    ("mo 06:00-07:00", "days are mon"), ("mon-wed-fri 06:00-07:00", "days are mon"), ("mon, 06:00-07:00", "days are mon"),
])
def test_hours_that_are_none_are_refused(text, says):
    for options in (lambda: DoorOptions(hours=(text,)), lambda: LabelRule(hours=(text,))):
        with pytest.raises(ConfigError, match=says):
            options()


def refusal(label="own", *, moment=MONDAY, **options):
    return Rules(DoorOptions(**options)).refusal(label, lambda: moment)


def test_a_door_without_rules_does_not_ask_the_time():
    def broken_clock():
        raise AssertionError

    assert Rules(DoorOptions()).refusal("own", broken_clock) is None


@pytest.mark.parametrize(("passes", "direction", "may"), [
    ("both", "in", True), ("both", "out", True), ("in", "in", True), ("in", "out", False),
    ("out", "in", False), ("out", "out", True), ("never", "in", False), ("never", "out", False),
])
def test_a_label_passes_the_way_it_may(passes, direction, may):
    assert (refusal(labels={"own": LabelRule(passes)}, direction=direction) is None) == may
    assert refusal("another", labels={"own": LabelRule(passes)}, direction=direction) is None


def test_a_label_has_hours_of_its_own_within_those_of_the_door():
    options = {"hours": ("06:00-22:00",), "labels": {"own": LabelRule(hours=("20:00-23:00",))}}
    assert refusal(moment=at(0, 21), **options) is None
    assert refusal(moment=at(0, 12), **options) == "own may not pass at Mon 12:00"
    assert refusal("another", moment=at(0, 12), **options) is None
    assert refusal(moment=at(0, 22, 30), **options) == "the door may not open at Mon 22:30"


def test_several_hours_add_up():
    options = {"hours": ("06:00-08:00", "18:00-20:00")}
    assert [refusal(moment=at(0, hour), **options) is None for hour in (7, 12, 19)] == [True, False, True]


def test_a_clock_that_was_not_set_keeps_a_door_with_hours_locked():
    moment = datetime(1970, 1, 1, 12)
    assert "the machine's clock says 1970-01-01" in refusal(moment=moment, hours=("06:00-22:00",))
    assert refusal(moment=moment) is None


def test_a_rule_for_a_label_that_the_model_does_not_know_is_refused():
    check_labels({"own": LabelRule()}, ["own", "other"])
    with pytest.raises(ConfigError, match="rule for 'onw', which the model does not know; did you mean own"):
        check_labels({"onw": LabelRule("never")}, ["own", "other"])
    with pytest.raises(ConfigError, match="it knows own, other"):
        check_labels({"bella": LabelRule("never")}, ["own", "other"])


def card(*, unlock=("own",), **point):
    return SimpleNamespace(unlock=unlock, operating_points={"saved_model": point} if point else {})


def test_arming_a_model_without_unlock_label_or_bound_is_said():
    assert "names no unlock label" in arming_doubts(card(unlock=()), "int8", DoorOptions())[0]
    assert "no operating point" in arming_doubts(card(), "int8", DoorOptions())[0]
    assert "nobody knows how often" in arming_doubts(card(threshold=0.9), "int8", DoorOptions())[0]
    assert "nobody knows how often" in arming_doubts(card(threshold=0.9, false_unlock_upper_95=None), "int8", DoorOptions())[0]
    assert arming_doubts(card(threshold=0.9, false_unlock_upper_95=0.02), "int8", DoorOptions()) == []


def test_arming_with_rules_that_let_nobody_in_is_said():
    bounded = card(threshold=0.9, false_unlock_upper_95=0.02)
    assert "let none of own go in" in arming_doubts(bounded, "int8", DoorOptions(labels={"own": LabelRule("out")}))[0]


def test_a_wrong_direction_is_refused():
    with pytest.raises(ConfigError, match="passes must be one of both, in, out, never, got 'inn'"):
        LabelRule("inn")
