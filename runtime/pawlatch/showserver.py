"""The show's web server: a page, a stream and a snapshot, each for those who know the token only."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import closing, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from pawlatch.stream import CONTENT_TYPE, Viewer, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from pawlatch.show import Show

logger = logging.getLogger(__name__)

CONNECTIONS = 16  # at once; more are hung up on
SILENCE_S = 10.0  # after which a connection that neither asks nor takes is closed
SEND_BUFFER = 1 << 16  # what a slow viewer lags behind at most

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>pawlatch</title>
<style>
  body { margin: 0; min-height: 100vh; display: grid; place-items: center; background: #12141a; }
  img { width: min(100vw, 133vh); max-height: 100vh; object-fit: contain; }
</style>
<img src="stream.mjpg?token=%s" alt="the door's view; it comes with the next frame">
</html>
"""
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'",
}


def open_server(host: str, port: int, show: Show) -> ThreadingHTTPServer:
    """A server that listens already, and answers once its `serve_forever` runs.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    return _Server((host, port), show)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: tuple[str, int], show: Show) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.show = show
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """As the base, without its look-up of the host's name, which may take seconds."""
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._open) >= CONNECTIONS
            if not is_full:
                self._open.add(request)
        if is_full:
            self.shutdown_request(request)
            return
        request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Hang up on everybody."""
        super().server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Viewers come and go; that is not worth a traceback."""
        logger.debug("a viewer of the show was lost", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENCE_S  # of the socket, so of each read and write
    server: _Server
    server_version, sys_version = "pawlatch", ""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        token = self._token(address.query)
        if not self.server.show.is_token(token):
            self._refuse(HTTPStatus.UNAUTHORIZED, "the address needs ?token=, as pawlatch run printed it")
        elif address.path == "/":
            self._send("text/html; charset=utf-8", (PAGE % token).encode())
        elif address.path in ("/stream.mjpg", "/snapshot.jpg"):
            self._watch(self._stream if address.path == "/stream.mjpg" else self._snapshot)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there are /, /stream.mjpg and /snapshot.jpg")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a request line holds the token."""

    def _token(self, query: str) -> str:
        kind, _, bearer = self.headers.get("Authorization", "").partition(" ")
        return bearer.strip() if kind.lower() == "bearer" else parse_qs(query).get("token", [""])[0]

    def _watch(self, give: Callable[[Viewer], None]) -> None:
        viewer = self.server.show.stream.watch()
        if viewer is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many watch; try again later")
            return
        with closing(viewer):
            give(viewer)

    def _snapshot(self, viewer: Viewer) -> None:
        jpeg = viewer.next()
        if jpeg is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "there is no picture yet; try again later")
        else:
            self._send("image/jpeg", jpeg)

    def _stream(self, viewer: Viewer) -> None:
        """Each newest picture; the same once more where none comes, to learn whether anybody is still there."""
        self._start(HTTPStatus.OK, CONTENT_TYPE)
        jpeg: bytes | None = None
        while not viewer.is_over:
            jpeg = viewer.next() or jpeg
            if jpeg is not None and not viewer.is_over:
                self.wfile.write(part(jpeg))

    def _start(self, status: HTTPStatus, kind: str, *, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, kind: str, body: bytes, status: HTTPStatus = HTTPStatus.OK) -> None:
        self._start(status, kind, length=len(body))
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send("text/plain; charset=utf-8", f"{why}\n".encode(), status)
