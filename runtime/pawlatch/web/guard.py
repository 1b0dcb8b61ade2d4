"""What every request must pass: the right Host, small bodies, forms from this page alone. And the headers of every response."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES, BODY_S, FIELDS = 4096, 10.0, 16
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; "
                               "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would say `Origin: null` of our own forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9.-]+))(?::\d{1,5})?")


class Guard:
    """An ASGI application around another one. `names` are those by which this machine may be asked for."""

    def __init__(self, app: ASGIApp, *, names: Iterable[str]) -> None:
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), f"{socket.gethostname().lower()}.local", *names}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if message["status"] in (408, 413):  # what is left of the body is not waited for
                    headers["Connection"] = "close"
            await send(message)

        if self.is_ours(Request(scope).headers.get("host", "")):
            await self._app(scope, receive, guarded)
        else:
            refusal = PlainTextResponse("this name is not the door's; add it to names below [web] in door.toml\n", 421)
            await refusal(scope, receive, guarded)

    def is_ours(self, host: str) -> bool:
        """Whether a Host is one of our names, or an address in digits: those no stranger's name server can make its own."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        return match["six"] is not None or match["name"] in self._names or _is_address(match["name"])


def _is_address(name: str) -> bool:
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def is_from_here(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a form was sent from this page, and not from another one.

    Each browser says so by one of the two headers at least; what says neither is no browser, and has no cookie to abuse.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    return site in (None, "same-origin", "none") and (origin is None or origin.partition("://")[2] == headers.get("host"))


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a small form.

    Raises:
        HTTPException: it is too big, too slow, or no form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise HTTPException(415, "a form is expected")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > BODY_BYTES:
                    raise HTTPException(413, f"a form has at most {BODY_BYTES} bytes")
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS))
    except TimeoutError as error:
        raise HTTPException(408, f"a form comes within {BODY_S:g} s") from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the form was cut off") from error
    except ValueError as error:
        raise HTTPException(400, "this is no form") from error
