"""The journal as the loop sees it: an unlock that cannot be written does not happen; other trouble is told until it is over."""

from __future__ import annotations

from collections.abc import Callable

from pawlatch.decide import Verdict
from pawlatch.errors import JournalError
from pawlatch.journal import Journal
from pawlatch.visit import Visit

PROBE_S = 1.0  # how often a journal that failed is tried again


class Ledger:
    """A journal, and whether it works. `current` gives the visit that is going on; `unlocking` is a door's `on_unlock`.

    `newest` is the event of the last visit that is over; None where it could not be written.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.current: Callable[[], Visit | None] = lambda: None
        self.newest: int | None = None
        self._trouble: str | None = None
        self._probe_s = 0.0

    def unlocking(self, now_s: float, verdict: Verdict) -> None:
        """Write an unlock before it happens. Raises JournalError: then it must not."""
        self.journal.unlocking(now_s, verdict, self.current())

    def visit(self, visit: Visit) -> None:
        """Write a visit that is over."""
        self.newest = self.journal.visit(visit)

    def trouble(self, now_s: float) -> str | None:
        """Why nothing can be written now; None where it can. Call it every turn: about once a second it tries again."""
        try:
            if self._trouble is None:
                self.journal.check()
            elif now_s >= self._probe_s:
                self._probe_s = now_s + PROBE_S
                self.journal.probe()
                self._trouble = None
        except JournalError as error:
            self._trouble, self._probe_s = str(error), max(self._probe_s, now_s + PROBE_S)
        return self._trouble
