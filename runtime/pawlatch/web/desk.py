"""What the parts of the page share: the door's panel, its journal, who is logged in, and how pages are made."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from pawlatch.panel import Panel
from pawlatch.records import JournalReader
from pawlatch.stream import Stream
from pawlatch.web import words
from pawlatch.web.guard import is_from_here, read_form
from pawlatch.web.pauses import Pauses
from pawlatch.web.sessions import Session, Sessions
from pawlatch.web.tokens import Tokens

T = TypeVar("T")
Form = dict[str, str]
Endpoint = Callable[[Request], Awaitable[Response]]

THREADS = 4  # that read the journal, or wait for the door's answer


class Desk:
    """`folder` is the journal's. Everything here but `in_thread`'s work happens in the event loop, and never blocks it."""

    def __init__(self, panel: Panel, folder: Path, stream: Stream, *, is_https: bool,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.panel, self.folder, self.stream, self.clock = panel, folder, stream, clock
        self.tokens, self.sessions, self.pauses = Tokens(folder), Sessions(clock), Pauses(clock)
        self._is_https = is_https
        self._cookie = "__Host-pawlatch" if is_https else "pawlatch"  # a prefix that browsers grant to https alone
        self._threads = CapacityLimiter(THREADS)
        self._pages = Environment(loader=FileSystemLoader(Path(__file__).with_name("templates")), autoescape=True,
                                  undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        self._pages.globals["words"] = words

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do what may take a while."""
        return await to_thread.run_sync(work, limiter=self._threads)

    async def read(self, work: Callable[[JournalReader], T]) -> T:
        """Read in the journal. Raises JournalError."""

        def reading() -> T:
            with JournalReader(self.folder) as journal:
                return work(journal)

        return await self.in_thread(reading)

    def page(self, name: str, session: Session | None = None, *, status: int = 200, **values: Any) -> HTMLResponse:
        """The template `name` as a response."""
        said = None if session is None else session.hear()
        return HTMLResponse(self.render(name, session=session, said=said, status=status, **values), status)

    def render(self, name: str, **values: Any) -> str:
        """The template `name` as text, each value in it escaped."""
        return self._pages.get_template(name).render(view=self.panel.view, **values)

    # ---------------------------------------------------------------------------------------------------- who is there

    def session_of(self, request: Request) -> Session | None:
        """Whose request it is."""
        return self.sessions.find(request.cookies.get(self._cookie), self.tokens.hash("page"))

    def open(self, response: Response) -> None:
        """Let the one who gets this response in."""
        session = self.sessions.begin(self.tokens.hash("page") or "")
        response.set_cookie(self._cookie, session.id, httponly=True, samesite="strict", secure=self._is_https, path="/")

    def forget(self, response: Response) -> None:
        """Let the browser forget its cookie."""
        response.delete_cookie(self._cookie, httponly=True, samesite="strict", secure=self._is_https, path="/")

    def shown(self, act: Callable[[Request, Session], Awaitable[Response]]) -> Endpoint:
        """An endpoint for those who are logged in."""

        async def endpoint(request: Request) -> Response:
            session = self.session_of(request)
            return RedirectResponse("/login", 303) if session is None else await act(request, session)

        return endpoint

    def asked(self, act: Callable[[Request, Session, Form], Awaitable[Response]]) -> Endpoint:
        """An endpoint for a form of this page, sent by those who are logged in."""

        async def endpoint(request: Request) -> Response:
            if self.session_of(request) is None:
                return RedirectResponse("/login", 303)
            if not is_from_here(request.headers):
                raise HTTPException(403, "this form was sent by another page")
            form = await read_form(request)
            session = self.session_of(request)  # once more: it may have ended while the form came in
            if session is None:
                return RedirectResponse("/login", 303)
            if not session.is_form(form.get("form", "")):
                raise HTTPException(403, "this form is not one of this session; open the page again")
            return await act(request, session, form)

        return endpoint


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client is not None else "an unknown address"


def who(request: Request, session: Session) -> str:
    """Who asks, for the journal."""
    return f"the page (session {session.name}, {address_of(request)})"
