"""Who is logged in: sessions in memory, bounded in number and time. A restart of the door, or a new token, ends them all."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pawlatch.panel import Request

MOST = 32  # the one that was idle longest makes room
IDLE_S, LIFE_S = 7 * 86400.0, 30 * 86400.0
CONFIRM_S = 30.0  # in which the second click must follow the first


@dataclass(frozen=True)
class Confirmation:
    """The second click that a wish needs: of this session, until then, once."""

    id: str
    request: Request
    until_s: float


@dataclass(eq=False)
class Session:
    """`id` is the cookie's secret, `form` the one in each form; `name` is for people, and tells nothing of either.

    `said` is what the next page tells of the last wish: whether it was done, and a sentence.
    """

    id: str
    form: str
    name: str
    token_hash: str
    began_s: float
    used_s: float
    said: tuple[bool, str] | None = None
    _pending: Confirmation | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def is_form(self, text: str) -> bool:
        """Whether a form is one that this session was given."""
        return hmac.compare_digest(text.encode(), self.form.encode())

    def propose(self, request: Request, now_s: float) -> Confirmation:
        """Let a wish wait for its second click; what waited before is forgotten."""
        with self._lock:
            self._pending = Confirmation(secrets.token_urlsafe(16), request, now_s + CONFIRM_S)
            return self._pending

    def pending(self, now_s: float) -> Confirmation | None:
        """What waits now."""
        pending = self._pending
        return pending if pending is not None and now_s <= pending.until_s else None

    def confirm(self, text: str, now_s: float) -> Request | None:
        """The wish that this confirms, once; None where it is another's, too late, or was confirmed before."""
        with self._lock:
            pending = self.pending(now_s)
            if pending is None or not hmac.compare_digest(text.encode(), pending.id.encode()):
                return None
            self._pending = None
            return pending.request

    def hear(self) -> tuple[bool, str] | None:
        """What is to be told, once."""
        said, self.said = self.said, None
        return said


class Sessions:
    """All of them; `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, token_hash: str) -> Session:
        """Somebody who knew the token."""
        now_s = self._clock()
        session = Session(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_hex(2), token_hash, now_s, now_s)
        with self._lock:
            self._sweep(now_s)
            while len(self._sessions) >= MOST:
                del self._sessions[min(self._sessions.values(), key=lambda each: each.used_s).id]
            self._sessions[session.id] = session
        return session

    def find(self, id: str | None, token_hash: str | None) -> Session | None:
        """The session of a cookie, if it lives; `token_hash` is that of the token which holds now."""
        session = None if id is None else self._sessions.get(id)
        if session is None:
            return None
        now_s = self._clock()
        if session.token_hash != token_hash or not _lives(session, now_s):
            self.end(session)
            return None
        session.used_s = now_s
        return session

    def end(self, session: Session) -> None:
        """Log out. May be called twice."""
        with self._lock:
            self._sessions.pop(session.id, None)

    def end_all(self) -> None:
        """Log everybody out."""
        with self._lock:
            self._sessions.clear()

    def _sweep(self, now_s: float) -> None:
        for session in [each for each in self._sessions.values() if not _lives(each, now_s)]:
            del self._sessions[session.id]


def _lives(session: Session, now_s: float) -> bool:
    return now_s - session.used_s <= IDLE_S and now_s - session.began_s <= LIFE_S
