"""What may come in by MQTT, and what of it is believed. Pure: messages in, orders or reasons out.

Home Assistant sends JSON, {"value": "UNLOCK", "code": "…", "at": unix seconds}, as the templates in `discovery` have it. Plain
text is understood too, where it only locks or asks for a picture. What could let somebody in must be fresh: `at` is Home
Assistant's clock, so that a message that was kept on its way, or recorded and sent again, opens nothing. Broker and network
are taken to be hostile.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import Any

from pawlatch.panel import Request, Wish
from pawlatch.rules import MODES

WHO = "MQTT"
LATE_S = 10.0  # that Home Assistant's clock and this one may differ, the way included
TRIES = 5  # wrong codes until no code counts for a while
PAUSE_S, LONGEST_PAUSE_S = 60.0, 3600.0  # twice as long after each further wrong one: some 30 tries a day
MOST_BYTES = 1024  # of a command


class Task(Enum):
    """What is asked of the bridge itself, not of the door."""

    SNAPSHOT = "snapshot"
    INSTALL = "install"


class RefusedError(Exception):
    """A message that is not obeyed; its text says why, and holds nothing of what came."""


@dataclass(frozen=True)
class Heard:
    """A message: `topic` below the door's base, as in `lock/set`."""

    topic: str
    payload: bytes
    is_retained: bool


class Codes:
    """Knows the code for unlocking, and lets nobody try them all."""

    def __init__(self, code: str | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._digest = None if code is None else _digest(code)
        self._clock = clock
        self._wrong = 0
        self._until_s = float("-inf")

    def check(self, given: object) -> None:
        """Return where it is the code.

        Raises:
            RefusedError: it is not, there is none, or too many wrong ones came before.
        """
        if self._digest is None:
            raise RefusedError("no code is set, so nobody unlocks by MQTT; see code_file below [mqtt]")
        if (left_s := self._until_s - self._clock()) > 0:
            raise RefusedError(f"{self._wrong} wrong codes came, so no code counts for {left_s:.0f} s more")
        if not isinstance(given, str) or not hmac.compare_digest(_digest(given), self._digest):
            self._wrong += 1
            if self._wrong >= TRIES:
                self._until_s = self._clock() + min(LONGEST_PAUSE_S, PAUSE_S * 2.0 ** min(self._wrong - TRIES, 16))
            raise RefusedError(f"the code is wrong, for the {self._wrong}. time" if given else "it came without a code")
        self._wrong = 0


class Doorman:
    """Turns messages into orders; `wall_s` is this machine's clock, unix seconds, and `clock` monotonic."""

    def __init__(self, codes: Codes, *, wall_s: Callable[[], float] = time.time,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._codes, self._wall_s, self._clock, self._began_s = codes, wall_s, clock, clock()
        self._last_at_s = float("-inf")

    def order(self, heard: Heard) -> Request | Task:
        """What is to be done.

        Raises:
            RefusedError: it is retained, late, too long, no command, or without the right code.
        """
        refuse_retained(heard)
        command = _command(heard.payload)
        value = command.get("value")
        wish = self._wish(heard.topic, value)
        if wish is None:
            raise RefusedError("no such order is known")
        if opens_more(wish):
            at_s = self._fresh(command.get("at"))
            if isinstance(wish, Request) and wish.wish is Wish.UNLOCK:
                self._codes.check(command.get("code"))
            self._last_at_s = at_s
        return wish

    def _wish(self, topic: str, value: object) -> Request | Task | None:
        if topic == "mode/set":
            mode = next((mode for mode in MODES if mode == value), None)
            return None if mode is None else Request(Wish.MODE, WHO, mode=mode)
        return _ORDERS.get((topic, value)) if isinstance(value, str) else None

    def _fresh(self, at: object) -> float:
        """The time at which it was sent."""
        if isinstance(at, bool) or not isinstance(at, int | float):
            raise RefusedError('it does not say when it was sent: "at", in unix seconds')
        late_s = self._wall_s() - at
        if not abs(late_s) <= LATE_S:
            raise RefusedError(f"it is late: sent {late_s:.0f} s ago by the sender's clock, {LATE_S:g} at most"
                               if late_s > 0 else "it comes from the future: the sender's clock and this one differ")
        if late_s > self._clock() - self._began_s:  # the process before this one may have obeyed it
            raise RefusedError("it was sent before this door began")
        if at <= self._last_at_s:
            raise RefusedError("it was sent before, or before the last one")
        return float(at)


def refuse_retained(heard: Heard) -> None:
    """A command that a broker keeps would be obeyed at each start, by nobody's wish.

    Raises:
        RefusedError: it is retained.
    """
    if heard.is_retained:
        raise RefusedError("it is retained: a command is said once, and not kept; remove it from the broker")


_ORDERS: dict[tuple[str, str], Request | Task] = {
    ("lock/set", "LOCK"): Request(Wish.LOCK, WHO, if_open=True),
    ("lock/set", "UNLOCK"): Request(Wish.UNLOCK, WHO),
    ("keep_locked/set", "ON"): Request(Wish.HOLD_LOCKED, WHO),
    ("keep_locked/set", "OFF"): Request(Wish.RELEASE, WHO),
    ("snapshot/set", "PRESS"): Task.SNAPSHOT,
    ("update/set", "INSTALL"): Task.INSTALL,
}
COMMAND_TOPICS = ("lock/set", "mode/set", "keep_locked/set", "snapshot/set", "update/set")


def opens_more(wish: Request | Task) -> bool:
    """Whether it could let somebody in who would not get in without it."""
    if isinstance(wish, Task):
        return False  # a new model is vouched for by its own proof
    return wish.wish in (Wish.UNLOCK, Wish.RELEASE) or (wish.wish is Wish.MODE and wish.mode != MODES[0])


def _command(payload: bytes) -> dict[str, Any]:
    if len(payload) > MOST_BYTES:
        raise RefusedError(f"it has {len(payload)} bytes, {MOST_BYTES} at most")
    try:
        text = payload.decode()
        found = json.loads(text, parse_int=float) if text.startswith("{") else {"value": text}
    except (ValueError, RecursionError):
        raise RefusedError("it is neither JSON nor a word") from None
    return found if isinstance(found, dict) else {}


def _digest(code: str) -> bytes:
    return sha256(code.encode(errors="surrogatepass")).digest()
