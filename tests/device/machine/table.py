"""What was checked, and the table of it for the docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that must hold, what was seen, and how long it took in seconds of the desktop."""

    name: str
    ok: bool
    seen: str
    took_s: float


def table(checks: Sequence[Check], *, title: str) -> str:
    """A heading's line and a table in Markdown."""
    head = [title, "", "| what must hold | holds | seen | took |", "| --- | --- | --- | --- |"]
    rows = [f"| {_cell(check.name)} | {'yes' if check.ok else '**no**'} | {_cell(check.seen)} | {check.took_s:.0f} s |" for check in checks]
    return "\n".join([*head, *rows]) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
