"""The journal's folder: who may write there, the database in it, and how much of it is kept."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pawlatch.errors import JournalError
from pawlatch.files import sync_folder
from pawlatch.schema import DATABASE, PICTURES, SCHEMA, VERSION, check_version
from pawlatch.stamps import DAY_S

BUSY_S = 1.0  # how long a write waits for another one; the door waits with it
WAL_BYTES = 1 << 18  # from here on the write-ahead log is moved into the database
MOST_ROWS = 20_000  # of transitions, and of notes
LOCK = "journal.lock"
PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # of the system


class Limits(Protocol):
    """Of what is kept."""

    @property
    def days(self) -> int: ...

    @property
    def visits(self) -> int: ...

    @property
    def megabytes(self) -> int: ...


def claim(folder: Path) -> int:
    """Make this process the folder's only writer until the returned descriptor is closed, or the process ends.

    Raises:
        JournalError: another one is.
    """
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise JournalError(f"another pawlatch writes the journal in {folder}; stop it, or name another folder") from error
    return descriptor


def open_database(folder: Path) -> sqlite3.Connection:
    """The folder's database, checked page by page; a new one where there is none.

    Raises:
        sqlite3.DatabaseError: it is damaged (`is_damage`), or cannot be written.
        JournalError: a newer pawlatch wrote it.
    """
    path = folder / DATABASE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise _Damaged(found.splitlines()[-1])
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts for a new file only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {4 * WAL_BYTES}")
        if check_version(connection, folder) == 0:
            connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
            sync_folder(folder)
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def second_connection(folder: Path) -> Iterator[sqlite3.Connection]:
    """For another thread; each statement is a transaction of its own."""
    connection = sqlite3.connect(folder / DATABASE, timeout=10 * BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        yield connection
        if (folder / f"{DATABASE}-wal").stat().st_size > WAL_BYTES:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # here, so that no unlock has to wait for one
    finally:
        connection.close()


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that the file is no database, or no whole one."""
    if isinstance(error, _Damaged):
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_passing(error: BaseException | None) -> bool:
    """Whether it may go away by itself: a full disk, or one that does not answer."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) or getattr(error, "errno", None) in PASSING


def move_aside(folder: Path) -> Path:
    """Give the database and its pictures a folder of their own, where nothing deletes them."""
    number = 1
    while (aside := folder / f"broken-{number}").exists():
        number += 1
    aside.mkdir(mode=0o700)
    for name in (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", PICTURES):
        if (folder / name).exists():
            (folder / name).rename(aside / name)
    return aside


def retain(database: sqlite3.Connection, folder: Path, limits: Limits, *, lived_s: float) -> None:
    """Forget what is beyond the limits: what is too old; then the oldest, those without an unlock first.

    The newer half is touched only when the older is gone, so that a journal full of unlocks has room for a stranger; and the
    last event stays in any case.
    """
    old_s = lived_s - limits.days * DAY_S
    events = database.execute("SELECT id, time_to_unlock_s IS NOT NULL, bytes, lived_s FROM event ORDER BY id").fetchall()
    kept = [event for event in events if event[3] >= old_s] or events[-1:]
    room = limits.megabytes * 1_000_000 - _used_bytes(database)
    surplus, bytes_over = len(kept) - limits.visits, sum(event[2] for event in kept) - room
    middle = kept[len(kept) // 2][0] if kept else 0
    gone = {event[0] for event in events} - {event[0] for event in kept}
    for event in sorted(kept[:-1], key=lambda event: (event[0] >= middle, event[1], event[0])):
        if surplus <= 0 and bytes_over <= 0:
            break
        gone.add(event[0])
        surplus, bytes_over = surplus - 1, bytes_over - event[2]
    _forget(database, folder, gone)
    for table in ("transition", "note"):
        database.execute(f"DELETE FROM {table} WHERE lived_s < ? OR id <= (SELECT max(id) - ? FROM {table})",
                         (old_s, MOST_ROWS))


def sweep(database: sqlite3.Connection, folder: Path) -> None:
    """Remove the files that no event names: what a killed process wrote."""
    named = {name for row in database.execute("SELECT data, best, strip FROM event") for name in row}
    for path in (folder / PICTURES).iterdir():
        if path.name not in named:
            path.unlink(missing_ok=True)


def _forget(database: sqlite3.Connection, folder: Path, events: set[int]) -> None:
    """The rows first: a file without a row is swept up, a row without its file would be a lie."""
    if not events:
        return
    names = [name for event in sorted(events)
             for name in database.execute("SELECT data, best, strip FROM event WHERE id = ?", (event,)).fetchone() if name]
    database.execute("BEGIN IMMEDIATE")
    database.executemany("DELETE FROM event WHERE id = ?", [(event,) for event in events])
    database.execute("COMMIT")
    for name in names:
        (folder / PICTURES / name).unlink(missing_ok=True)
    database.execute("PRAGMA incremental_vacuum(256)").fetchall()


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (int(database.execute(f"PRAGMA {name}").fetchone()[0])
                         for name in ("page_count", "freelist_count", "page_size"))
    return (pages - free) * size


class _Damaged(sqlite3.DatabaseError):
    """What the check of the pages found."""
