"""What the door sees, in a browser: the overlay as motion JPEG, for a machine without a screen.

The loop only leaves its newest picture here; `pawlatch.stream` draws and encodes it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from dataclasses import dataclass
from typing import Self

from pawlatch.errors import ConfigError, OutputError
from pawlatch.listening import LOCAL_HOSTS, address, check_listening
from pawlatch.stream import Picture, Stream

logger = logging.getLogger(__name__)

TOKEN_VARIABLE = "PAWLATCH_SHOW_TOKEN"
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
        check_listening(self.port, self.host, self.fps)
        if self.token is not None:
            _checked(self.token, "token")


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
        self._token = options.token or _from_environment() or secrets.token_urlsafe(16)
        self._same = secrets.compare_digest
        self._picture: Picture | None = None
        self.stream = Stream(lambda: self._picture, fps=options.fps, name="show")
        try:
            self._server = open_server(options.host, options.port, self)
        except OSError as error:
            self.stream.close()
            raise OutputError(f"cannot serve the show on {options.host}:{options.port}: {error.strerror}; name another place "
                              "with --show [HOST:]PORT") from error
        self.address = address("http", options.host, self._server.server_address[1])
        self.url = f"{self.address}?token={self._token}"
        logger.info("the show is on %s", self.address)
        if options.host not in LOCAL_HOSTS:
            logger.warning("the show is on the network, unencrypted: whoever reads along learns its token")
        self._thread = threading.Thread(target=self._serve, name="show", daemon=True)
        self._thread.start()

    def publish(self, picture: Picture) -> None:
        """Leave the newest picture: what draws it, uint8 (H, W, 3), BGR. It is called later, in another thread, or never."""
        self._picture = picture
        self.stream.nudge()

    def close(self) -> None:
        """Send everybody home and give the port back. May be called twice."""
        if self.stream.is_over:
            return
        self.stream.close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_JOIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def is_token(self, text: str) -> bool:
        """Whether it is the token; takes as long for one that is nearly right."""
        return self._same(text.encode(), self._token.encode())

    def _serve(self) -> None:
        self._server.serve_forever(poll_interval=0.1)


def _from_environment() -> str | None:
    token = os.environ.get(TOKEN_VARIABLE)
    return _checked(token, TOKEN_VARIABLE) if token else None


def _checked(token: str, name: str) -> str:
    if not re.fullmatch(r"[\w-]{8,128}", token, re.ASCII):
        raise ConfigError(f"{name} must be 8 to 128 letters, digits, - and _; got {len(token)} characters that are not")
    return token
