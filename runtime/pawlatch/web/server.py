"""The page's server, in a thread of its own beside the door's loop."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pawlatch.errors import ConfigError, MissingExtraError, OutputError
from pawlatch.listening import LOCAL_HOSTS, address
from pawlatch.panel import Panel
from pawlatch.stream import Stream
from pawlatch.web.options import WebOptions

try:
    import uvicorn

    from pawlatch.web.app import app
    from pawlatch.web.connections import Listener, Protocol
    from pawlatch.web.desk import Desk
except ImportError as error:
    if (error.name or "").startswith("pawlatch"):
        raise
    raise MissingExtraError(f'the page needs {error.name}, which is not there; type: pip install "pawlatch[web]"') from error

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

HEAD_BYTES = 16 << 10
KEEP_ALIVE_S, GRACE_S = 15, 1
_JOIN_S = 5.0


class Page:
    """Serves the page of the door behind `panel` until it is closed; a context manager. `folder` is the journal's.

    Raises:
        ConfigError: no port is given, or certificate and key do not go together.
        OutputError: the address cannot be listened on.
    """

    def __init__(self, options: WebOptions, panel: Panel, folder: Path) -> None:
        if options.port is None:
            raise ConfigError("a page needs a port; name one below [web] in door.toml")
        is_https = options.certificate is not None
        self._is_closed = False
        self._socket = _listening(options)
        self._stream = Stream(lambda: panel.picture, fps=options.fps, name="page")
        try:
            self.desk = Desk(panel, folder, self._stream, is_https=is_https)
            self._server = uvicorn.Server(_config(options, app(self.desk, names=[options.host.lower(), *options.names])))
        except BaseException:
            self._socket.close()
            self._stream.close()
            raise
        self.url = address("https" if is_https else "http", options.host, self._socket.getsockname()[1])
        self.has_token = self.desk.tokens.hash("page") is not None
        logger.info("the page is on %s", self.url)
        if options.host not in LOCAL_HOSTS and not is_https:
            logger.warning("the page is on the network, unencrypted: whoever reads along can log in; set certificate and key")
        self._thread = threading.Thread(target=self._serve, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send everybody home and give the port back. May be called twice."""
        if self._is_closed:
            return
        self._is_closed = True
        self._stream.close()
        self._server.should_exit = True
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            logger.warning("the page's server does not end at once; it is left behind")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except Exception:  # the door goes on without its page
            logger.exception("the page's server has ended")
        finally:
            self._socket.close()


def _config(options: WebOptions, served: ASGIApp) -> uvicorn.Config:
    config = uvicorn.Config(
        served, http=Protocol, ws="none", loop="asyncio", lifespan="off", interface="asgi3",
        ssl_certfile=options.certificate, ssl_keyfile=options.key,
        log_config=None, access_log=False, server_header=False,
        log_level="error",  # its warnings are of what strangers send, a line each
        proxy_headers=False,  # or anybody could claim another address
        timeout_keep_alive=KEEP_ALIVE_S, timeout_graceful_shutdown=GRACE_S, h11_max_incomplete_event_size=HEAD_BYTES,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[web]: certificate {options.certificate} and key {options.key} cannot be used together: "
                          f"{error.strerror or error}; both are PEM files that the door's user can read") from error
    return config


def _listening(options: WebOptions) -> Listener:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
        listener = Listener(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen()
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise OutputError(f"cannot serve the page on {options.host}:{options.port}: {error.strerror}; "
                          "name another host or port below [web] in door.toml") from error
    return listener
