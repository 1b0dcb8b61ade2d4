"""The journal's sum for people: as text, and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import cv2

from pawlatch.door import PERSON
from pawlatch.image import Image
from pawlatch.records import Event
from pawlatch.report import STYLE, VisitRow, visit_card
from pawlatch.summary import Row, Summary, is_stranger

CARDS = 60  # visits with pictures on the page: 60 strips make about 3 MB
HEADINGS = ("", "visits", "opens for", "strangers", "after (median)", "(95 %)")


def as_text(summary: Summary) -> str:
    """For a terminal."""
    parts = [_headline(summary), _table("day", summary.days, summary.total), _table("seen as", summary.labels, None)]
    parts += [f"{title}\n" + "\n".join(f"  {line}" for line in lines) for title, lines in _lists(summary) if lines]
    parts.append("\n".join([summary.verdict, *(f"  - {sentence}" for sentence in summary.missing)]))
    return "\n\n".join(parts)


def as_page(summary: Summary, events: Sequence[Event]) -> str:
    """One self-contained HTML page; visits that a person should look at come first."""
    todo = "".join(f"<li>{escape(sentence)}</li>" for sentence in summary.missing)
    lists = "".join(
        f"<h2>{escape(title)}</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for title, lines in _lists(summary) if lines
    )
    shown = _to_look_at(summary, events)
    cards = "".join(visit_card(_visit_row(event)) for event in shown)
    more = "" if len(shown) == summary.total.visits else f", {len(shown)} of {summary.total.visits}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>The door's report</title><style>{STYLE}{TABLES}</style></head><body>
<h1>{escape(summary.verdict)}</h1><p class="summary">{escape(_headline(summary))}</p><ul>{todo}</ul>
<h2>Days</h2>{_html_table(summary.days, summary.total)}
<h2>Seen as</h2>{_html_table(summary.labels, None)}
{lists}
<h2>Visits{more}</h2><div class="visits">{cards}</div>
</body></html>
"""


def _headline(summary: Summary) -> str:
    first, last = (f"{moment:%Y-%m-%d}" for moment in (summary.first, summary.last))
    when = first if first == last else f"{first} to {last}"
    who = " or ".join(summary.unlock) or "nobody"
    did = "opened" if summary.mode == "armed" else "would have opened"
    person = f"; a person opened it {summary.by_person} times" if summary.by_person else ""
    return f"{when}: {summary.total.visits} visits, it {did} in {summary.total.opened} of them; it opens for {who}{person}"


def _lists(summary: Summary) -> list[tuple[str, list[str]]]:
    truth = summary.truth
    labelled = [
        f"{truth.own} own visits: it stays shut in {len(truth.lock_outs)}{_events(truth.lock_outs)}"
    ] if truth.own else []
    labelled += [
        f"{truth.strangers} visits of strangers: it opens in {len(truth.false_unlocks)}{_events(truth.false_unlocks)}; "
        f"in at most {truth.upper:.1%} of such visits, with 95 % confidence"
    ] if truth.strangers else []
    faults = [f"{fault.cause}: {fault.times} times, {fault.seconds / 60:.1f} minutes in all" for fault in summary.faults]
    lockouts = [f"too many strangers: {summary.lockouts} times"] if summary.lockouts else []
    return [
        ("As people labelled them", labelled),
        ("Why it stayed shut (visits)", [f"{count:>5}  {reason}" for reason, count in summary.reasons]),
        ("What the gate refused (frames)", [f"{count:>5}  {name}" for name, count in summary.refusals]),
        ("Faults and lockouts", faults + lockouts),
        ("The journal", list(summary.notes)),
    ]


def _events(ids: Sequence[int]) -> str:
    return f" (events {', '.join(map(str, ids))})" if ids else ""


def _cells(row: Row) -> tuple[str, ...]:
    waits = ("-" if wait is None else f"{wait:.1f} s" for wait in (row.wait_p50_s, row.wait_p95_s))
    return (row.name, str(row.visits), str(row.opened), str(row.strangers), *waits)


def _table(name: str, rows: Sequence[Row], total: Row | None) -> str:
    cells = [(name, *HEADINGS[1:]), *map(_cells, rows), *([_cells(total)] if total is not None else [])]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells)


def _html_table(rows: Sequence[Row], total: Row | None) -> str:
    head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in _cells(row)) for row in [*rows, *([total] if total else [])]]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><tr>{head}</tr>{body}</table>"


def _to_look_at(summary: Summary, events: Sequence[Event]) -> list[Event]:
    """False unlocks, unlocks that nobody labelled, lock-outs; then the newest others."""
    truth = summary.truth
    visits = [event for event in events if event.label != PERSON]
    urgent = (truth.false_unlocks, truth.unlabelled_unlocks, truth.lock_outs)

    def order(event: Event) -> tuple[int, int]:
        rank = next((at for at, ids in enumerate(urgent) if event.id in ids), len(urgent))
        return rank, -event.id

    return sorted(visits, key=order)[:CARDS]


def _visit_row(event: Event) -> VisitRow:
    guess = f"a stranger? ({event.label})" if is_stranger(event) else f"{event.label}?"
    return VisitRow(
        came=f"{event.id}: {event.truth or guess}", start_s=event.start_s, label=event.label, score=event.score,
        unlocked=event.unlocked, reason=event.reason, time_to_unlock_s=event.time_to_unlock_s, picture_bgr=_picture(event),
        when=f"{event.started:%Y-%m-%d %H:%M:%S}", armed=event.door != "would open")


def _picture(event: Event) -> Image | None:
    """The strip, else the best moment; None where the files are gone or were never kept."""
    for kind in ("strip", "best"):
        if kind in event.pictures and (picture := cv2.imread(str(event.pictures[kind]))) is not None:
            return picture  # type: ignore[return-value]
    return None


TABLES = """
table{border-collapse:collapse;background:#fff;border-radius:8px;box-shadow:0 1px 3px #0002;font-size:.9rem}
td,th{padding:.35rem .9rem;text-align:right;border-bottom:1px solid #eee;font-variant-numeric:tabular-nums}
td:first-child,th:first-child{text-align:left}tr:last-child td{border-bottom:0}ul{margin:.4rem 0;padding-left:1.2rem}
"""
