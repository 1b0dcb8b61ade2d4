"""An HTTP camera's answer as bytes that arrive, with its password kept to itself."""

from __future__ import annotations

import base64
import http.client
import select
import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, unquote

from pawlatch.errors import CameraError

MULTIPART = "multipart/"
_CHUNK = 1 << 16
_AT_ONCE = 4 << 20


class HttpStream:
    """The body that `GET address` answers with, of `type`; its `read` fails after `timeout_s` of silence.

    Raises:
        CameraError: nobody answers within `connect_s`.
    """

    def __init__(self, address: SplitResult, *, connect_s: float, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.hostname or "", address.port, timeout=connect_s)
        try:
            connection.connect()
            self._socket: socket.socket = connection.sock
            connection.request("GET", _target(address), headers=_headers(address))
            self._answer = connection.getresponse()
            self._socket.settimeout(timeout_s)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise CameraError(f"it does not answer: {_why(error, connect_s)}") from error
        self.status, self.type = self._answer.status, self._answer.getheader("Content-Type", "").lower()
        self.wants_digest = self.status == 401 and "digest" in self._answer.getheader("WWW-Authenticate", "").lower()
        self.elsewhere = self._answer.getheader("Location", "") if 300 <= self.status < 400 else ""

    def read(self) -> bytes:
        """See `ByteSource`."""
        data = bytearray()
        try:
            while some := self._answer.read1(_CHUNK):
                data += some
                if len(data) >= _AT_ONCE or not self._more():
                    break
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # the last two: closed meanwhile
            raise CameraError(f"the connection broke: {_why(error, self._timeout_s)}") from error
        return bytes(data)

    def interrupt(self) -> None:
        """See `ByteSource`."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See `ByteSource`."""
        self._answer.close()
        self._socket.close()

    def _more(self) -> bool:
        """Whether there is more that can be read without waiting."""
        if isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))


def _target(address: SplitResult) -> str:
    return (address.path or "/") + (f"?{address.query}" if address.query else "")


def _headers(address: SplitResult) -> dict[str, str]:
    headers = {"User-Agent": "pawlatch", "Accept": "multipart/x-mixed-replace, image/jpeg, video/*"}
    if address.username is not None:
        pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"silent for {timeout_s:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}; name its certificate in SSL_CERT_FILE, or use http:// inside your own network"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
