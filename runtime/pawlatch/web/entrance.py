"""Logging in and out."""

from __future__ import annotations

import logging
import math

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from pawlatch.web.desk import Desk, Form, address_of
from pawlatch.web.guard import is_from_here, read_form
from pawlatch.web.sessions import Session
from pawlatch.web.tokens import Kind

logger = logging.getLogger(__name__)


class Entrance:
    """Lets those in who know the token."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def login_page(self, request: Request) -> Response:
        """GET /login."""
        if self._desk.session_of(request) is not None:
            return RedirectResponse("/", 303)
        return self._form()

    async def login(self, request: Request) -> Response:
        """POST /login."""
        if not is_from_here(request.headers):
            return self._form("This form was sent by another page.", status=403)
        token = (await read_form(request)).get("token", "").strip()
        if left_s := self._pause_s(address_of(request)):  # and from here on no await: many at once are one after the other
            response: Response = self._form(f"Too many wrong tokens. Try again in {left_s} s.", status=429)
            response.headers["Retry-After"] = str(left_s)
            return response
        if not self._is_right(token, address_of(request), "page"):
            return self._form("That is not the token.", status=401)
        response = RedirectResponse("/", 303)
        self._desk.open(response)
        logger.info("somebody at %s logged in to the page", address_of(request))
        return response

    async def logout(self, request: Request, session: Session, form: Form) -> Response:
        """POST /logout: this session, or with `all` each one."""
        self._desk.sessions.end_all() if "all" in form else self._desk.sessions.end(session)
        response = RedirectResponse("/login", 303)
        self._desk.forget(response)
        return response

    def bearer(self, request: Request, *kinds: Kind) -> Response | None:
        """Why a script's `Authorization: Bearer` is refused; None where it holds one of these tokens."""
        if left_s := self._pause_s(address_of(request)):
            return PlainTextResponse("too many wrong tokens\n", 429, {"Retry-After": str(left_s)})
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_right(token.strip(), address_of(request), *kinds):
            return None
        return PlainTextResponse("a token is needed: Authorization: Bearer …, from `pawlatch web token --metrics`\n", 401,
                                 {"WWW-Authenticate": "Bearer"})

    def _is_right(self, token: str, address: str, *kinds: Kind) -> bool:
        is_right = self._desk.tokens.is_token(token, *kinds)
        if is_right:
            self._desk.pauses.right(address)
        else:
            self._desk.pauses.wrong(address)
            logger.warning("a wrong token from %s", address)  # those in a pause are not looked at, nor told of
        return is_right

    def _pause_s(self, address: str) -> int:
        return math.ceil(self._desk.pauses.left_s(address))

    def _form(self, trouble: str | None = None, *, status: int = 200) -> Response:
        has_token = self._desk.tokens.hash("page") is not None
        return self._desk.page("login.html", status=status, trouble=trouble, has_token=has_token)
