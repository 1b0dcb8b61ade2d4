from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pawlatch.cli import main
from pawlatch.decide import Verdict
from pawlatch.door import PERSON, Cause, DoorState, Transition
from pawlatch.journal import Journal, JournalOptions, Setting
from pawlatch.photos import list_splits, read_photos
from pawlatch.stats import binomial_upper

DAY_S = 86400.0
NOON = datetime(2026, 11, 23, 12).astimezone()


def setting(mode: str = "observe", unlock: tuple[str, ...] = ("own",)) -> Setting:
    return Setting(mode, "garden", "int8", "0" * 64, unlock, "evidence", {})


class Book:
    """A journal to fill by hand."""

    def __init__(self, folder: Path, clock, stay) -> None:
        self.folder, self._clock, self._stay = folder, clock, stay
        self.journal = Journal(JournalOptions(folder=folder), clock=clock, wall=lambda: NOON + timedelta(seconds=clock()))
        self.journal.describe(setting())

    def visit(self, start_s: float, **how: object) -> None:
        """A visit that begins `start_s` after noon."""
        def unlocking(visit, now_s, verdict):
            self._clock.now_s = now_s
            self.journal.unlocking(now_s, verdict, visit)

        visit = self._stay(start_s, before=unlocking, **how)
        self._clock.now_s = visit.end_s
        self.journal.visit(visit)
        self.journal.flush()

    def move(self, time_s: float, before: DoorState, after: DoorState, cause: Cause, detail: str = "") -> None:
        self._clock.now_s = time_s
        self.journal.transition(Transition(time_s, before, after, cause, detail, armed=False))


@pytest.fixture
def book(tmp_path, clock, stay) -> Iterator[Book]:
    book = Book(tmp_path / "journal", clock, stay)
    yield book
    book.journal.close()


@pytest.fixture
def run(book, capsys) -> Callable[..., tuple[int, str, str]]:
    """`run("events", "--json")`: status, what was printed, and what was complained of; while the door writes."""

    def call(command: str, *arguments: object) -> tuple[int, str, str]:
        try:
            status = main([command, "--journal", str(book.folder), *map(str, arguments)])
        except SystemExit as exit:
            status = int(exit.code or 0)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return call


@pytest.fixture
def three(book) -> Book:
    """The own animal at noon, a stranger an hour after, the own animal a day later."""
    book.visit(0.0, own=0.9, unlock_at=3)
    book.visit(3600.0, other=0.8)
    book.visit(DAY_S, own=0.7, unlock_at=5)
    return book


def test_events_are_listed(run, three):
    status, printed, _ = run("events")
    assert status == 0
    assert [re.split(r"\s{2,}", line) for line in printed.splitlines()] == [
        ["event", "when", "seen as", "it was", "the door", "after", "why"],
        ["1", "2026-11-23 12:00:00", "own 0.90", "-", "would open", "0.3 s", "after 3 frames"],
        ["2", "2026-11-23 13:00:00", "other 0.80", "-", "stayed shut", "-", "after 11 frames"],
        ["3", "2026-11-24 12:00:00", "own 0.70", "-", "would open", "0.5 s", "after 5 frames"],
    ]
    assert len(run("events", "--limit", 1)[1].splitlines()) == 2


@pytest.mark.parametrize(("filters", "ids"), [
    ([], [1, 2, 3]), (["--unlocked"], [1, 3]), (["--seen", "other"], [2]), (["--since", "2026-11-23T12:30"], [2, 3]),
    (["--since", "2026-11-23", "--until", "2026-11-24"], [1, 2]), (["--limit", "2"], [2, 3]), (["3", "1"], [1, 3]),
    (["--since", "30000d"], [1, 2, 3]), (["--seen", "tom"], []),
])
def test_events_are_filtered(run, three, filters, ids):
    assert [row["event"] for row in json.loads(run("events", "--json", *filters)[1])] == ids


def test_events_are_exported(run, three, tmp_path):
    assert run("events", "--csv", tmp_path / "events.csv")[0] == 0
    with (tmp_path / "events.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = json.loads(run("events", "--json")[1])[0]
    assert [row["event"] for row in rows] == ["1", "2", "3"]
    assert rows[0] == {key: "" if value is None else str(value) for key, value in first.items()}
    assert (first["label"], first["unlocked"], first["time_to_unlock_s"], first["duration_s"]) == ("own", True, 0.3, 1.1)
    status, printed, _ = run("events", "--pictures", tmp_path / "pictures")
    assert (status, printed) == (0, f"6 pictures saved in {tmp_path / 'pictures'}\n")
    assert len([photo for photo in (tmp_path / "pictures").iterdir() if photo.read_bytes().startswith(b"\xff\xd8")]) == 6
    assert "0 pictures saved" in run("events", "--pictures", tmp_path / "pictures")[1]


def test_labelled_events_become_photos_to_train_with(run, three, tmp_path):
    photos = tmp_path / "photos"
    status, printed, _ = run("events", "--label", "rex", 1, 3, "-o", photos)
    assert (status, printed.splitlines()[0]) == (0, "2 events labelled rex")
    run("events", "--label", "_other", 2)
    status, printed, _ = run("events", "-o", photos)
    assert "there already" in printed
    found = list_splits(photos)[""]
    assert {photo.label for photo in found} == {"rex", "_other"}
    assert len(list(read_photos(found, []))) == len(found) > 9
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*.jpg")}
    status, printed, _ = run("events", "-o", photos)
    assert "0 photos saved" in printed
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*.jpg")} == before
    assert [row["truth"] for row in json.loads(run("events", "--json")[1])] == ["rex", "_other", "rex"]


def test_unlabelled_events_are_counted_and_not_written(run, three, tmp_path):
    status, printed, _ = run("events", "-o", tmp_path / "photos")
    assert (status, printed.splitlines()) == (
        0, [f"0 photos saved in {tmp_path / 'photos'}", "3 events without a label: pawlatch events --label NAME EVENT ..."])
    assert not (tmp_path / "photos").exists()


def test_a_label_that_was_changed_is_told_where_its_photos_lie(run, three, tmp_path):
    run("events", "--label", "rex", 1, "-o", tmp_path / "photos")
    status, _, complaint = run("events", "--label", "tom", 1, "-o", tmp_path / "photos")
    assert status == 1
    assert complaint == (f"pawlatch: this visit had another label before; remove {tmp_path}/photos/rex/"
                         "20261123-120000-1-*\n")


def test_photos_in_splits_go_where_train_looks(run, three, tmp_path):
    (tmp_path / "photos" / "train").mkdir(parents=True)
    run("events", "--label", "rex", 1, "-o", tmp_path / "photos")
    assert {photo.label for photo in list_splits(tmp_path / "photos")["train"]} == {"rex"}


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["--label", "rex"], "--label needs the events"),
    (["--label", "a/b", "1"], "usable as a folder's name"),
    (["--label", "train", "1"], "usable as a folder's name"),
    (["--label", "rex", "99"], "no event 99"),
    (["99"], "no event 99"),
    (["--since", "yesterday"], "2026-11-01"),
    (["--limit", "0"], "whole number from 1 up"),
    (["--csv", "/proc/nowhere/events.csv"], "cannot write"),
])
def test_bad_use_ends_with_status_2(run, three, arguments, complaint):
    status, _, told = run("events", *arguments)
    assert (status, complaint in told) == (2, True), told
    assert [row["truth"] for row in json.loads(run("events", "--json")[1])] == [None, None, None]


def test_there_is_no_journal(tmp_path, capsys):
    assert main(["events", "--journal", str(tmp_path)]) == 2
    assert main(["report", "--journal", str(tmp_path)]) == 2
    assert "there is no journal in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# the report


def summed(run) -> dict:
    status, printed, _ = run("report", "--json")
    assert status == 0
    return json.loads(printed)


def test_the_report_sums_an_observed_time_up(run, three):
    three.visit(DAY_S + 60, own=0.6)
    three.journal.unlocking(DAY_S + 99, Verdict(True, PERSON, 1.0, "held open by Ann"), None)
    told = summed(run)
    assert [(day["name"], day["visits"], day["opened"], day["strangers"]) for day in told["days"]] == [
        ("2026-11-23", 2, 1, 1), ("2026-11-24", 2, 1, 0)]
    assert [(label["name"], label["visits"], label["opened"]) for label in told["labels"]] == [("other", 1, 0), ("own", 3, 2)]
    assert told["total"]["wait_p50_s"] == pytest.approx(0.4)
    assert told["total"]["wait_p95_s"] == pytest.approx(0.49)
    assert told["by_person"] == 1
    assert dict(told["refusals"]) == {"blurred": 8}
    assert dict(told["reasons"]) == {"after … frames": 2}
    assert told["verdict"] == "Not ready to be armed yet."
    printed = run("report")[1]
    assert "it would have opened in 2 of them; it opens for own; a person opened it 1 times" in printed
    assert "nobody has said who came in 2 visits for which it opens, as in 1, 3" in printed


def test_the_report_bounds_false_unlocks_by_what_people_say(run, book):
    for index in range(8):
        book.visit(100.0 * index, own=0.9, unlock_at=3)
    run("events", "--label", "own", 1, 2, 3)
    run("events", "--label", "tom", 4)
    book.visit(1000.0, other=0.9)
    run("events", "--label", "_other", 9)
    book.visit(1100.0, other=0.9)
    run("events", "--label", "own", 10)
    truth = summed(run)["truth"]
    assert (truth["own"], truth["strangers"], truth["false_unlocks"], truth["lock_outs"], truth["unlabelled_unlocks"]) == (
        4, 2, [4], [10], [5, 6, 7, 8])
    assert truth["upper"] == binomial_upper(1, 2)
    assert "it opened for strangers in events 4" in run("report")[1]


def test_the_report_says_when_it_is_ready_and_what_is_missing(run, book):
    for index in range(20):
        book.visit(DAY_S * (index % 4) + 1000.0 * index, own=0.9, unlock_at=3, frames=6)
        book.visit(DAY_S * (index % 4) + 1000.0 * index + 500, other=0.9, frames=6)
    run("events", "--label", "own", "--seen", "own")
    run("events", "--label", "_other", "--seen", "other")
    told = summed(run)
    assert (told["missing"], told["verdict"]) == ([], 'Ready to be armed: set mode = "armed" in door.toml.')
    run("events", "--label", "_other", 1)
    assert "it opened for strangers in events 1:" in summed(run)["missing"][0]
    book.journal.describe(setting("armed"))
    book.visit(5 * DAY_S, other=0.9)
    assert summed(run)["verdict"] == "The door is armed, and should not be yet."
    book.journal.describe(setting(unlock=()))
    book.visit(5 * DAY_S + 100, other=0.9)
    assert "no label that unlocks" in summed(run)["missing"][0]


def test_the_report_counts_faults_by_how_long_they_lasted(run, three):
    three.move(DAY_S + 100, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA, "black")
    three.move(DAY_S + 110, DoorState.FAULT, DoorState.FAULT, Cause.JOURNAL, "full")
    three.move(DAY_S + 130, DoorState.FAULT, DoorState.FAULT, Cause.RECOVERED, Cause.CAMERA.value)
    three.move(DAY_S + 170, DoorState.FAULT, DoorState.LOCKED, Cause.RECOVERED, Cause.JOURNAL.value)
    three.move(DAY_S + 200, DoorState.LOCKED, DoorState.LOCKOUT, Cause.STRANGERS)
    three.move(DAY_S + 300, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA, "stalled")
    three.move(DAY_S + 400, DoorState.FAULT, DoorState.LOCKED, Cause.RECOVERED, Cause.CAMERA.value)
    told = summed(run)
    assert told["faults"] == [{"cause": "camera", "times": 2, "seconds": 130.0}, {"cause": "journal", "times": 1, "seconds": 60.0}]
    assert told["lockouts"] == 1
    three.move(DAY_S + 500, DoorState.LOCKED, DoorState.FAULT, Cause.CAMERA, "stalled")
    three.move(DAY_S + 9500, DoorState.FAULT, DoorState.FAULT, Cause.LATCH, "jammed")
    assert "camera: locked for 2.5 hours by 3 faults; `pawlatch doctor` tells more" in summed(run)["missing"][-1]


def test_the_reports_page_shows_the_visits(run, three, tmp_path):
    run("events", "--label", "<rex>", 1)
    assert run("report", "--html", tmp_path / "report.html")[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert page.count("<article") == page.count('src="data:image/jpeg;base64,') == 3
    assert "would have opened after 0.3 s" in page
    assert "&lt;rex&gt;" in page
    assert "<rex>" not in page
