"""The visits in the journal: listed, shown, and labelled by a person for the next training."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pawlatch.errors import JournalError
from pawlatch.records import Event, JournalReader
from pawlatch.schema import PICTURES, write_truth
from pawlatch.web import words
from pawlatch.web.desk import Desk, Form
from pawlatch.web.sessions import Session

PER_PAGE = 12
KINDS = ("best", "strip")
NUMBER = "[0-9]{1,18}"  # of an event; SQLite's end at 2**63


@dataclass(frozen=True)
class Filter:
    """Which visits; as a query it goes from page to page. `before` is the event that the page before ended with."""

    seen: str = ""
    door: str = ""  # "unlocked" or "shut"
    truth: str = ""  # "labelled" or "open"
    day: date | None = None
    before: int | None = None

    @classmethod
    def of(cls, query: QueryParams) -> Filter:
        """What a query says; what it says wrongly is left out."""
        before = query.get("before", "")
        day: date | None = None
        with suppress(ValueError, OverflowError):
            wanted = date.fromisoformat(query.get("day", ""))
            day = wanted if _bounds(wanted)[0].timestamp() >= 0 else None
        return cls(query.get("seen", ""), query.get("door", ""), query.get("truth", ""), day,
                   int(before) if re.fullmatch(NUMBER, before) else None)

    @property
    def query(self) -> str:
        """The same as a query."""
        return urlencode({name: value for name, value in vars(self).items() if value})

    @property
    def is_empty(self) -> bool:
        """Whether it lets all through."""
        return replace(self, before=None) == Filter()

    def events(self, journal: JournalReader, *, limit: int) -> list[Event]:
        """Newest first."""
        since, until = (None, None) if self.day is None else _bounds(self.day)
        found = journal.events(
            since=since, until=until, seen=self.seen or None, unlocked={"unlocked": True, "shut": False}.get(self.door),
            labelled={"labelled": True, "open": False}.get(self.truth), before=self.before, limit=limit)
        return found[::-1]


class Visits:
    """Pages of visits."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def newest(self, count: int) -> list[Event]:
        """The last visits, newest first; none where there is no journal yet."""
        try:
            return await self._desk.read(lambda journal: Filter().events(journal, limit=count))
        except JournalError:
            return []

    async def list(self, request: Request, session: Session) -> Response:
        """GET /visits."""
        wanted = Filter.of(request.query_params)
        found = await self._desk.read(lambda journal: wanted.events(journal, limit=PER_PAGE + 1))
        events = found[:PER_PAGE]
        older = replace(wanted, before=events[-1].id).query if len(found) > PER_PAGE else None
        return self._page("visits.html", session, events=events, wanted=wanted, older=older)

    async def one(self, request: Request, session: Session) -> Response:
        """GET /visits/{id}."""
        number = _number(request)
        event = await self._desk.read(lambda journal: _event(journal, number))
        try:
            visit = await self._desk.read(lambda journal: journal.visit(event.id))
        except JournalError:  # its file is damaged; its row is not
            visit = None
        return self._page("visit.html", session, event=event, visit=visit, wanted=Filter())

    async def label(self, request: Request, session: Session, form: Form) -> Response:
        """POST /visits/{id}/label: `label`, one of those that the page offers."""
        number, label = _number(request), form.get("label", "")
        event = await self._desk.read(lambda journal: _event(journal, number))
        if label not in words.choices(self._desk.panel.view, event):
            raise HTTPException(400, "this is none of the labels")
        await self._desk.in_thread(lambda: write_truth(self._desk.folder, {number: label}))
        session.said = (True, f"Visit {number} was {words.label(label)}.")
        if form.get("back") == "visit":
            return RedirectResponse(f"/visits/{number}", 303)
        query = Filter.of(QueryParams(form.get("query", ""))).query
        return RedirectResponse("/" if form.get("back") == "door" else f"/visits?{query}#visit-{number}", 303)

    async def picture(self, request: Request, session: Session) -> Response:
        """GET /visits/{id}/best.jpg and strip.jpg."""
        number, kind = _number(request), request.path_params["kind"]
        if kind not in KINDS:
            raise HTTPException(404)
        return Response(await self._desk.read(lambda journal: _picture(journal, number, kind)), 200, None, "image/jpeg")

    def _page(self, name: str, session: Session, **values: Any) -> Response:
        return self._desk.page(name, session, today=datetime.now().astimezone().date(), **values)


def _bounds(day: date) -> tuple[datetime, datetime]:
    """Its midnights, by the local clock. Raises ValueError or OverflowError of one that no clock shows."""
    first, next_one = datetime.combine(day, time()), datetime.combine(day + timedelta(days=1), time())
    return first.astimezone(), next_one.astimezone()


def _number(request: Request) -> int:
    number: int = request.path_params["id"]
    return number


def _event(journal: JournalReader, number: int) -> Event:
    try:
        return journal.events(ids=[number])[0]
    except JournalError as error:
        raise HTTPException(404, str(error)) from error


def _picture(journal: JournalReader, number: int, kind: str) -> bytes:
    """The file that the journal names, and none outside its folder, whatever it names."""
    path = _event(journal, number).pictures.get(kind)
    folder = (journal.folder / PICTURES).resolve()
    try:
        if path is None or path.resolve().parent != folder:
            raise HTTPException(404)
        return path.read_bytes()
    except OSError as error:
        raise HTTPException(404) from error
