"""Connections that are bounded in number and in patience, so that strangers on the network take nothing from the door.

uvicorn waits for the head of a request, and for a reader that does not read, for as long as it takes; and a process that has no
file left to open can neither reach its camera nor write its journal.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST, MOST_OF_ONE = 32, 16  # at once, in all and from one address; more are hung up on
HEAD_S = 10.0  # in which a request must have come
STALL_S = 10.0  # after which a reader that does not read is hung up on
SEND_BUFFER = 1 << 16  # what it lags behind at most


class Listener(socket.socket):
    """Hangs up on those who are too many, before anything else is done for them, TLS included."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._open: list[tuple[socket.socket, str]] = []

    def accept(self) -> tuple[socket.socket, Any]:
        """As of a socket. Raises ConnectionAbortedError of one that was hung up on, which asyncio takes as it comes."""
        connection, address = super().accept()
        self._open = [(each, host) for each, host in self._open if each.fileno() != -1]
        if len(self._open) >= MOST or Counter(host for _, host in self._open)[address[0]] >= MOST_OF_ONE:
            connection.close()
            raise ConnectionAbortedError
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        self._open.append((connection, address[0]))
        return connection, address


class Protocol(H11Protocol):
    """uvicorn's HTTP/1.1, with an end to its patience."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_head()
        self._reads()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._has_head()
        else:  # a part of a head, or what is left of a body that nobody wants
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._reads()
        super().resume_writing()

    def _await_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def _has_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _reads(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
