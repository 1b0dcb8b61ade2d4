"""The words for what a door does: its states, what changes them, and the record of a change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DoorState(Enum):
    """What the door is doing. A LOCKED door waits for a verdict; in the pause after an unlock it refuses and says so."""

    STARTING = "starting"
    LOCKED = "locked"
    UNLOCKED = "unlocked"
    HELD = "held"
    LOCKOUT = "lockout"
    FAULT = "fault"


class Cause(Enum):
    """Why the state changed; its value is for people."""

    STARTED = "started"
    VERDICT = "an animal that may pass"
    TIME = "the time is over"
    PASSAGE = "the animal has passed"
    DUTY = "the latch was powered long enough"
    PERSON = "a person"
    HOLD_OVER = "the hold is over"
    STRANGERS = "too many strangers"
    LOCKOUT_OVER = "the lockout is over"
    REQUEST = "asked to lock"
    RELOAD = "settings are read again"
    STOP = "asked to stop"
    END = "the source ended"
    EXCEPTION = "a program error"
    # faults
    CAMERA = "camera"
    STALE = "stale frames"
    INFERENCE = "inference"
    OVERRUN = "overrun"
    JOURNAL = "journal"
    MODEL = "model"
    LATCH = "latch"
    JAMMED = "jammed"
    SENSOR = "sensor"
    CLOCK = "clock"
    RECOVERED = "recovered"  # of the fault that `detail` names


@dataclass(frozen=True)
class Transition:
    """A change of state, or a fault that joins others or goes before others (FAULT to FAULT).

    `armed`: a real latch moves by it; otherwise it tells what would have happened.
    """

    time_s: float
    before: DoorState
    after: DoorState
    cause: Cause
    detail: str
    armed: bool

    def __str__(self) -> str:
        would = " (moves nothing)" if not self.armed and self.after in (DoorState.UNLOCKED, DoorState.HELD) else ""
        why = f"{self.cause.value}, {self.detail}" if self.detail else self.cause.value
        return f"{self.before.value} to {self.after.value}{would}: {why}"
