"""What a person asks of the door. What can open it asks twice: the second click confirms the first, within half a minute."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request as WebRequest
from starlette.responses import RedirectResponse, Response

from pawlatch.panel import Request, Wish
from pawlatch.rules import MODES, Mode
from pawlatch.web.desk import Desk, Form, who
from pawlatch.web.sessions import CONFIRM_S, Session
from pawlatch.web.words import sentence

OPENING = (Wish.UNLOCK, Wish.HOLD_OPEN)


class Asking:
    """Hands wishes to the door's panel."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ask(self, request: WebRequest, session: Session, form: Form) -> Response:
        """POST /ask: `wish`, with `for_s` or `mode`."""
        wanted = _request(form, who(request, session))
        if wanted.wish in OPENING or _arms(wanted):
            session.propose(wanted, self._desk.clock())
            return RedirectResponse("/confirm", 303)
        return await self._done(session, wanted)

    async def confirm_page(self, request: WebRequest, session: Session) -> Response:
        """GET /confirm."""
        pending = session.pending(self._desk.clock())
        if pending is None:
            session.said = (False, "Nothing waits for a second click any more.")
            return RedirectResponse("/", 303)
        return self._desk.page("confirm.html", session, pending=pending, seconds=round(CONFIRM_S))

    async def confirm(self, request: WebRequest, session: Session, form: Form) -> Response:
        """POST /confirm: `confirm`, the one-time word of the form that GET /confirm showed."""
        wanted = session.confirm(form.get("confirm", ""), self._desk.clock())
        if wanted is None:
            session.said = (False, "That came too late, or twice: nothing was done. Ask again.")
            return RedirectResponse("/", 303)
        return await self._done(session, wanted)

    async def _done(self, session: Session, wanted: Request) -> Response:
        answer = await self._desk.in_thread(lambda: self._desk.panel.ask(wanted))
        session.said = (answer.is_done, sentence(answer.text))
        return RedirectResponse("/", 303)


def _arms(wanted: Request) -> bool:
    """An armed door may open by itself from then on."""
    return wanted.wish is Wish.MODE and wanted.mode == MODES[-1]


def _request(form: Form, asker: str) -> Request:
    try:
        wish = Wish(form.get("wish", ""))
        mode: Mode | None = MODES[MODES.index(form.get("mode", ""))] if wish is Wish.MODE else None
        for_s = float(form["for_s"]) if wish in (Wish.HOLD_OPEN, Wish.HOLD_LOCKED) and form.get("for_s") else None
    except ValueError as error:
        raise HTTPException(400, "this is nothing that can be asked of a door") from error
    return Request(wish, asker, for_s, mode)
