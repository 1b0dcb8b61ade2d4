"""What a door did, or would have done, in numbers, and whether it is ready to be armed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from pawlatch.door import PERSON, Cause, DoorState
from pawlatch.records import Event, Note, RecordedTransition
from pawlatch.stats import binomial_upper

DAYS, OWN_VISITS, STRANGER_VISITS = 3, 20, 20  # that a person has labelled before a door should be armed
OPENED_SHARE = 0.9  # of own visits
FAULT_SHARE = 0.05  # of those days
DAY_S = 86400.0


@dataclass(frozen=True)
class Row:
    """Visits of a day, or of a label. `opened` counts those for which the door opened, or would have.

    `strangers` are those whose label does not unlock, or whose features are mostly a stranger's.
    """

    name: str
    visits: int
    opened: int
    strangers: int
    wait_p50_s: float | None
    wait_p95_s: float | None


@dataclass(frozen=True)
class Fault:
    """What kept the door locked, how often, and for how many seconds in all."""

    cause: str
    times: int
    seconds: float


@dataclass(frozen=True)
class Truth:
    """What a person's labels say of the door; tuples are ids of events.

    `upper` is the exact upper bound, with 95 % confidence, of the share of strangers' visits for which it opens.
    """

    own: int
    strangers: int
    false_unlocks: tuple[int, ...]
    lock_outs: tuple[int, ...]
    unlabelled_unlocks: tuple[int, ...]
    upper: float


@dataclass(frozen=True)
class Summary:
    """All of it. `missing` is what is to be done before the door should be armed; nothing: it is ready."""

    first: datetime
    last: datetime
    mode: str
    unlock: tuple[str, ...]
    total: Row
    days: tuple[Row, ...]
    labels: tuple[Row, ...]
    by_person: int  # times that a person opened
    refusals: tuple[tuple[str, int], ...]  # of frames, by the gate
    reasons: tuple[tuple[str, int], ...]  # of visits for which the door stayed shut
    faults: tuple[Fault, ...]
    lockouts: int  # after too many strangers
    truth: Truth
    notes: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.mode == "armed":
            return "The door is armed, and should not be yet." if self.missing else "The door is armed, and may stay so."
        return "Not ready to be armed yet." if self.missing else 'Ready to be armed: set mode = "armed" in door.toml.'


def summarize(events: Sequence[Event], transitions: Sequence[RecordedTransition], notes: Sequence[Note]) -> Summary:
    """Sum up the records of a journal; there must be an event."""
    visits = [event for event in events if event.label != PERSON]
    setting = next((event.setting for event in reversed(events) if event.setting is not None), None)
    unlock = () if setting is None else setting.unlock
    days = sorted({visit.started.date() for visit in visits})
    truth, faults = _truth(visits), _faults(transitions)
    return Summary(
        first=events[0].started, last=events[-1].started, mode="" if setting is None else setting.mode, unlock=unlock,
        total=_row("all", visits),
        days=tuple(_row(day.isoformat(), [visit for visit in visits if visit.started.date() == day]) for day in days),
        labels=tuple(_row(label, [visit for visit in visits if visit.label == label])
                     for label in sorted({visit.label for visit in visits})),
        by_person=len(events) - len(visits),
        refusals=_ranked(Counter(name for visit in visits for name in Counter(visit.refusals).elements())),
        reasons=_ranked(Counter(_kind(visit.reason) for visit in visits if not visit.unlocked)),
        faults=faults, lockouts=sum(moved.cause == Cause.STRANGERS.value for moved in transitions), truth=truth,
        notes=tuple(f"{note.at:%Y-%m-%d %H:%M}  {note.detail}" for note in notes if note.kind != "start"),
        missing=tuple(_missing(len(days), unlock, truth, faults)),
    )


def is_stranger(event: Event) -> bool:
    """Whether the model took it for one that may not pass."""
    may_pass = event.setting is not None and event.label in event.setting.unlock
    return not may_pass or 2 * event.strange > event.frames


def _row(name: str, visits: Sequence[Event]) -> Row:
    waits_s = [visit.time_to_unlock_s for visit in visits if visit.time_to_unlock_s is not None]
    p50, p95 = (float(np.percentile(waits_s, share)) for share in (50, 95)) if waits_s else (None, None)
    return Row(name, len(visits), len(waits_s), sum(map(is_stranger, visits)), p50, p95)


def _truth(visits: Sequence[Event]) -> Truth:
    labelled = [visit for visit in visits if visit.truth is not None]
    own = [visit for visit in labelled if visit.setting is not None and visit.truth in visit.setting.unlock]
    strangers = [visit for visit in labelled if visit not in own]
    false_unlocks = tuple(visit.id for visit in strangers if visit.unlocked)
    return Truth(
        own=len(own), strangers=len(strangers), false_unlocks=false_unlocks,
        lock_outs=tuple(visit.id for visit in own if not visit.unlocked),
        unlabelled_unlocks=tuple(visit.id for visit in visits if visit.unlocked and visit.truth is None),
        upper=binomial_upper(len(false_unlocks), len(strangers)),
    )


def _faults(transitions: Sequence[RecordedTransition]) -> tuple[Fault, ...]:
    """How long each fault lasted: until it recovered, or its run of the program was last heard of."""
    times: Counter[str] = Counter()
    seconds: dict[str, float] = {}
    for run in sorted({moved.run for moved in transitions}):
        since_s: dict[str, float] = {}
        of_run = [moved for moved in transitions if moved.run == run]
        for moved in of_run:
            over = [moved.detail] if moved.cause == Cause.RECOVERED.value else []
            if moved.after == DoorState.FAULT.value and not over:
                times[moved.cause] += moved.cause not in since_s
                since_s.setdefault(moved.cause, moved.time_s)
            elif moved.after != DoorState.FAULT.value:
                over = list(since_s)
            for cause in over:
                seconds[cause] = seconds.get(cause, 0.0) + moved.time_s - since_s.pop(cause, moved.time_s)
        for cause, began_s in since_s.items():
            seconds[cause] = seconds.get(cause, 0.0) + of_run[-1].time_s - began_s
    return tuple(Fault(cause, count, seconds[cause]) for cause, count in times.most_common())


def _missing(days: int, unlock: tuple[str, ...], truth: Truth, faults: Sequence[Fault]) -> list[str]:
    """What is to be done, the gravest first."""
    missing = []
    if not unlock:
        missing.append("the model names no label that unlocks: train and convert with --unlock")
    if truth.false_unlocks:
        missing.append(f"it opened for strangers in events {_ids(truth.false_unlocks)}: add their pictures with "
                       "`pawlatch events -o photos/`, train again, and observe anew")
    if truth.unlabelled_unlocks:
        missing.append(f"nobody has said who came in {_count(len(truth.unlabelled_unlocks), 'visit')} for which it opens, "
                       f"as in {_ids(truth.unlabelled_unlocks[-5:])}: `pawlatch events --label NAME EVENT ...`")
    if truth.own < OWN_VISITS:
        missing.append(f"{truth.own} own visits are labelled; {OWN_VISITS} are needed to know how often it stays shut for them")
    elif len(truth.lock_outs) > (1 - OPENED_SHARE) * truth.own:
        missing.append(f"it stayed shut in {len(truth.lock_outs)} of {truth.own} own visits, as {_ids(truth.lock_outs[-5:])}: "
                       "train with pictures of this camera (`pawlatch events -o photos/`)")
    if truth.strangers < STRANGER_VISITS:
        missing.append(f"{truth.strangers} visits of strangers are labelled; {STRANGER_VISITS} without a false unlock show "
                       f"that it opens for fewer than {binomial_upper(0, STRANGER_VISITS):.0%} of them")
    if days < DAYS:
        missing.append(f"it was watched on {_count(days, 'day')}; {DAYS} show more of its light and weather")
    missing += [f"{fault.cause}: locked for {fault.seconds / 3600:.1f} hours by {_count(fault.times, 'fault')}; "
                "`pawlatch doctor` tells more" for fault in faults if fault.seconds > FAULT_SHARE * DAY_S * max(1, days)]
    return missing


def _ranked(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(counts.most_common(8))


def _kind(reason: str) -> str:
    """A sentence without its numbers, so that like ones count together."""
    return re.sub(r"\d+(\.\d+)?", "…", reason)


def _ids(events: Sequence[int]) -> str:
    return ", ".join(map(str, events))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
