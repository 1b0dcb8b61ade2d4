from __future__ import annotations

import json
import os
import resource
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

from pawlatch import shelf
from pawlatch.decide import Verdict
from pawlatch.door import PERSON, Cause, Door, DoorOptions, DoorState, Transition
from pawlatch.errors import ConfigError, JournalError
from pawlatch.journal import Journal, JournalOptions, Setting, default_folder
from pawlatch.latch import LOCKED, RecordingLatch
from pawlatch.schema import DATABASE, PICTURES, VERSION

YES = Verdict(True, "own", 0.9, "3 of 3 frames")
SETTING = Setting("observe", "garden", "int8", "ab" * 32, ("own",), "evidence", {"false_unlock": 0.001, "veto": ["prey"]})
DAY_S = 86400.0


class Wall:
    """A clock on the wall to set by hand."""

    now = datetime(2026, 11, 23, 8, 0, tzinfo=timezone(timedelta(hours=1)))

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def begin(folder: Path, clock, wall) -> Iterator[Callable[..., Journal]]:
    """`begin(days=3)`: a journal with those options, closed in the end."""
    begun: list[Journal] = []

    def make(where: Path = folder, **options: object) -> Journal:
        begun.append(Journal(JournalOptions(folder=where, **options), clock=clock, wall=wall))
        begun[-1].describe(SETTING)
        return begun[-1]

    yield make
    for journal in begun:
        journal.close()


@pytest.fixture
def write(clock, stay) -> Callable[..., None]:
    """`write(journal, 10.0, own=0.9, unlock_at=3)`: a visit through the door's calls."""

    def through(journal: Journal, start_s: float, **how: object) -> None:
        def unlocking(visit, now_s, verdict):
            clock.now_s = now_s
            journal.unlocking(now_s, verdict, visit)

        visit = stay(start_s, before=unlocking, **how)
        clock.now_s = visit.end_s + 3.0
        journal.visit(visit)
        journal.flush()

    return through


def move(time_s: float, before: DoorState, after: DoorState, cause: Cause, detail: str = "") -> Transition:
    return Transition(time_s, before, after, cause, detail, armed=False)


def only_event(folder: Path):
    with Journal.open_read(folder) as journal:
        (event,) = journal.events()
        return event


# what is written, and when


def test_a_visit_reads_back_to_the_bit(begin, folder, stay, clock):
    journal = begin()
    visit = stay(10.0, own=0.4, other=1 / 3, frames=40)
    clock.now_s = visit.end_s + 3
    journal.visit(visit)
    journal.flush()
    with Journal.open_read(folder) as reader:
        read = reader.visit(1)
    for mine, theirs in zip(read.observations, visit.observations, strict=True):
        assert mine.time_s == theirs.time_s
        assert mine.infrared == theirs.infrared
        assert mine.prediction.labels == theirs.prediction.labels
        np.testing.assert_array_equal(mine.prediction.scores, theirs.prediction.scores)
        np.testing.assert_array_equal(mine.prediction.embedding, theirs.prediction.embedding)
        assert mine.prediction.scores.dtype == mine.prediction.embedding.dtype == np.float32
    assert [(frame.number, frame.refusal, frame.reason, frame.box_yxyx) for frame in read.frames] == [
        (frame.number, frame.refusal, frame.reason, frame.box_yxyx) for frame in visit.kept]
    assert len(read.refusals) == 7
    assert [(at, read.observations[at].time_s) for at, _ in read.inputs] == [
        (at, shot.time_s) for (at, _), shot in zip(read.inputs, visit.shots, strict=True)]
    for (_, mine), shot in zip(read.inputs, visit.shots, strict=True):
        np.testing.assert_array_equal(mine, shot.fitted_rgb)
    assert (read.decision, read.bundle) == (("evidence", SETTING.options), ("garden", "int8", "ab" * 32))
    assert (read.verdict, read.event.label, read.event.door) == (visit.verdict, "own", "stayed shut")
    assert read.event.started == datetime(2026, 11, 23, 8, 0, tzinfo=timezone(timedelta(hours=1))) - timedelta(
        seconds=visit.end_s + 3 - 10)
    assert read.event.started.utcoffset() == timedelta(hours=1)
    assert set(read.event.pictures) == {"best", "strip", "data"}
    assert all(path.is_file() for path in read.event.pictures.values())


def test_an_unlock_and_its_reasons_can_be_read_before_the_latch_moves(begin, folder, stay, clock):
    journal, read = begin(), []

    def unlocking(visit, now_s, verdict):
        clock.now_s = now_s
        journal.unlocking(now_s, verdict, visit)
        with Journal.open_read(folder) as reader:
            read.append(reader.visit(1))

    stay(10.0, own=0.9, unlock_at=4, before=unlocking)
    assert read[0].event.unlocked
    assert read[0].event.time_to_unlock_s == pytest.approx(0.4)
    assert read[0].verdict == Verdict(True, "own", 0.9, "after 4 frames")
    assert [seen.time_s for seen in read[0].observations] == pytest.approx([10.0, 10.1, 10.2, 10.3])
    assert read[0].event.end_s is None  # cut short, were the power to go now
    assert read[0].inputs == []


@pytest.fixture
def statements(monkeypatch) -> list[str]:
    """What SQLite is told by the journal's own connection."""
    told: list[str] = []
    connect = sqlite3.connect

    def traced(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)
        connection.set_trace_callback(told.append)
        return connection

    monkeypatch.setattr(shelf.sqlite3, "connect", traced)
    return told


def test_unlocks_are_synced_and_nothing_else_is(begin, statements, write, clock):
    journal = begin(pictures=False)
    statements.clear()
    write(journal, 10.0, own=0.9, unlock_at=4)
    commits = [at for at, told in enumerate(statements) if told == "COMMIT"]
    modes = [next(told for told in reversed(statements[:at]) if "synchronous" in told) for at in commits]
    assert modes[:2] == ["PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"]
    assert any("INSERT INTO unlocking" in told for told in statements[: commits[0]])


def test_a_visit_is_one_event_however_often_it_opens(begin, folder, stay, clock):
    journal = begin()
    visit = stay(10.0, own=0.9, unlock_at=2, before=lambda visit, now_s, verdict: journal.unlocking(now_s, verdict, visit))
    journal.unlocking(11.0, YES, visit)
    journal.visit(visit)
    journal.flush()
    with Journal.open_read(folder) as reader:
        (event,) = reader.events()
        assert event.end_s == visit.end_s
        assert reader.visit(event.id).unlocks_s == pytest.approx((10.2, 11.0))


def test_an_unlock_before_any_frame_was_counted_belongs_to_its_visit(begin, folder, stay):
    journal = begin()
    journal.unlocking(10.0, YES, None)
    journal.visit(stay(10.0, own=0.9, unlock_at=0))
    assert only_event(folder).frames == 12


def test_a_person_who_opens_is_no_visitor(begin, folder, stay):
    journal = begin()
    visit = stay(10.0, other=0.9)
    journal.unlocking(10.5, Verdict(True, PERSON, 1.0, "held open by Ann"), visit)
    journal.visit(visit)
    journal.flush()
    with Journal.open_read(folder) as reader:
        person, stranger = reader.events()
    assert (person.label, person.frames, person.end_s, person.unlocked) == (PERSON, 0, 10.5, True)
    assert (stranger.label, stranger.unlocked, stranger.frames) == ("other", False, 12)


def test_the_doors_moves_are_part_of_the_event(begin, folder, write, clock):
    journal = begin()
    journal.transition(move(1.0, DoorState.STARTING, DoorState.LOCKED, Cause.STARTED))
    clock.now_s = 10.0
    write(journal, 10.0, own=0.9, unlock_at=4)
    journal.transition(move(10.4, DoorState.LOCKED, DoorState.UNLOCKED, Cause.VERDICT, "own 0.90"))
    journal.transition(move(15.4, DoorState.UNLOCKED, DoorState.LOCKED, Cause.TIME))
    journal.transition(move(90.0, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA, "black"))
    with Journal.open_read(folder) as reader:
        assert [(moved.time_s, moved.after, moved.cause, moved.armed) for moved in reader.visit(1).transitions] == [
            (10.4, "unlocked", "an animal that may pass", False), (15.4, "locked", "the time is over", False)]
        assert len(reader.transitions()) == 4


def test_a_door_that_flickers_is_written_in_batches(begin, folder, statements, clock):
    journal = begin()
    statements.clear()
    for index in range(600):  # ten minutes
        clock.now_s = float(index)
        journal.transition(move(clock.now_s, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA))
    assert statements.count("COMMIT") <= 60 + 10
    journal.close()
    with Journal.open_read(folder) as reader:
        assert [moved.time_s for moved in reader.transitions()] == [float(index) for index in range(600)]


def test_numpy_numbers_and_korean_labels_are_written(begin, folder, clock):
    verdict = Verdict(np.bool_(True), "우리 고양이", np.float32(0.5), "왜냐하면", evidence=np.float64(2.5), used=np.int64(3))
    begin().unlocking(1.0, verdict, None)
    with Journal.open_read(folder) as reader:
        assert reader.visit(1).verdict == Verdict(True, "우리 고양이", 0.5, "왜냐하면", evidence=2.5, used=3)
    raw = sqlite3.connect(folder / DATABASE).execute("SELECT verdict, score, time_to_unlock_s FROM event").fetchone()
    assert isinstance(json.loads(raw[0])["used"], int)
    assert (raw[1], raw[2]) == (0.5, 0.0)


def test_without_pictures_the_numbers_are_kept(begin, folder, write):
    write(begin(pictures=False), 10.0, own=0.9)
    with Journal.open_read(folder) as reader:
        read = reader.visit(1)
    assert (len(read.observations), read.inputs, read.crops, set(read.event.pictures)) == (12, [], [], {"data"})
    assert read.observations[0].prediction.embedding.size == 4


def test_beyond_the_days_budget_only_unlocks_keep_pictures(begin, folder, write):
    journal = begin(megabytes_a_day=0)
    write(journal, 10.0, other=0.9)
    write(journal, 20.0, own=0.9, unlock_at=3)
    with Journal.open_read(folder) as reader:
        assert [set(event.pictures) for event in reader.events()] == [set(), {"best", "strip", "data"}]


def test_only_its_user_can_read_it(begin, folder, write):
    write(begin(), 10.0, own=0.9)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / PICTURES, folder / DATABASE)]
    assert modes == [0o700, 0o700, 0o600]


def test_options_have_bounds():
    with pytest.raises(ConfigError, match="days of the journal must be at least 1, got 0"):
        JournalOptions(days=0)


# bounds


def test_the_oldest_go_first_and_unlocks_last(begin, folder, write):
    journal = begin(visits=10)
    for index in range(14):
        write(journal, 10.0 * (index + 1), **({"own": 0.9, "unlock_at": 3} if index in (0, 2) else {"other": 0.9}), frames=4)
    with Journal.open_read(folder) as reader:
        kept = [event.id for event in reader.events()]
    assert kept == [1, 3, 7, 8, 9, 10, 11, 12, 13, 14]
    assert {path.name[:6] for path in (folder / PICTURES).iterdir()} == {f"{number:06d}" for number in kept}


def test_a_journal_full_of_unlocks_has_room_for_a_stranger(begin, folder, write):
    journal = begin(visits=10)
    for index in range(12):
        write(journal, 10.0 * (index + 1), own=0.9, unlock_at=3, frames=4)
    write(journal, 200.0, other=0.9, frames=4)
    write(journal, 210.0, own=0.9, unlock_at=3, frames=4)
    with Journal.open_read(folder) as reader:
        assert 13 in [event.id for event in reader.events()]


def test_bytes_are_bounded(begin, folder, write, monkeypatch):
    journal = begin(megabytes=10)
    monkeypatch.setattr(shelf, "_used_bytes", lambda database: 10_000_000 - 100_000)  # room for so much
    for index in range(20):
        write(journal, 10.0 * (index + 1), other=0.9)
    size = sum(path.stat().st_size for path in (folder / PICTURES).iterdir())
    with Journal.open_read(folder) as reader:
        assert 1 < len(reader.events()) < 20
    assert size <= 100_000


def test_days_are_those_the_door_has_run(begin, folder, write, clock):
    journal = begin(days=30)
    write(journal, 10.0, own=0.9, unlock_at=3)
    write(journal, 29 * DAY_S, other=0.9)
    assert len(list((folder / PICTURES).iterdir())) == 6
    write(journal, 31 * DAY_S, other=0.9)
    with Journal.open_read(folder) as reader:
        assert [event.id for event in reader.events()] == [2, 3]
    assert len(list((folder / PICTURES).iterdir())) == 6


@pytest.mark.parametrize("year", [1970, 2099])
def test_a_clock_that_jumps_deletes_nothing_and_is_noted(begin, folder, write, clock, wall, year):
    journal = begin(days=30)
    write(journal, 10.0, own=0.9)
    right, wall.now = wall.now, datetime(year, 1, 2, tzinfo=UTC)
    write(journal, 20.0, other=0.9)
    journal.close()
    clock.now_s = 0.0  # a new start
    journal = begin(days=30)
    write(journal, 10.0, other=0.8)
    wall.now = right + timedelta(minutes=5)
    write(journal, 20.0, other=0.8)
    with Journal.open_read(folder) as reader:
        assert [event.id for event in reader.events()] == [1, 2, 3, 4]
        assert [event.started.year for event in reader.events()] == [2026, year, year, 2026]
        assert [note.kind for note in reader.notes()] == ["start", "clock", "start", "clock"]
    journal.close()
    clock.now_s = 0.0
    wall.now = datetime(2099, 1, 1, tzinfo=UTC)  # switched off for so long? at most a day is believed
    journal = begin(days=30)
    write(journal, 10.0, other=0.8)
    with Journal.open_read(folder) as reader:
        assert len(reader.events()) == 5


def test_flickering_is_bounded_too(begin, folder, write, monkeypatch):
    monkeypatch.setattr(shelf, "MOST_ROWS", 50)
    journal = begin()
    for index in range(200):
        journal.transition(move(float(index), DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA))
    write(journal, 300.0, other=0.9)
    with Journal.open_read(folder) as reader:
        assert [moved.time_s for moved in reader.transitions()] == [float(index) for index in range(150, 200)]


# what can go wrong


def test_pictures_that_no_event_names_are_swept_up(begin, folder, write):
    journal = begin()
    write(journal, 10.0, own=0.9)
    named = set((folder / PICTURES).iterdir())
    journal.close()
    (folder / PICTURES / "000099.zip").write_bytes(b"what a killed process left")
    (folder / PICTURES / ".000099-best.jpg.123.part").write_bytes(b"and this")
    write(begin(), 20.0, own=0.9)
    assert len(set((folder / PICTURES).iterdir()) - named) == 3


def test_only_one_door_writes(begin, folder):
    begin()
    with pytest.raises(JournalError, match="another pawlatch writes the journal"):
        begin()


def test_a_newer_journal_is_left_alone(begin, folder):
    begin().close()
    with sqlite3.connect(folder / DATABASE) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    for attempt in (begin, lambda: Journal.open_read(folder)):
        with pytest.raises(JournalError, match="update pawlatch"):
            attempt()
    assert not (folder / "broken-1").exists()


def scribble(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:12288] = bytes(reversed(content[8192:12288]))
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [scribble, cut, flip])
def test_a_damaged_journal_is_moved_aside_and_the_door_comes_up(begin, folder, write, damage, caplog):
    journal = begin()
    write(journal, 10.0, own=0.9)
    journal.close()
    pictures = {path.name for path in (folder / PICTURES).iterdir()}
    damage(folder / DATABASE)
    damaged = (folder / DATABASE).read_bytes()
    journal = begin()
    assert "was damaged" in journal.notices[0]
    assert "was damaged" in caplog.text
    write(journal, 10.0, other=0.9)
    assert only_event(folder).label == "other"
    assert (folder / "broken-1" / DATABASE).read_bytes() == damaged
    assert {path.name for path in (folder / "broken-1" / PICTURES).iterdir()} == pictures
    with Journal.open_read(folder) as reader:
        assert [note.kind for note in reader.notes()] == ["start", "damaged"]


def test_a_whole_journal_is_not_moved_aside(begin, folder, write):
    journal = begin()
    write(journal, 10.0, own=0.9)
    journal.close()
    assert begin().notices == []
    assert only_event(folder).label == "own"


def test_damage_while_it_runs_is_told_and_mended(begin, folder, write, stay):
    journal = begin()
    write(journal, 10.0, own=0.9)
    (folder / f"{DATABASE}-wal").write_bytes(b"")
    scribble(folder / DATABASE)
    with pytest.raises(JournalError, match="cannot write the journal"):
        journal.unlocking(20.0, YES, None)
    with pytest.raises(JournalError):
        journal.check()
    journal.probe()
    journal.check()
    journal.unlocking(30.0, YES, None)
    assert only_event(folder).start_s == 30.0
    assert (folder / "broken-1" / DATABASE).is_file()


def test_a_folder_that_is_removed_while_it_runs_is_told_and_made_anew(begin, folder, write):
    journal = begin()
    write(journal, 10.0, own=0.9)
    folder.rename(folder.with_name("gone"))
    with pytest.raises(JournalError, match="was removed while the door was running"):
        journal.unlocking(20.0, YES, None)
    journal.probe()
    journal.unlocking(30.0, YES, None)
    write(journal, 40.0, other=0.9)
    with Journal.open_read(folder) as reader:
        assert [event.start_s for event in reader.events()] == [30.0, 40.0]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Twelve megabytes of a disk of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting a disk needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return


def test_a_full_disk_keeps_the_door_shut_until_there_is_room(begin, small_disk, write, clock):
    journal = begin(small_disk / "journal")
    latch = RecordingLatch(clock=clock)
    moves: list[Transition] = []

    def moved(transition: Transition) -> None:
        moves.append(transition)
        journal.transition(transition)

    door = Door(latch, options=DoorOptions(), clock=clock, on_transition=moved,
                on_unlock=lambda now_s, verdict: journal.unlocking(now_s, verdict, None))
    door.started()
    write(journal, 10.0, other=0.9)
    journal.check()
    fill(small_disk / "filler")
    clock.now_s = 30.0
    with suppress(JournalError):
        for _ in range(100):  # the write-ahead log has a little room left
            journal.unlocking(clock.now_s, Verdict(True, "own", 0.9, "x" * 4000), None)
    with pytest.raises(JournalError, match="make room"):
        door.consider(YES, clock.now_s)
    assert latch.history[-1][1] == LOCKED
    with pytest.raises(JournalError) as trouble:
        journal.check()
    door.fault(Cause.JOURNAL, str(trouble.value))
    write(journal, 40.0, other=0.9)  # is lost, and nothing raised
    with pytest.raises(JournalError, match=r"needs 8 MB of room, but the disk has 0 MB; make room"):
        journal.probe()
    (small_disk / "filler").unlink()
    journal.probe()
    journal.check()
    door.recover(Cause.JOURNAL)
    clock.now_s = 60.0
    assert door.consider(YES, clock.now_s).unlock
    with Journal.open_read(small_disk / "journal") as reader:
        assert "lost" in [note.kind for note in reader.notes()]
        assert [moved.after for moved in reader.transitions()] == [moved.after.value for moved in moves]
        assert "fault" in [moved.after for moved in reader.transitions()]
        assert reader.events()[-1].start_s == 60.0


def test_a_disk_that_is_full_from_the_start(begin, small_disk, write):
    (small_disk / "journal").mkdir()
    fill(small_disk / "filler")
    journal = begin(small_disk / "journal")
    for attempt in (journal.check, journal.probe, lambda: journal.unlocking(1.0, YES, None)):
        with pytest.raises(JournalError, match=r"make room|is full"):
            attempt()
    journal.transition(move(1.0, DoorState.STARTING, DoorState.FAULT, Cause.JOURNAL))
    (small_disk / "filler").unlink()
    journal.probe()
    journal.check()
    write(journal, 10.0, own=0.9, unlock_at=3)
    with Journal.open_read(small_disk / "journal") as reader:
        assert [moved.after for moved in reader.transitions()] == ["fault"]
        assert set(reader.events()[0].pictures) == {"best", "strip", "data"}
        assert [note.kind for note in reader.notes()] == ["start"]
        assert reader.events()[0].run == reader.notes()[0].id


def test_a_journal_that_recovers_goes_on_where_it_was(begin, folder, stay, clock):
    journal = begin()
    visit = stay(10.0, own=0.9, unlock_at=2, before=lambda visit, now_s, verdict: journal.unlocking(now_s, verdict, visit))
    (folder / PICTURES).write_text("a file where a folder should be")
    clock.now_s = 11.0
    journal.visit(stay(2.0, other=0.9))
    journal.flush()
    journal.transition(move(11.0, DoorState.LOCKED, DoorState.FAULT, Cause.JOURNAL))
    (folder / PICTURES).unlink()
    journal.probe()
    journal.transition(move(12.0, DoorState.FAULT, DoorState.LOCKED, Cause.RECOVERED, "journal"))
    with Journal.open_read(folder) as reader:
        assert [(moved.run, moved.after) for moved in reader.transitions()] == [(1, "fault"), (1, "locked")]
        assert [note.kind for note in reader.notes()] == ["start", "lost"]
    with pytest.raises(JournalError, match="another pawlatch"):
        begin()
    assert visit.unlocked


def test_pictures_that_cannot_be_written_are_told_by_check(begin, folder, stay):
    journal = begin()
    (folder / PICTURES).write_text("a file where a folder should be")
    journal.visit(stay(10.0, own=0.9))
    journal.flush()
    with pytest.raises(JournalError, match="cannot write the journal"):
        journal.check()
    (folder / PICTURES).unlink()
    journal.probe()
    journal.check()
    with Journal.open_read(folder) as reader:
        assert (reader.events()[0].frames, reader.events()[0].pictures) == (12, {})  # the visit itself is there
        assert reader.notes()[-1].detail.startswith("1 pictures of visits: cannot write the journal")


def test_files_that_cannot_grow_are_told_by_check(begin, folder, stay):
    journal = begin()
    visit = stay(10.0, own=0.9)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        journal.visit(visit)
        journal.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with pytest.raises(JournalError, match="cannot write the journal"):
        journal.check()
    with pytest.raises(JournalError):
        journal.unlocking(20.0, YES, None)
    journal.probe()
    journal.check()
    journal.visit(stay(30.0, own=0.9))
    journal.flush()
    with Journal.open_read(folder) as reader:
        assert set(reader.events()[-1].pictures) == {"best", "strip", "data"}
        assert "lost" in [note.kind for note in reader.notes()]


def test_a_visit_that_cannot_be_drawn_is_logged_and_the_next_one_is(begin, folder, write, monkeypatch, caplog):
    def fail(visit):
        raise ValueError("no picture")

    journal = begin()
    with monkeypatch.context() as patch:
        patch.setattr("pawlatch.journal.pack", fail)
        write(journal, 10.0, own=0.9)
    journal.check()
    write(journal, 20.0, own=0.9)
    assert "the pictures of visit 1 cannot be made" in caplog.text
    with Journal.open_read(folder) as reader:
        assert [len(event.pictures) for event in reader.events()] == [0, 3]
        assert reader.notes()[-1].kind == "lost"


def test_a_damaged_file_of_pictures_is_told(begin, folder, write):
    write(begin(), 10.0, own=0.9)
    event = only_event(folder)
    event.pictures["data"].write_bytes(b"PK")
    with Journal.open_read(folder) as reader, pytest.raises(JournalError, match="pictures are lost"):
        reader.visit(event.id)


def test_there_is_no_journal(folder):
    with pytest.raises(JournalError, match="there is no journal in"):
        Journal.open_read(folder)


def test_where_the_journal_lies(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr("pawlatch.journal_options.SERVICE_FOLDER", tmp_path / "service")
    assert JournalOptions().folder == default_folder() == tmp_path / "pawlatch"
    (tmp_path / "service").mkdir()
    assert (JournalOptions().folder, default_folder()) == (tmp_path / "pawlatch", tmp_path / "service")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/door:/var/lib/other")
    assert JournalOptions().folder == Path("/var/lib/door")
