"""The door's journal: SQLite for what happened, and beside it a few pictures of each visit. Bounded, and safe to kill.

An unlock is on the disk before the latch moves: its transaction is synced (`synchronous=FULL`; everything else is written
ahead without waiting, which WAL keeps whole across a power cut). A visit's row is written when it is over; its pictures follow
in a thread, each under a temporary name, synced and renamed, and only then does the row name them. A file that no row names
is what a killed process left, and is removed.

Ages are counted in seconds that the journal has lived, by the monotonic clock; while the door is off, at most a day is added.
So however the wall clock jumps, it neither ages the entries nor makes them immortal.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pawlatch import __version__
from pawlatch.decide import Verdict
from pawlatch.door import PERSON
from pawlatch.errors import JournalError
from pawlatch.files import write_atomic
from pawlatch.journal_options import JournalOptions, default_folder, own_folder
from pawlatch.keepsake import frames_json, jpeg, pack, strip, to_json
from pawlatch.records import JournalReader, Setting
from pawlatch.schema import DATABASE, PICTURES, reading
from pawlatch.shelf import claim, is_damage, is_passing, move_aside, open_database, retain, second_connection, sweep
from pawlatch.stamps import DAY_S, Clocks, Stamp
from pawlatch.visit import VISIT_GAP_S, Visit

if TYPE_CHECKING:
    from pawlatch.door import Transition

__all__ = ["Journal", "JournalOptions", "Setting", "default_folder", "own_folder"]

logger = logging.getLogger(__name__)

FRAMES_WITH_UNLOCK = 60  # written before the latch moves; the rest follows when the visit is over
BURST, MOST_WAITING = 60, 1000  # transitions written one by one, and kept for the next write
WAIT_S = 0.25  # that a visit's end may wait for the pictures of those before it
ROOM_BYTES = 8 << 20  # a disk that was full is not used again before so much is free
INSERT_TRANSITION = ("INSERT INTO transition (run, unix_s, zone_s, lived_s, time_s, before, after, cause, detail, armed) "
                     "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
TRIAL, TRIAL_BYTES = "trial", 1 << 16


class Journal:
    """Writes the journal of one door. A context manager; `clock` is the loop's, `wall` tells the local time, with its zone.

    Only `unlocking`, `check` and `probe` raise JournalError; what goes wrong elsewhere is told by the next `check`. `notices`
    are sentences that a person must hear, such as that a damaged journal was moved aside. Where the disk is full from the
    start, `check` tells, too.

    Raises:
        JournalError: the folder may not be written to, another door writes there, or a newer pawlatch did.
    """

    def __init__(self, options: JournalOptions, *, clock: Callable[[], float] = time.monotonic,
                 wall: Callable[[], datetime] = lambda: datetime.now().astimezone()) -> None:
        self.options, self.folder = options, options.folder
        self.notices: list[str] = []
        self._clock, self._clocks = clock, Clocks(clock, wall)
        self._setting: str | None = None
        self._open_visit: _OpenVisit | None = None
        self._waiting: deque[tuple[Any, ...]] = deque(maxlen=MOST_WAITING)
        self._tokens, self._tokens_s = float(BURST), clock()
        self._failure: JournalError | None = None
        self._is_closed = False
        self._lost: Counter[str] = Counter()
        self._claim: int | None = None
        self._connection = sqlite3.connect(":memory:")  # until there is one
        self._run = self._inode = 0
        try:
            self._start()
        except JournalError as error:
            if not is_passing(error.__cause__):
                self._give_up_claim()
                raise
            logger.error(str(error))
            self._failure = error
        self._jobs: queue.Queue[tuple[int, Visit] | None] = queue.Queue(maxsize=2)
        self._writer = threading.Thread(target=self._write_pictures, name="writer of pictures", daemon=True)
        self._writer.start()

    @staticmethod
    def open_read(folder: str | Path) -> JournalReader:
        """The journal in `folder`, to be read while a door writes it.

        Raises:
            JournalError: there is none, it is damaged, or a newer pawlatch wrote it.
        """
        return JournalReader(folder)

    def describe(self, setting: Setting) -> None:
        """Who decides from now on, and how."""
        self._setting = to_json(setting)

    def unlocking(self, now_s: float, verdict: Verdict, visit: Visit | None) -> None:
        """Write down that the door is about to open at `now_s`, and why. When this returns, it is on the disk.

        `visit` is the one it opens for, as far as it has come.

        Raises:
            JournalError: it cannot be written: the door must stay shut.
        """
        self.check()
        if verdict.label == PERSON:  # who opens for nobody who stands there
            visit = None
        begun = self._open_visit
        goes_on = begun is not None and visit is not None and begun.start_s == visit.start_s
        start_s = now_s if visit is None else visit.start_s
        with self._writing(synced=True) as database:
            stamp = self._stamp(database)
            event = begun.event if begun and goes_on else self._insert_unlock(database, stamp, now_s, start_s, verdict, visit)
            database.execute("INSERT INTO unlocking (event, unix_s, zone_s, time_s, verdict) VALUES (?, ?, ?, ?, ?)",
                             (event, stamp.unix_s, stamp.zone_s, now_s, to_json(verdict)))
        if not goes_on and verdict.label != PERSON:
            self._open_visit = _OpenVisit(event, start_s, now_s)

    def transition(self, transition: Transition) -> None:
        """Write down a change of the door's state. A door that flickers is written down in batches."""
        stamp = self._clocks.read()
        self._waiting.append((self._run, stamp.unix_s, stamp.zone_s, stamp.lived_s, transition.time_s, transition.before.value,
                              transition.after.value, transition.cause.value, transition.detail, transition.armed))
        if self._failure is None and self._may_write():
            with suppress(JournalError), self._writing():  # `check` tells
                pass

    def note(self, kind: str, detail: str) -> None:
        """Write down what befell the machine; `report` tells it. What comes too often is not written."""
        if self._failure is None and self._may_write():
            with suppress(JournalError), self._writing() as database:  # `check` tells
                self._note(database, kind, detail)

    def visit(self, visit: Visit) -> int | None:
        """Write down a visit that is over: its row now, its pictures in a moment. Returns its event; None where that failed."""
        try:
            event, keeps_pictures = self._write_visit(visit)
        except JournalError:
            self._lost["visits"] += 1
            return None
        if not keeps_pictures:
            return event
        try:
            self._jobs.put((event, visit), timeout=WAIT_S)
        except queue.Full:
            self._lost["pictures of visits"] += 1
            logger.warning("the disk is slower than the visits: the pictures of visit %d are not kept", event)
        return event

    def check(self) -> None:
        """Costs nothing; for every turn of the loop.

        Raises:
            JournalError: something could not be written, and `probe` has not found it writable since.
        """
        if self._failure is not None:
            raise JournalError(str(self._failure))

    def probe(self) -> None:
        """Try whether the journal can be written again; to be called now and then while `check` raises.

        Raises:
            JournalError: it cannot.
        """
        if self._failure is None:
            return
        with reading(self.folder, verb="write"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < ROOM_BYTES:
                raise JournalError(f"the journal in {self.folder} needs {ROOM_BYTES >> 20} MB of room, but the disk has "
                                   f"{free >> 20} MB; make room")
            trial = self.folder / TRIAL
            write_atomic(trial, bytes(TRIAL_BYTES))
            trial.unlink()
        self._jobs.join()
        self._start()
        with self._writing(synced=True):
            pass
        self._failure = None

    def flush(self) -> None:
        """Wait until the pictures of all visits are written, or could not be."""
        self._jobs.join()

    def close(self) -> None:
        """Write what is left. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._jobs.put(None)
        self._writer.join()
        with suppress(JournalError), self._writing():
            pass
        self._connection.close()  # the last one moves the write-ahead log into the database
        self._give_up_claim()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _start(self) -> None:
        """Open the database; a new one where there is none, or where it is damaged."""
        damage = None
        with reading(self.folder, verb="write"):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give_up_claim()
            self._claim = claim(self.folder)
            self._connection.close()  # whatever was wrong with it
            try:
                self._connection = open_database(self.folder)
            except sqlite3.DatabaseError as error:
                if not is_damage(error):
                    raise
                aside = move_aside(self.folder)
                damage = (f"the journal in {self.folder} was damaged ({error}); it was moved to {aside.name}, "
                          "and a new one begins")
                self._connection = open_database(self.folder)
            inode = (self.folder / DATABASE).stat().st_ino
        if inode == self._inode and damage is None:
            return  # it is the one that this run has begun
        self._inode, self._open_visit = inode, None
        try:
            self._begin_run()
        except JournalError:
            self._inode = 0  # begin it again
            raise
        if damage is not None:
            logger.error(damage)
            self.notices.append(damage)
            with self._writing() as database:
                self._note(database, "damaged", damage)

    def _give_up_claim(self) -> None:
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def _begin_run(self) -> None:
        with reading(self.folder):
            last = self._connection.execute(
                "SELECT lived_s, unix_s FROM event UNION ALL SELECT lived_s, unix_s FROM transition "
                "UNION ALL SELECT lived_s, unix_s FROM note ORDER BY lived_s DESC LIMIT 1").fetchone()
        self._clocks.begin(last)
        with self._writing() as database:
            self._run = self._note(database, "start", f"pawlatch {__version__}")

    def _insert_unlock(self, database: sqlite3.Connection, stamp: Stamp, now_s: float, start_s: float, verdict: Verdict,
                       visit: Visit | None) -> int:
        label, score, frames, strange, seen = verdict.label, verdict.score, 0, 0, None
        if visit is not None:
            label, score, frames, strange = visit.label, visit.score, visit.frames, _strange(visit)
            seen = frames_json(visit.labels, visit.kept[-FRAMES_WITH_UNLOCK:])
        return _insert(database, "event", {
            "run": self._run, "setting": self._setting_row(database), "unix_s": stamp.unix_s - (stamp.now_s - start_s),
            "zone_s": stamp.zone_s, "lived_s": stamp.lived_s, "start_s": start_s, "frames": frames, "strange": strange,
            "end_s": now_s if verdict.label == PERSON else None,
            "label": label, "score": float(score), "time_to_unlock_s": float(now_s - start_s), "reason": verdict.reason,
            "verdict": to_json(verdict), "refusals": "{}", "seen": seen,
        })

    def _write_visit(self, visit: Visit) -> tuple[int, bool]:
        """The visit's row, and whether there is room in the day's budget for its pictures."""
        values = {
            "start_s": visit.start_s, "end_s": visit.end_s, "frames": visit.frames, "strange": _strange(visit),
            "label": visit.label, "score": visit.score, "time_to_unlock_s": visit.time_to_unlock_s, "reason": visit.reason,
            "verdict": to_json(visit.verdict),
            "refusals": to_json(Counter(frame.refusal for frame in visit.kept if frame.seen is None)),
        }
        with self._writing() as database:
            stamp = self._stamp(database)
            event = 0 if self._open_visit is None or not self._open_visit.is_of(visit) else self._open_visit.event
            columns = ", ".join(f"{name} = ?" for name in values)
            if not database.execute(f"UPDATE event SET {columns} WHERE id = ?", (*values.values(), event)).rowcount:
                event = _insert(database, "event", values | {
                    "run": self._run, "setting": self._setting_row(database), "zone_s": stamp.zone_s,
                    "unix_s": stamp.unix_s - (stamp.now_s - visit.start_s), "lived_s": stamp.lived_s})
            (written,) = database.execute(
                "SELECT coalesce(sum(bytes), 0) FROM event WHERE lived_s > ? AND time_to_unlock_s IS NULL",
                (stamp.lived_s - DAY_S,)).fetchone()
        self._open_visit = None
        return event, visit.unlocked or written < self.options.megabytes_a_day * 1_000_000

    def _write_pictures(self) -> None:
        """The writer's thread."""
        is_swept = False
        while (job := self._jobs.get()) is not None:
            try:
                with second_connection(self.folder) as database:
                    self._keep_pictures(database, *job)
                    retain(database, self.folder, self.options, lived_s=self._clocks.read().lived_s)
                    if not is_swept:
                        sweep(database, self.folder)
                        is_swept = True
            except (sqlite3.Error, OSError) as error:
                self._lost["pictures of visits"] += 1
                self._fail(error)
            except Exception:  # a visit that cannot be drawn must not end the thread, nor lock the door
                self._lost["pictures of visits"] += 1
                logger.exception("the pictures of visit %d cannot be made", job[0])
            finally:
                self._jobs.task_done()
        self._jobs.task_done()

    def _keep_pictures(self, database: sqlite3.Connection, event: int, visit: Visit) -> None:
        if not self.options.pictures:
            visit = replace(visit, shots=(), best_bgr=None)
        files = {"data": (f"{event:06d}.zip", pack(visit))}
        if visit.best_bgr is not None:
            files["best"] = (f"{event:06d}-best.jpg", jpeg(visit.best_bgr))
        if (sheet := strip(visit)) is not None:
            files["strip"] = (f"{event:06d}-strip.jpg", jpeg(sheet))
        folder = self.folder / PICTURES
        folder.mkdir(mode=0o700, exist_ok=True)
        for name, data in files.values():
            write_atomic(folder / name, data)
        names = [files[column][0] if column in files else None for column in ("data", "best", "strip")]
        size = sum(len(data) for _, data in files.values())
        database.execute("UPDATE event SET data = ?, best = ?, strip = ?, bytes = ?, seen = NULL WHERE id = ?",
                         (*names, size, event))

    @contextmanager
    def _writing(self, *, synced: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction, which takes with it what waits; `synced`: on the disk when it ends."""
        try:
            if not self._is_there():
                raise FileNotFoundError(errno.ENOENT, "its file was removed while the door was running")
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(INSERT_TRANSITION, self._waiting)
                lost = Counter(self._lost)
                for what, count in lost.items():
                    self._note(self._connection, "lost", f"{count} {what}: {self._failure or 'see the log'}")
                yield self._connection
                self._connection.execute("COMMIT")
                self._waiting.clear()
                self._lost -= lost
            except BaseException:
                with suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise self._fail(error) from error

    def _fail(self, error: Exception) -> JournalError:
        """Remember what went wrong."""
        self._failure = JournalError(f"cannot write the journal in {self.folder}: {getattr(error, 'strerror', None) or error}; "
                                     "make room, or check the disk")
        return self._failure

    def _is_there(self) -> bool:
        try:
            return (self.folder / DATABASE).stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def _stamp(self, database: sqlite3.Connection) -> Stamp:
        """What the clocks say; a wall clock that jumped is noted."""
        if jump_s := self._clocks.jump_s():
            self._note(database, "clock", f"the clock jumped by {jump_s:+.0f} s")
        return self._clocks.read()

    def _note(self, database: sqlite3.Connection, kind: str, detail: str) -> int:
        stamp = self._clocks.read()
        return _insert(database, "note", {"unix_s": stamp.unix_s, "zone_s": stamp.zone_s, "lived_s": stamp.lived_s,
                                          "kind": kind, "detail": detail})

    def _setting_row(self, database: sqlite3.Connection) -> int | None:
        if self._setting is None:
            return None
        database.execute("INSERT OR IGNORE INTO setting (content) VALUES (?)", (self._setting,))
        return int(database.execute("SELECT id FROM setting WHERE content = ?", (self._setting,)).fetchone()[0])

    def _may_write(self) -> bool:
        """BURST transactions at once, then one a minute."""
        now_s = self._clock()
        self._tokens = min(float(BURST), self._tokens + (now_s - self._tokens_s) / 60)
        self._tokens_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True)
class _OpenVisit:
    """The visit for which the door has opened, and which goes on."""

    event: int
    start_s: float
    unlock_s: float

    def is_of(self, visit: Visit) -> bool:
        return visit.start_s <= self.unlock_s <= visit.end_s + VISIT_GAP_S


def _strange(visit: Visit) -> int:
    return sum(seen.prediction.is_stranger for seen in visit.observations)


def _insert(database: sqlite3.Connection, table: str, values: dict[str, Any]) -> int:
    columns, marks = ", ".join(values), ", ".join("?" * len(values))
    row = database.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values())).lastrowid
    assert row is not None
    return row
