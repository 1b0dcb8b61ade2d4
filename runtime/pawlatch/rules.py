"""What an owner allows: hours of the week, the way each animal may go, and the bounds of the door. No state in here.

Hours are wall time as the clock on the kitchen wall shows it: in the night of a clock change they are an hour off for
once. A door that has hours, on a machine whose clock was not set yet, stays locked.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from pawlatch.errors import ConfigError
from pawlatch.sensors import SensorOptions

if TYPE_CHECKING:
    from pawlatch.card import ModelCard

Direction = Literal["in", "out"]
Mode = Literal["off", "observe", "armed"]
MODES: tuple[Mode, ...] = get_args(Mode)  # each allows more than the one before

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MIN = 24 * 60
CLOCK_UNSET_YEAR = 2024  # a Pi without a clock chip starts in an older one, until the network tells it the time
_HOURS = re.compile(r"(?:(?P<days>[a-z,-]+)\s+)?(?P<begin>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})")


@dataclass(frozen=True)
class Hours:
    """A span of the day, in minutes of it; one that ends at or before its begin ends on the next day."""

    days: frozenset[int]  # 0 is Monday; of its begin
    begin_min: int
    end_min: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read `mon-fri 06:00-22:00`, `sat,sun 22:00-06:00` or `06:00-22:00` (every day).

        Raises:
            ConfigError: it is none of these.
        """
        match = _HOURS.fullmatch(text.strip().lower())
        if match is None:
            raise ConfigError(f'hours are written like "mon-fri 06:00-22:00" or "sat,sun 22:00-06:00", got {text!r}')
        begin_min, end_min = (_minutes(match[key], text) for key in ("begin", "end"))
        if begin_min in (end_min, DAY_MIN):
            raise ConfigError(f'hours must have a length; the whole day is "00:00-24:00", got {text!r}')
        return cls(_days(match["days"], text), begin_min, end_min)

    def __contains__(self, moment: datetime) -> bool:
        minute, today = moment.hour * 60 + moment.minute, moment.weekday()
        if self.begin_min < self.end_min:
            return today in self.days and self.begin_min <= minute < self.end_min
        begun_today = today in self.days and minute >= self.begin_min
        return begun_today or ((today - 1) % 7 in self.days and minute < self.end_min)


@dataclass(frozen=True)
class LabelRule:
    """What one animal may do."""

    # Which way it may go: both, in, out or never. Against `direction` of the door: "out" opens to none that comes home.
    passes: Literal["both", "in", "out", "never"] = "both"
    # When it may pass, like hours of the door; none: whenever the door may open.
    hours: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _one_of("passes", self.passes, ("both", "in", "out", "never"))
        for text in self.hours:
            Hours.parse(text)


@dataclass(frozen=True)
class DoorOptions:
    """How the door behaves. Seconds are of the monotonic clock."""

    # off: nothing opens; observe: decides and writes what it would have done, and a real latch stays locked; armed: opens.
    mode: Mode = "observe"
    # How long an unlock lasts, in seconds above 0; up to three times that while the animal stays.
    unlock_s: float = 5.0
    # The least time from locking to the next unlock, in seconds, 0 or more.
    pause_s: float = 2.0
    # Unlocks within any hour, 1 or more.
    max_unlocks_per_hour: int = 30
    # How long the latch may be powered within any minute, in seconds above 0; 60: always. A solenoid's duty of 25 % is 15.
    powered_s_per_minute: float = 60.0
    # Which way the animals go that the camera sees: in (it looks at those outside) or out.
    direction: Direction = "in"
    # When the door may open: "mon-fri 06:00-22:00", "sat,sun 22:00-06:00", "06:00-22:00"; none: always.
    hours: tuple[str, ...] = ()
    # What each label may do, as a table a label.
    labels: dict[str, LabelRule] = field(default_factory=dict)
    # This many visits of strangers ...; 0: strangers lock nobody out.
    lockout_strangers: int = 5
    # ... within this many seconds, above 0 ...
    lockout_within_s: float = 600.0
    # ... keep the door locked for this many seconds, above 0.
    lockout_s: float = 300.0
    # How long a person may hold the door open at most, in seconds above 0.
    held_open_longest_s: float = 600.0
    # How long a person may keep it locked at most, in seconds above 0.
    held_locked_longest_s: float = 86400.0
    # What tells where the bolt is and whether something passes.
    sensors: SensorOptions = field(default_factory=SensorOptions)

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, ("off", "observe", "armed"))
        _one_of("direction", self.direction, ("in", "out"))
        for name in ("unlock_s", "powered_s_per_minute", "lockout_within_s", "lockout_s",
                     "held_open_longest_s", "held_locked_longest_s"):
            _in_bounds(name, getattr(self, name), above=0)
        _in_bounds("pause_s", self.pause_s)
        _in_bounds("max_unlocks_per_hour", self.max_unlocks_per_hour, least=1)
        _in_bounds("lockout_strangers", self.lockout_strangers)
        if self.powered_s_per_minute > 60:
            raise ConfigError(f"powered_s_per_minute must be at most 60, got {self.powered_s_per_minute}; 60 is always")
        for text in self.hours:
            Hours.parse(text)


class Rules:
    """Whether the owner lets an animal of this label pass at this time. Cheap: all text was read before."""

    def __init__(self, options: DoorOptions) -> None:
        self._direction = options.direction
        self._labels = options.labels
        self._hours = tuple(map(Hours.parse, options.hours))
        self._label_hours = {label: tuple(map(Hours.parse, rule.hours)) for label, rule in options.labels.items()}
        self._need_the_time = bool(self._hours or any(self._label_hours.values()))

    def refusal(self, label: str, wall: Callable[[], datetime]) -> str | None:
        """Why it may not pass at the time that `wall` shows; None where it may."""
        passes = self._labels[label].passes if label in self._labels else "both"
        if passes == "never":
            return f"{label} may never pass"
        if passes not in ("both", self._direction):
            return f"{label} may only go {passes}, and this camera sees who goes {self._direction}"
        if not self._need_the_time:
            return None
        moment = wall()
        if moment.year < CLOCK_UNSET_YEAR:
            return f"the machine's clock says {moment:%Y-%m-%d}, so nobody knows whether the door may open: set the clock"
        if self._hours and not any(moment in hours for hours in self._hours):
            return f"the door may not open at {moment:%a %H:%M}"
        hours_of_label = self._label_hours.get(label, ())
        if hours_of_label and not any(moment in hours for hours in hours_of_label):
            return f"{label} may not pass at {moment:%a %H:%M}"
        return None


def check_labels(rules: Mapping[str, LabelRule], labels: Iterable[str]) -> None:
    """Hold the rules against the labels of the model.

    Raises:
        ConfigError: a rule is for a label that the model does not know, so that it would never hold.
    """
    known = list(labels)
    for label in rules:
        if label not in known:
            near = difflib.get_close_matches(label, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
            raise ConfigError(f"the door has a rule for {label!r}, which the model does not know; {hint}")


def arming_doubts(card: ModelCard, variant: str, options: DoorOptions) -> list[str]:
    """What a person should know before this model moves a latch: sentences, none where nothing is amiss."""
    if not card.unlock:
        return ["the model names no unlock label, so the door never opens; train it again with --unlock LABEL"]
    doubts = []
    points = [card.operating_points[key] for key in (variant, "saved_model") if key in card.operating_points]
    if not points:
        doubts.append("the model has no operating point; train it again with --unlock LABEL")
    elif points[0].get("false_unlock_upper_95") is None:
        doubts.append("nobody knows how often this model opens for a stranger: its threshold was chosen on the photos that "
                      "it was measured on; keep some apart in test/, or train with --folds 5")
    passing = [label for label in card.unlock
               if label not in options.labels or options.labels[label].passes in ("both", options.direction)]
    if not passing:
        doubts.append(f"the rules let none of {', '.join(card.unlock)} go {options.direction}, so the door never opens")
    return doubts


def _minutes(text: str, whole: str) -> int:
    hour, minute = map(int, text.split(":"))
    if minute > 59 or hour * 60 + minute > DAY_MIN:
        raise ConfigError(f"times are 00:00 to 24:00, got {whole!r}")
    return hour * 60 + minute


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        if len(ends) > 2 or any(day not in DAYS for day in ends):
            raise ConfigError(f"days are {', '.join(DAYS)}, single or like mon-fri, got {whole!r}")
        first, last = DAYS.index(ends[0]), DAYS.index(ends[-1])
        days.update((first + step) % 7 for step in range((last - first) % 7 + 1))
    return frozenset(days)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _in_bounds(name: str, value: float, *, least: float = 0, above: float | None = None) -> None:
    if not math.isfinite(value) or value < least or (above is not None and value <= above):
        raise ConfigError(f"{name} must be {f'above {above}' if above is not None else f'{least} or more'}, got {value}")
