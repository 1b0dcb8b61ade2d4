"""`pawlatch events`, what the journal holds, and `pawlatch report`, what it amounts to."""

from __future__ import annotations

import argparse
import csv
import io
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pawlatch.commands.arguments import whole
from pawlatch.door import PERSON
from pawlatch.errors import JournalError, OutputError
from pawlatch.files import write_atomic
from pawlatch.journal import Journal, default_folder
from pawlatch.keepsake import to_json
from pawlatch.photos import SPLITS
from pawlatch.records import Event, JournalReader
from pawlatch.schema import write_truth

LISTED = 40
SPANS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def events(argv: list[str]) -> int:
    """List, export and label what the journal holds."""
    parser = _parser("events", "The visits in the journal: list them, export them, and say who came, for the next training.")
    parser.add_argument("events", nargs="*", type=whole, metavar="EVENT", help="only these, by their numbers")
    parser.add_argument("--seen", metavar="LABEL", help="only those that the model took for LABEL")
    parser.add_argument("--unlocked", action="store_true", help="only those for which the door opened, or would have")
    parser.add_argument("--limit", type=whole, metavar="N", help=f"the newest N (a table: {LISTED})")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write them as a table for spreadsheets")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="copy the best picture and the strip of each into DIR")
    parser.add_argument("--label", type=_label, metavar="NAME", help="say who it was: an animal's label, _other or _empty")
    parser.add_argument("-o", "--output", type=Path, metavar="photos/",
                        help="write the crops of those with a label into photos/LABEL/, for `train`")
    args = parser.parse_args(argv)
    if args.label and not (args.events or args.seen or args.unlocked or args.since or args.until):
        parser.error("--label needs the events it is said of: --label NAME EVENT ...")
    with Journal.open_read(args.journal) as journal:
        chosen = _chosen(journal, args)
        if args.label:
            write_truth(args.journal, {event.id: args.label for event in chosen})
            chosen = _chosen(journal, args)
        status = 0
        if args.csv is not None:
            write_atomic(args.csv, _csv(chosen))
        if args.pictures is not None:
            _report_saved(_copy_pictures(chosen, args.pictures), "picture", args.pictures)
        if args.label:
            print(f"{len(chosen)} event{'' if len(chosen) == 1 else 's'} labelled {args.label}")
        if args.output is not None:
            status = _write_photos(journal, chosen, args.output)
        if args.json:
            print(to_json([_row(event) for event in chosen]))
        elif not (args.csv or args.pictures or args.label or args.output):
            print(_table(chosen, limit=args.limit or LISTED))
    return status


def report(argv: list[str]) -> int:
    """Sum the journal up: is the door ready to be armed?"""
    from pawlatch.commands.summary import as_page, as_text  # they need more than a list of events does
    from pawlatch.summary import summarize

    parser = _parser("report", "What the door did, or would have done, and whether it is ready to be armed.")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the visits' pictures")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    args = parser.parse_args(argv)
    with Journal.open_read(args.journal) as journal:
        found = journal.events(since=args.since, until=args.until)
        if not found:
            raise JournalError(f"the journal in {args.journal} holds no visit of that time; let `pawlatch run` watch first")
        moves = journal.transitions(since=args.since, until=args.until)
        summary = summarize(found, moves, [note for note in journal.notes() if _is_within(note.at, args)])
        if args.html is not None:
            write_atomic(args.html, as_page(summary, found))
    print(to_json(asdict(summary) | {"verdict": summary.verdict}) if args.json else as_text(summary))
    return 0


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"pawlatch {name}", description=description)
    parser.add_argument("--journal", type=Path, default=default_folder(), metavar="DIR", help="its folder (here: %(default)s)")
    parser.add_argument("--since", type=_moment, metavar="WHEN", help="2026-11-01, 2026-11-01T18:30, or 36h, 7d, 2w ago")
    parser.add_argument("--until", type=_moment, metavar="WHEN", help="up to then")
    return parser


def _chosen(journal: JournalReader, args: argparse.Namespace) -> list[Event]:
    return journal.events(since=args.since, until=args.until, seen=args.seen, unlocked=True if args.unlocked else None,
                          ids=args.events, limit=args.limit)


def _is_within(moment: datetime, args: argparse.Namespace) -> bool:
    return (args.since is None or moment >= args.since) and (args.until is None or moment < args.until)


def _moment(text: str) -> datetime:
    """A local day or time, or so long ago."""
    now = datetime.now().astimezone()
    try:
        if ago := re.fullmatch(r"(\d{1,6})([mhdw])", text):
            return now - timedelta(**{SPANS[ago[2]]: int(ago[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"must be as 2026-11-01, 2026-11-01T18:30, 36h, 7d or 2w, got {text!r}") from error


def _label(text: str) -> str:
    """A label is a folder's name."""
    label = unicodedata.normalize("NFC", text.strip())
    if not label or label.startswith(".") or re.search(r"[/\\\x00-\x1f]", label) or label in SPLITS:
        raise argparse.ArgumentTypeError(f"must be usable as a folder's name, and no {', '.join(SPLITS)}; got {text!r}")
    return label


def _table(chosen: Sequence[Event], *, limit: int) -> str:
    if not chosen:
        return "no event"
    shown = chosen[-limit:]
    rows = [("event", "when", "seen as", "it was", "the door", "after", "why"), *(_cells(event) for event in shown)]
    widths = [max(_width(row[column]) for row in rows) for column in range(6)]
    lines = ["  ".join([*(_padded(cell, width) for cell, width in zip(row, widths, strict=False)), row[6]]) for row in rows]
    if len(shown) < len(chosen):
        lines.append(f"and {len(chosen) - len(shown)} before; --limit N shows more")
    return "\n".join(lines)


def _cells(event: Event) -> tuple[str, ...]:
    after = "-" if event.time_to_unlock_s is None else f"{event.time_to_unlock_s:.1f} s"
    who = "a person" if event.label == PERSON else f"{event.label} {event.score:.2f}"
    return (str(event.id), f"{event.started:%Y-%m-%d %H:%M:%S}", who, event.truth or "-",
            event.door + (" (cut short)" if event.end_s is None else ""), after, event.reason)


def _width(text: str) -> int:
    """Columns of a terminal: East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _row(event: Event) -> dict[str, Any]:
    setting, wait_s = event.setting, event.time_to_unlock_s
    return {
        "event": event.id,
        "started": event.started.isoformat(timespec="milliseconds"),
        "duration_s": None if event.end_s is None else round(event.end_s - event.start_s, 3),
        "frames": event.frames,
        "label": event.label,
        "score": round(event.score, 6),
        "truth": event.truth,
        "mode": event.mode,
        "unlocked": event.unlocked,
        "time_to_unlock_s": None if wait_s is None else round(wait_s, 3),
        "reason": event.reason,
        "bundle": setting and setting.bundle,
        "variant": setting and setting.variant,
        "policy": setting and setting.policy,
    }


COLUMNS = ("event", "started", "duration_s", "frames", "label", "score", "truth", "mode", "unlocked", "time_to_unlock_s",
           "reason", "bundle", "variant", "policy")


def _csv(chosen: Sequence[Event]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(map(_row, chosen))
    return text.getvalue()


def _name(event: Event) -> str:
    """The same for the same visit, always, and for no visit of another door."""
    return f"{event.started:%Y%m%d-%H%M%S}-{event.id}"


def _copy_pictures(chosen: Sequence[Event], folder: Path) -> list[bool]:
    _make(folder)
    return [
        _save(folder / f"{_name(event)}-{_label_in_name(event)}-{kind}.jpg", event.pictures[kind].read_bytes())
        for event in chosen for kind in ("best", "strip") if kind in event.pictures and event.pictures[kind].is_file()
    ]


def _label_in_name(event: Event) -> str:
    return re.sub(r"[^\w.-]+", "-", event.truth or event.label)


def _write_photos(journal: JournalReader, chosen: Sequence[Event], folder: Path) -> int:
    """The crops of labelled events as photos; status 1 where some lie in another label's folder from before."""
    root = folder / "train" if (folder / "train").is_dir() else folder  # beside splits, other folders are not read
    saved: list[bool] = []
    elsewhere: set[str] = set()
    labelled = [event for event in chosen if event.truth is not None]
    for event in labelled:
        into = root / str(event.truth)
        crops = journal.visit(event.id).crops
        if crops:
            _make(into)
        for position, data in crops:
            path = into / f"{_name(event)}-{position:04d}.jpg"
            elsewhere |= {f"{other.parent / _name(event)}-*" for other in root.glob(f"*/{path.name}") if other != path}
            saved.append(_save(path, data))
    _report_saved(saved, "photo", folder)
    if without := len(chosen) - len(labelled):
        print(f"{without} event{'' if without == 1 else 's'} without a label: pawlatch events --label NAME EVENT ...")
    for pattern in sorted(elsewhere):
        print(f"pawlatch: this visit had another label before; remove {pattern}", file=sys.stderr)
    return 1 if elsewhere else 0


def _save(path: Path, data: bytes) -> bool:
    """False where it is there already."""
    if path.exists():
        return False
    write_atomic(path, data)
    return True


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; name another") from error


def _report_saved(saved: Sequence[bool], thing: str, folder: Path) -> None:
    new, there = sum(saved), len(saved) - sum(saved)
    print(f"{new} {thing}{'' if new == 1 else 's'} saved in {folder}" + (f", {there} were there already" if there else ""))
