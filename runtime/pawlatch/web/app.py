"""What there is on the page, and who may have it: the one table of addresses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pawlatch.errors import JournalError
from pawlatch.web.asking import Asking
from pawlatch.web.desk import Desk, Endpoint
from pawlatch.web.entrance import Entrance
from pawlatch.web.guard import Guard
from pawlatch.web.visits import NUMBER, Visits
from pawlatch.web.watching import Watching

ASSETS = {"page.css": "text/css", "page.js": "text/javascript", "paw.svg": "image/svg+xml"}


class _Number(IntegerConvertor):
    """An event's. Of thousands of digits, which Python refuses to read, a stranger could make errors in the log."""

    regex = NUMBER


register_url_convertor("number", _Number())


def app(desk: Desk, *, names: Iterable[str]) -> ASGIApp:
    """The page as an ASGI application. All but the first block asks for a session; each form (`asked`) for its word too."""
    entrance, asking, visits = Entrance(desk), Asking(desk), Visits(desk)
    watching = Watching(desk, visits, entrance)
    shown, asked = desk.shown, desk.asked

    async def refused(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 503
        why = error.detail if isinstance(error, HTTPException) else str(error)
        return desk.page("refused.html", desk.session_of(request), status=status, why=why)

    return Guard(Starlette(routes=[
        _get("/login", entrance.login_page),
        _post("/login", entrance.login),
        _get("/healthz", watching.healthz),
        _get("/metrics", watching.metrics),
        *(_get(f"/{name}", _asset(name, kind)) for name, kind in ASSETS.items()),

        _get("/", shown(watching.door)),
        _get("/now", shown(watching.now)),
        _get("/live.mjpg", shown(watching.live)),
        _get("/live.jpg", shown(watching.snapshot)),
        _get("/visits", shown(visits.list)),
        _get("/visits/{id:number}", shown(visits.one)),
        _get("/visits/{id:number}/{kind}.jpg", shown(visits.picture)),
        _get("/machine", shown(watching.machine)),
        _get("/confirm", shown(asking.confirm_page)),

        _post("/ask", asked(asking.ask)),
        _post("/confirm", asked(asking.confirm)),
        _post("/visits/{id:number}/label", asked(visits.label)),
        _post("/install", asked(watching.install)),
        _post("/logout", asked(entrance.logout)),
    ], exception_handlers={HTTPException: refused, JournalError: refused}), names=names)


def _get(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["GET"])


def _post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, endpoint, methods=["POST"])


def _asset(name: str, kind: str) -> Endpoint:
    content = (Path(__file__).with_name("assets") / name).read_bytes()

    async def endpoint(request: Request) -> Response:
        return Response(content, media_type=kind)

    return endpoint
