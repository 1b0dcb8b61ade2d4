"""What the door sees, in a browser: the overlay as motion JPEG, for a machine without a screen.

The loop only leaves its newest picture here. It is drawn and encoded in a thread of its own, and only while somebody watches.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import cv2

from pawlatch.errors import ConfigError, OutputError
from pawlatch.image import Image

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "PAWLATCH_SHOW_TOKEN"
LOCAL_HOSTS = ("127.0.0.1", "::1", "localhost")
VIEWERS = 4  # who may watch at once
JPEG_QUALITY = 80
_JOIN_S = 2.0


@dataclass(frozen=True)
class ShowOptions:
    """Whether and where the door's view can be watched.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    # 1 to 65535: the page is served there (0: on any free port); absent: it is not served
    port: int | None = None
    # the address it listens on; only this machine can see 127.0.0.1, the whole network 0.0.0.0 (unencrypted)
    host: str = "127.0.0.1"
    # what a viewer must know, 8 to 128 letters, digits, - and _; absent: what PAWLATCH_SHOW_TOKEN says, else a new one a start
    token: str | None = None
    # pictures a second at most, 0.2 to 30
    fps: float = 5.0

    def __post_init__(self) -> None:
        if self.port is not None and not 0 <= self.port <= 65535:
            raise ConfigError(f"port must be 1 to 65535, or 0 for any free one, got {self.port}")
        if not self.host:
            raise ConfigError('host must be an address of this machine, got ""; write 127.0.0.1')
        if self.token is not None:
            _checked(self.token, "token")
        if not 0.2 <= self.fps <= 30:
            raise ConfigError(f"fps must be 0.2 to 30 pictures a second, got {self.fps:g}")


def show_address(text: str) -> tuple[str, int]:
    """Host and port of `[HOST:]PORT`, as in `8080`, `0.0.0.0:8080` or `[::1]:8080`.

    Raises:
        ConfigError: it is neither.
    """
    match = re.fullmatch(r"(?:(?:\[([0-9A-Fa-f:.]+)\]|([^:\s]+)):)?(\d{1,5})", text)
    if match is None or int(match[3]) > 65535:
        raise ConfigError(f"expected PORT or HOST:PORT as in 8080 or 0.0.0.0:8080, got {text!r}")
    return match[1] or match[2] or ShowOptions.host, int(match[3])


class Show:
    """Serves pictures until it is closed; a context manager. `url` holds the token: for a terminal, not for a log.

    Raises:
        ConfigError: no port is given, or PAWLATCH_SHOW_TOKEN is no token.
        OutputError: the address cannot be listened on.
    """

    def __init__(self, options: ShowOptions) -> None:
        import secrets  # with http.server, 30 ms that a door without a show does not need

        from pawlatch.showserver import open_server

        if options.port is None:
            raise ConfigError("a show needs a port; name one with --show PORT")
        self._fps = options.fps
        self._token = options.token or _from_environment() or secrets.token_urlsafe(16)
        self._same = secrets.compare_digest
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._picture: Callable[[], Image] | None = None
        self._drawn: Callable[[], Image] | None = None
        self._jpeg: bytes | None = None
        self._viewers = 0
        try:
            self._server = open_server(options.host, options.port, self)
        except OSError as error:
            raise OutputError(f"cannot serve the show on {options.host}:{options.port}: {error.strerror}; name another place "
                              "with --show [HOST:]PORT") from error
        host = f"[{options.host}]" if ":" in options.host else options.host
        self.address = f"http://{host}:{self._server.server_address[1]}/"
        self.url = f"{self.address}?token={self._token}"
        logger.info("the show is on %s", self.address)
        if options.host not in LOCAL_HOSTS:
            logger.warning("the show is on the network, unencrypted: whoever reads along learns its token")
        self._threads = [threading.Thread(target=self._serve, name="show", daemon=True),
                         threading.Thread(target=self._encode, name="show's encoder", daemon=True)]
        for thread in self._threads:
            thread.start()

    def publish(self, picture: Callable[[], Image]) -> None:
        """Leave the newest picture: what draws it, uint8 (H, W, 3), BGR. It is called later, in another thread, or never."""
        self._picture = picture
        if self._viewers:
            with self._changed:
                self._changed.notify_all()

    def close(self) -> None:
        """Send everybody home and give the port back. May be called twice."""
        if self._stop.is_set():
            return
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def is_token(self, text: str) -> bool:
        """Whether it is the token; takes as long for one that is nearly right."""
        return self._same(text.encode(), self._token.encode())

    def watch(self) -> Viewer | None:
        """Somebody comes; None where too many watch already. Leave by its `close`."""
        with self._changed:
            if self._viewers >= VIEWERS or self._stop.is_set():
                return None
            if self._viewers == 0:  # what was drawn for those before is old
                self._drawn = self._jpeg = None
            self._viewers += 1
            self._changed.notify_all()
        return Viewer(self)

    def _leave(self) -> None:
        with self._changed:
            self._viewers -= 1

    def _next(self, before: bytes | None, timeout_s: float) -> bytes | None:
        """The newest JPEG, once it is another than `before`; None when the show is over or nothing came in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop.is_set() or self._jpeg is not before, timeout_s)
            return None if self._stop.is_set() or self._jpeg is before else self._jpeg

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)

    def _encode(self) -> None:
        is_broken = False
        while not self._stop.is_set():
            jpeg: bytes | None = None
            with self._changed:
                self._changed.wait_for(lambda: self._stop.is_set() or (self._viewers and self._picture is not self._drawn))
                picture = self._picture
            if self._stop.is_set() or picture is None:
                continue
            try:
                jpeg = _jpeg(picture())
            except Exception:  # drawing is a courtesy: the show goes on with the next picture, and the door in any case
                level = logging.DEBUG if is_broken else logging.ERROR
                logger.log(level, "a picture of the show cannot be drawn", exc_info=True)
            is_broken = jpeg is None
            with self._changed:
                self._drawn, self._jpeg = picture, jpeg or self._jpeg
                self._changed.notify_all()
            self._stop.wait(1 / self._fps)


class Viewer:
    """One who watches."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._seen: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether the show is closed."""
        return self._show._stop.is_set()

    def next(self, timeout_s: float = 5.0) -> bytes | None:
        """The newest JPEG, once there is one that was not seen yet; None at the end, or where none comes within `timeout_s`."""
        jpeg = self._show._next(self._seen, timeout_s)
        self._seen = jpeg or self._seen
        return jpeg

    def close(self) -> None:
        """Make room for another. To be called once."""
        self._show._leave()


def _jpeg(image_bgr: Image) -> bytes:
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def _from_environment() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    return _checked(token, TOKEN_VARIABLE) if token else None


def _checked(token: str, name: str) -> str:
    if not re.fullmatch(r"[\w-]{8,128}", token, re.ASCII):
        raise ConfigError(f"{name} must be 8 to 128 letters, digits, - and _; got {len(token)} characters that are not")
    return token
