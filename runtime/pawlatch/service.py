"""Talk to systemd: readiness, the watchdog and a line of status, by sd_notify(3)'s datagrams and nothing else.

Outside systemd every call does nothing. Nothing here raises: a door must not stand still because nobody listens.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from socket import socket

logger = logging.getLogger(__name__)

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_PINGS = 3  # within the watchdog's time, so that a late one is no dead one
_STARTING_S = 30.0  # without a watchdog: how long a start may still take after each turn of the loop


class Notifier:
    """The service's side of `Type=notify`.

    `address` is a path, or `@name` of an abstract socket; None is outside systemd. `watchdog_s`: systemd ends a service that
    is silent for so long; None where it does not watch.
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._address = None if address is None else f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s, self._clock = watchdog_s, clock
        self._is_ready = self._is_mute = False
        self._status = ""
        self._pinged_s = float("-inf")
        self._socket = None if address is None else _datagrams()

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ, *,
                         clock: Callable[[], float] = time.monotonic) -> Self:
        """What systemd put into the environment, taken out of it: a child process must not speak for the door."""
        address, usec, pid = (environ.pop(name, "") for name in _VARIABLES)
        is_socket = address.startswith(("/", "@")) and len(address) > 1
        is_watched = is_socket and usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        return cls(address if is_socket else None, watchdog_s=int(usec) / 1e6 if is_watched else None, clock=clock)

    def ready(self, status: str = "") -> None:
        """Say once that the service is up, and after `reloading` that it is up again. To be called after each good frame."""
        if not self._is_ready and self._send("READY=1", *self._changed(status)):
            self._is_ready = True

    def watchdog(self) -> None:
        """Say that a turn of the loop was completed; sent at most three times in the watchdog's time.

        Before `ready` it asks for more time to start too: a camera that is not there yet is no hanging service.
        """
        every_s = (self._watchdog_s or _STARTING_S) / _PINGS
        now_s = self._clock()
        if self._socket is None or now_s - self._pinged_s < every_s or (self._is_ready and self._watchdog_s is None):
            return
        self._pinged_s = now_s
        more = () if self._is_ready else (f"EXTEND_TIMEOUT_USEC={round((self._watchdog_s or _STARTING_S) * 1e6)}",)
        self._send(*(("WATCHDOG=1",) if self._watchdog_s else ()), *more)

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; sent when it changed."""
        if changed := self._changed(text):
            self._send(*changed)

    def reloading(self) -> None:
        """Say that SIGHUP is being carried out; the next `ready` ends it."""
        self._is_ready = False
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """Say that the service is on its way out."""
        self._send("STOPPING=1", *self._changed(status))

    def close(self) -> None:
        """Say nothing more. May be called twice."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _changed(self, text: str) -> tuple[str, ...]:
        line = " ".join(text.split())
        if not line or line == self._status:
            return ()
        self._status = line
        return (f"STATUS={line}",)

    def _send(self, *lines: str) -> bool:
        """One datagram, without waiting; a socket that refuses is complained of once."""
        if self._socket is None or self._address is None:
            return True
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._is_mute:
                logger.warning("systemd does not listen at NOTIFY_SOCKET (%s); the service may be taken for dead", error)
            self._is_mute = True
            return False
        self._is_mute = False
        return True


def _datagrams() -> socket:
    """A socket that never waits for its reader; child processes do not inherit it."""
    from socket import AF_UNIX, SOCK_DGRAM, socket  # only under systemd

    opened = socket(AF_UNIX, SOCK_DGRAM)
    opened.setblocking(False)
    return opened
