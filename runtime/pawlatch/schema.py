"""The journal's tables, and how they are opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pawlatch.errors import JournalError

DATABASE, PICTURES = "journal.sqlite3", "pictures"
VERSION = 1
SCHEMA = """
CREATE TABLE note (  -- starts of the door and what happened to the journal itself
  id INTEGER PRIMARY KEY AUTOINCREMENT, unix_s REAL NOT NULL, zone_s INTEGER NOT NULL, lived_s REAL NOT NULL,
  kind TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE setting (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE);  -- who decided, and how: JSON
CREATE TABLE event (  -- a visit; written when the door is about to open, else when it is over
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  run INTEGER NOT NULL,  -- the note of the start: monotonic seconds are comparable within it
  setting INTEGER REFERENCES setting (id),
  unix_s REAL NOT NULL, zone_s INTEGER NOT NULL,  -- when it began, as the wall said
  lived_s REAL NOT NULL,  -- how long the journal had been written then: what ages are counted by
  start_s REAL NOT NULL, end_s REAL,  -- monotonic; no end: cut short
  frames INTEGER NOT NULL, strange INTEGER NOT NULL,  -- with an animal; of these, whose features are a stranger's
  label TEXT NOT NULL, score REAL NOT NULL,
  time_to_unlock_s REAL, reason TEXT NOT NULL, verdict TEXT NOT NULL,  -- seconds from start_s; JSON
  refusals TEXT NOT NULL,  -- the gate's, counted by name: JSON
  seen TEXT,  -- the frames until the unlock: JSON
  best TEXT, strip TEXT, data TEXT, bytes INTEGER NOT NULL DEFAULT 0);  -- names of files in pictures/
CREATE TABLE unlocking (  -- each time the door was about to open
  id INTEGER PRIMARY KEY AUTOINCREMENT, event INTEGER NOT NULL REFERENCES event (id) ON DELETE CASCADE,
  unix_s REAL NOT NULL, zone_s INTEGER NOT NULL, time_s REAL NOT NULL, verdict TEXT NOT NULL);
CREATE INDEX unlocking_of_event ON unlocking (event);
CREATE TABLE transition (  -- of the door
  id INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL,
  unix_s REAL NOT NULL, zone_s INTEGER NOT NULL, lived_s REAL NOT NULL, time_s REAL NOT NULL,
  before TEXT NOT NULL, after TEXT NOT NULL, cause TEXT NOT NULL, detail TEXT NOT NULL, armed INTEGER);
CREATE TABLE truth (event INTEGER PRIMARY KEY REFERENCES event (id) ON DELETE CASCADE, label TEXT NOT NULL);
CREATE INDEX event_by_time ON event (unix_s);
"""
_BUSY_S = 5.0


def connect(folder: Path, *, writes: bool) -> sqlite3.Connection:
    """A connection to the journal in `folder`, of this version.

    Raises:
        JournalError: there is none, it cannot be read, or a newer pawlatch wrote it.
    """
    path = folder / DATABASE
    with reading(folder):
        if not path.is_file():
            raise JournalError(f"there is no journal in {folder}; name its folder with --journal (`pawlatch run` writes one)")
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode={'rw' if writes else 'ro'}", uri=True, timeout=_BUSY_S,
                                     isolation_level=None)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA foreign_keys = ON")
        check_version(connection, folder)
    return connection


def check_version(connection: sqlite3.Connection, folder: Path) -> int:
    """The version of the tables: 0 for none yet.

    Raises:
        JournalError: a newer pawlatch wrote them.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise JournalError(f"the journal in {folder} has version {version}, but this pawlatch knows {VERSION}; "
                           "update pawlatch, or name another folder")
    return version


def write_truth(folder: Path, labels: Mapping[int, str]) -> None:
    """Keep what a person says of events: who came. What was said of them before is replaced.

    Raises:
        JournalError: no such event, or the journal cannot be written.
    """
    connection = connect(folder, writes=True)
    try:
        with reading(folder, verb="write"), connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO truth VALUES (?, ?) ON CONFLICT (event) DO UPDATE SET label = excluded.label",
                                   list(labels.items()))
    finally:
        connection.close()


@contextmanager
def reading(folder: Path, *, verb: str = "read") -> Iterator[None]:
    """SQLite's and the system's complaints as a JournalError."""
    try:
        yield
    except JournalError:
        raise
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"cannot {verb} the journal in {folder}: {_complaint(error)}") from error


def _complaint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "no permission; it belongs to the door's user, so try: sudo pawlatch ..."
    return str(getattr(error, "strerror", None) or error)
