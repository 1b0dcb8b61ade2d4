"""Reading the journal, while the door writes it: events, and any of them in full.

Order is that of ids and of monotonic seconds: the clock on the wall may jump, so a record's time of day is what the wall said.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pawlatch.decide import Observation, Verdict
from pawlatch.errors import JournalError
from pawlatch.image import Image
from pawlatch.schema import DATABASE, PICTURES, connect, reading
from pawlatch.visit import VisitFrame

_AFTER_S = 60.0  # in which the door's moves after a visit still belong to it


@dataclass(frozen=True)
class Setting:
    """Who decided, and how: the door's mode, the model (its file's SHA-256), who may pass, and the policy with its options."""

    mode: str
    bundle: str
    variant: str
    sha256: str
    unlock: tuple[str, ...]
    policy: str
    options: Mapping[str, Any]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `pawlatch.keepsake.to_json` wrote of one."""
        content = json.loads(text)
        return cls(**content | {"unlock": tuple(content["unlock"])})


@dataclass(frozen=True)
class Event:
    """A visit as the journal lists it. `end_s` is None where it was cut short, as by a power cut; `truth` a person's label.

    `started` is local time as it was then; `start_s` and `end_s` are monotonic seconds of its `run`. `pictures` holds the
    files there are of "best", "strip" and "data".
    """

    id: int
    run: int
    started: datetime
    start_s: float
    end_s: float | None
    frames: int
    strange: int
    label: str
    score: float
    time_to_unlock_s: float | None
    reason: str
    verdict: Mapping[str, Any]
    refusals: Mapping[str, int]
    setting: Setting | None
    truth: str | None
    pictures: Mapping[str, Path]

    @property
    def unlocked(self) -> bool:
        """Whether the door opened for it, or would have."""
        return self.time_to_unlock_s is not None

    @property
    def mode(self) -> str:
        """The door's mode then; "" where nobody said."""
        return "" if self.setting is None else self.setting.mode

    @property
    def door(self) -> str:
        """What the door did: "opened", "would open" (nothing was armed) or "stayed shut"."""
        if not self.unlocked:
            return "stayed shut"
        return "opened" if self.mode in ("armed", "") else "would open"


@dataclass(frozen=True)
class RecordedTransition:
    """A change of the door's state; `time_s` is monotonic within `run`."""

    run: int
    at: datetime
    time_s: float
    before: str
    after: str
    cause: str
    detail: str
    armed: bool | None


@dataclass(frozen=True)
class Note:
    """What happened to the journal itself: "start", "clock", "damaged", "lost"."""

    id: int
    at: datetime
    kind: str
    detail: str


@dataclass(frozen=True, eq=False)
class RecordedVisit:
    """An event in full. Where it was cut short, `frames` end with the unlock and have no embeddings."""

    event: Event
    frames: tuple[VisitFrame, ...]
    transitions: tuple[RecordedTransition, ...]
    unlocks_s: tuple[float, ...]  # each time the door was about to open for it

    @property
    def observations(self) -> tuple[Observation, ...]:
        """What the model said of each frame, to the bit, oldest first."""
        return tuple(frame.seen for frame in self.frames if frame.seen is not None)

    @property
    def labels(self) -> tuple[str, ...]:
        """The model's labels."""
        return self.observations[0].prediction.labels if self.observations else ()

    @property
    def refusals(self) -> list[tuple[float, str, str]]:
        """Frames the gate kept from the model: time in seconds, name, and sentence."""
        return [(frame.time_s, frame.refusal, frame.reason) for frame in self.frames if frame.seen is None]

    @property
    def verdict(self) -> Verdict:
        """The one that unlocked, else the last."""
        known = {field.name for field in fields(Verdict)}
        return Verdict(**{key: value for key, value in self.event.verdict.items() if key in known})

    @property
    def setting(self) -> Setting | None:
        """Who decided, and how."""
        return self.event.setting

    @property
    def decision(self) -> tuple[str, Mapping[str, Any]]:
        """The policy's name and its options as they were."""
        setting = self._known_setting()
        return setting.policy, setting.options

    @property
    def bundle(self) -> tuple[str, str, str]:
        """The model's name, its variant, and the SHA-256 of its file."""
        setting = self._known_setting()
        return setting.bundle, setting.variant, setting.sha256

    @cached_property
    def inputs(self) -> list[tuple[int, Image]]:
        """Index into `observations`, and what the model saw, uint8 (h, w, 3), RGB, to the bit; at most 12.

        Raises:
            JournalError: the file is damaged.
        """
        return self._keepsake.inputs() if "data" in self.event.pictures else []

    @cached_property
    def crops(self) -> list[tuple[int, bytes]]:
        """Index into `observations`, and the JPEG of where the model looked.

        Raises:
            JournalError: the file is damaged.
        """
        return self._keepsake.crops() if "data" in self.event.pictures else []

    @property
    def _keepsake(self) -> Any:
        from pawlatch.keepsake import Keepsake  # zipfile, which a list of events does without

        return Keepsake(self.event.pictures["data"])

    def _known_setting(self) -> Setting:
        if self.event.setting is None:
            raise JournalError(f"event {self.event.id} does not say which model and policy decided")
        return self.event.setting


class JournalReader:
    """The journal in `folder`, read-only. A context manager.

    Raises:
        JournalError: there is none, it is damaged, or a newer pawlatch wrote it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._connection = connect(self.folder, writes=False)

    def events(self, *, since: datetime | None = None, until: datetime | None = None, seen: str | None = None,
               unlocked: bool | None = None, labelled: bool | None = None, before: int | None = None, ids: Sequence[int] = (),
               limit: int | None = None) -> list[Event]:
        """Events that began from `since` on and before `until` (aware times), oldest first; of many, the newest `limit`.

        `before`: only those that stand before this event, as the page before the last one.

        Raises:
            JournalError: one of `ids` is not there, or the journal cannot be read.
        """
        if missing := sorted(set(ids) - self._ids(ids)):
            raise JournalError(f"the journal in {self.folder} has no event {', '.join(map(str, missing))}; "
                               "`pawlatch events` lists them")
        conditions: list[tuple[str, list[Any]]] = []
        if since is not None:
            conditions.append(("event.unix_s >= ?", [since.timestamp()]))
        if until is not None:
            conditions.append(("event.unix_s < ?", [until.timestamp()]))
        if seen is not None:
            conditions.append(("event.label = ?", [seen]))
        if unlocked is not None:
            conditions.append((f"time_to_unlock_s IS {'NOT ' if unlocked else ''}NULL", []))
        if labelled is not None:
            conditions.append((f"truth.label IS {'NOT ' if labelled else ''}NULL", []))
        if before is not None:
            conditions.append(("event.id < ?", [before]))
        if ids:
            conditions.append((f"event.id IN ({_marks(ids)})", list(ids)))
        where = " AND ".join(text for text, _ in conditions) or "1"
        rows = self._rows(
            "SELECT event.*, setting.content, truth.label AS truth FROM event LEFT JOIN setting ON setting.id = event.setting "
            f"LEFT JOIN truth ON truth.event = event.id WHERE {where} ORDER BY event.id DESC LIMIT ?",
            [*(value for _, values in conditions for value in values), -1 if limit is None else limit])
        return [self._event(row) for row in reversed(rows)]

    def visit(self, event_id: int) -> RecordedVisit:
        """An event in full.

        Raises:
            JournalError: no such event, or its file is damaged.
        """
        from pawlatch.keepsake import Keepsake, read_frames

        event = self.events(ids=[event_id])[0]
        if "data" in event.pictures:
            frames = Keepsake(event.pictures["data"]).frames()
        else:
            text = self._rows("SELECT seen FROM event WHERE id = ?", [event_id])[0]["seen"]
            frames = read_frames(text) if text else ()
        unlocks = self._rows("SELECT time_s FROM unlocking WHERE event = ? ORDER BY id", [event_id])
        return RecordedVisit(event, frames, tuple(self._transitions_of(event)), tuple(row["time_s"] for row in unlocks))

    def transitions(self, *, since: datetime | None = None, until: datetime | None = None) -> list[RecordedTransition]:
        """The door's changes of state, oldest first."""
        bounds = [(since or _EARLIEST).timestamp(), (until or _LATEST).timestamp()]
        query = "SELECT * FROM transition WHERE unix_s >= ? AND unix_s < ? ORDER BY id"
        return [_transition(row) for row in self._rows(query, bounds)]

    def notes(self) -> list[Note]:
        """What happened to the journal itself, oldest first."""
        rows = self._rows("SELECT * FROM note ORDER BY id", [])
        return [Note(row["id"], _when(row), row["kind"], row["detail"]) for row in rows]

    def size(self) -> tuple[int, int]:
        """How many events there are, and how many bytes they take with their pictures.

        Raises:
            JournalError: the journal cannot be read.
        """
        (row,) = self._rows("SELECT count(*) AS events, coalesce(sum(bytes), 0) AS bytes FROM event", [])
        return row["events"], row["bytes"] + (self.folder / DATABASE).stat().st_size

    def close(self) -> None:
        """May be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _ids(self, ids: Sequence[int]) -> set[int]:
        return {row["id"] for row in self._rows(f"SELECT id FROM event WHERE id IN ({_marks(ids)})", list(ids))}

    def _transitions_of(self, event: Event) -> Iterator[RecordedTransition]:
        """Those from its start until the next event, or a minute after its end."""
        rows = self._rows("SELECT min(start_s) AS next_s FROM event WHERE run = ? AND start_s > ?", [event.run, event.start_s])
        until_s = (event.start_s if event.end_s is None else event.end_s) + _AFTER_S
        until_s = min(until_s, until_s if rows[0]["next_s"] is None else rows[0]["next_s"])
        return map(_transition, self._rows("SELECT * FROM transition WHERE run = ? AND time_s >= ? AND time_s < ? ORDER BY id",
                                           [event.run, event.start_s, until_s]))

    def _event(self, row: sqlite3.Row) -> Event:
        pictures = {name: self.folder / PICTURES / row[name] for name in ("best", "strip", "data") if row[name]}
        same = ("id", "run", "start_s", "end_s", "frames", "strange", "label", "score", "time_to_unlock_s", "reason", "truth")
        return Event(
            started=_when(row), verdict=json.loads(row["verdict"]), refusals=json.loads(row["refusals"]), pictures=pictures,
            setting=None if row["content"] is None else Setting.from_json(row["content"]), **{name: row[name] for name in same})

    def _rows(self, query: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with reading(self.folder):
            return self._connection.execute(query, values).fetchall()


def _transition(row: sqlite3.Row) -> RecordedTransition:
    armed = None if row["armed"] is None else bool(row["armed"])
    return RecordedTransition(row["run"], _when(row), row["time_s"], row["before"], row["after"], row["cause"], row["detail"],
                              armed)


def _when(row: sqlite3.Row) -> datetime:
    return datetime.fromtimestamp(row["unix_s"], timezone(timedelta(seconds=row["zone_s"])))


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


_EARLIEST = datetime.fromtimestamp(0, UTC) - timedelta(days=36500)
_LATEST = datetime.fromtimestamp(0, UTC) + timedelta(days=365000)
