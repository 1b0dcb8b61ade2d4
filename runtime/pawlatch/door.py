"""The door decides when the latch moves. Fail-secure: it is locked at the start and on every way out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from typing import Self

from pawlatch.decide import Verdict
from pawlatch.latch import Latch

HOUR_S = 3600.0
HOLD_S = 2.0  # after the last evidence: on its way through, the animal is out of the camera's sight
LONGEST = 3  # times `unlock_s`: however long the animal stays, the door does not stand open
Journal = Callable[[float, Verdict], object]  # takes the time and the verdict of an unlock that is about to happen


class DoorState(Enum):
    """LOCKED waits for a verdict; RESTING is locked and takes none for a moment."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"
    RESTING = "resting"


class Door:
    """A latch with manners: each unlock is bounded in time and in how often it may come, and is written down first.

    The door stays open for `unlock_s`, and until HOLD_S after the last evidence while the animal is still there, but
    never longer than LONGEST times `unlock_s`; then it rests for `rest_s`.
    `clock` is monotonic seconds, the same that `now_s` is read from.

    Raises:
        LatchError: the latch does not lock. Nothing else may start then.
    """

    def __init__(self, latch: Latch, *, clock: Callable[[], float] = time.monotonic, unlock_s: float = 5.0,
                 rest_s: float = 2.0, max_unlocks_per_hour: int = 30, journal: Journal | None = None) -> None:
        if not unlock_s > 0 or not rest_s >= 0 or max_unlocks_per_hour < 1:  # NaN is neither
            raise ValueError(
                "a door needs unlock_s > 0, rest_s >= 0 and max_unlocks_per_hour >= 1, got "
                f"{unlock_s}, {rest_s} and {max_unlocks_per_hour}"
            )
        self.state = DoorState.LOCKED
        self._latch, self._clock, self._journal = latch, clock, journal
        self._unlock_s, self._rest_s = unlock_s, rest_s
        self._unlocks: deque[float] = deque(maxlen=max_unlocks_per_hour)
        self._opened_s = self._until_s = 0.0
        self._closed = False
        latch.lock()

    @property
    def is_unlocked(self) -> bool:
        """Whether the animal can pass."""
        return self.state is DoorState.UNLOCKED

    def consider(self, verdict: Verdict, now_s: float) -> Verdict:
        """Act on a verdict.

        Returns:
            The verdict as it was carried out: where the door itself refuses, `unlock` is false and `reason` says why.

        Raises:
            LatchError: the latch failed; it was told to lock again. What the journal raises comes through, door shut.
        """
        self.tick(now_s)
        if not verdict.unlock:
            return verdict
        if refusal := self._refusal(now_s):
            return replace(verdict, unlock=False, reason=refusal)
        if not self.is_unlocked:
            self._unlock(verdict, now_s)
        longest_s = self._opened_s + LONGEST * self._unlock_s
        self._until_s = max(self._until_s, min(now_s + HOLD_S, longest_s))
        return verdict

    def tick(self, now_s: float) -> None:
        """Let time pass: lock when the time is over, and rest."""
        if self.is_unlocked and now_s >= self._until_s:
            self._lock(now_s)
        if self.state is DoorState.RESTING and now_s >= self._until_s:
            self.state = DoorState.LOCKED

    def lock(self) -> None:
        """Lock now, whatever the state; an open door rests afterwards."""
        self._lock(self._clock())

    def close(self) -> None:
        """Lock for good: no verdict opens this door again. May be called twice."""
        self._closed = True
        self.lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _refusal(self, now_s: float) -> str | None:
        if self._closed:
            return "the door is closed for good"
        if self.state is DoorState.RESTING:
            return f"the door rests for {self._until_s - now_s:.1f} s more"
        limit = self._unlocks.maxlen
        if self.state is DoorState.LOCKED and len(self._unlocks) == limit and now_s - self._unlocks[0] < HOUR_S:
            return f"the door opened {limit} times within an hour: no more for now"
        return None

    def _unlock(self, verdict: Verdict, now_s: float) -> None:
        """Written first, then moved: an unlock that nobody can read about later does not happen."""
        if self._journal is not None:
            self._journal(now_s, verdict)
        self._unlocks.append(now_s)
        try:
            self._latch.unlock()
        except BaseException:  # it may have moved before it failed
            self._latch.lock()
            raise
        self._opened_s, self._until_s = now_s, now_s + self._unlock_s
        self.state = DoorState.UNLOCKED

    def _lock(self, now_s: float) -> None:
        self._latch.lock()
        if self.is_unlocked:
            self.state, self._until_s = DoorState.RESTING, now_s + self._rest_s
