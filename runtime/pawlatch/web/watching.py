"""The door as it is now: its page, the live picture, the machine under it, and what other programs read."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from datetime import datetime

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pawlatch import stream
from pawlatch.errors import JournalError
from pawlatch.web import words
from pawlatch.web.desk import Desk, Form, who
from pawlatch.web.entrance import Entrance
from pawlatch.web.metrics import CONTENT_TYPE, metrics
from pawlatch.web.sessions import Session
from pawlatch.web.visits import Visits

RECENT = 4
PICTURE_S = 5.0


class Watching:
    """Pages that show, and change nothing."""

    def __init__(self, desk: Desk, visits: Visits, entrance: Entrance) -> None:
        self._desk, self._visits, self._entrance = desk, visits, entrance
        self._waits = CapacityLimiter(stream.VIEWERS)  # threads of their own: who watches keeps nobody from acting

    async def door(self, request: Request, session: Session) -> Response:
        """GET /."""
        return self._desk.page("door.html", session, panel=self._desk.panel, events=await self._visits.newest(RECENT),
                               today=datetime.now().astimezone().date())

    async def now(self, request: Request, session: Session) -> Response:
        """GET /now: the part of GET / that changes while one looks at it."""
        return HTMLResponse(self._desk.render("now.html", session=session, panel=self._desk.panel))

    async def live(self, request: Request, session: Session) -> Response:
        """GET /live.mjpg: each newest picture, and the same once more where none comes, to learn who is still there."""
        viewer = self._desk.stream.watch()
        if viewer is None:
            return _full()

        async def pictures() -> AsyncGenerator[bytes, None]:
            jpeg: bytes | None = None
            while not viewer.is_over:
                if self._desk.session_of(request) is not session:  # who is logged out sees no more
                    return
                jpeg = await self._next(viewer) or jpeg
                if jpeg is not None and not viewer.is_over:
                    yield stream.part(jpeg)

        return _Stream(pictures(), viewer)

    async def snapshot(self, request: Request, session: Session) -> Response:
        """GET /live.jpg: one picture."""
        viewer = self._desk.stream.watch()
        if viewer is None:
            return _full()
        try:
            jpeg = await self._next(viewer)
        finally:
            viewer.close()
        return Response(jpeg, 200, None, "image/jpeg") if jpeg else PlainTextResponse("there is no picture yet\n", 503)

    async def machine(self, request: Request, session: Session) -> Response:
        """GET /machine."""
        panel, free = self._desk.panel, await self._desk.in_thread(self._free_bytes)
        try:
            kept: tuple[int, int] | None = await self._desk.read(lambda journal: journal.size())
        except JournalError:
            kept = None
        return self._desk.page(
            "machine.html", session, panel=panel, free=free, kept=kept, sessions=len(self._desk.sessions),
            board=None if panel.board is None else panel.board(),
            update=None if panel.updater is None else panel.updater.status)

    async def install(self, request: Request, session: Session, form: Form) -> Response:
        """POST /install: the newest model."""
        updater = self._desk.panel.updater
        if updater is None:
            session.said = (False, "Nobody looks for newer models here.")
        else:
            await self._desk.in_thread(lambda: updater.install(who(request, session)))
            session.said = (True, "The newer model is being tried; it takes over if it is no worse.")
        return RedirectResponse("/machine", 303)

    async def metrics(self, request: Request) -> Response:
        """GET /metrics, for those with a token."""
        if refusal := self._entrance.bearer(request, "page", "metrics"):
            return refusal
        text = metrics(self._desk.panel, free_bytes=await self._desk.in_thread(self._free_bytes))
        return Response(text, 200, {"Content-Type": CONTENT_TYPE})

    async def healthz(self, request: Request) -> Response:
        """GET /healthz, for everybody, and so no more than whether all is well."""
        panel = self._desk.panel
        is_well = not panel.is_closed and panel.silent_s <= words.SILENT_S and not panel.view.faults
        return PlainTextResponse("ok\n" if is_well else "not ok\n", 200 if is_well else 503)

    def _free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._desk.folder).free
        except OSError:
            return None

    async def _next(self, viewer: stream.Viewer) -> bytes | None:
        return await to_thread.run_sync(lambda: viewer.next(PICTURE_S), limiter=self._waits)


class _Stream(StreamingResponse):
    """However it ends, and be it before the first picture, the viewer makes room at once."""

    def __init__(self, pictures: AsyncGenerator[bytes, None], viewer: stream.Viewer) -> None:
        super().__init__(pictures, media_type=stream.CONTENT_TYPE)
        self._pictures, self._viewer = pictures, viewer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._viewer.close()
            await self._pictures.aclose()


def _full() -> Response:
    return PlainTextResponse("too many watch; try again later\n", 503, {"Retry-After": "10"})
