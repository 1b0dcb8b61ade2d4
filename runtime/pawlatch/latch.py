"""Latches: what moves. The recording latch is part of the product: for dry runs, replays and everybody's tests."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Protocol

from pawlatch.errors import LatchError

logger = logging.getLogger(__name__)

HISTORY_MOVES = 10_000  # kept at most; a dry run may go on for months


class LatchState(Enum):
    """Whether the animal can pass."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"


LOCKED, UNLOCKED = LatchState.LOCKED, LatchState.UNLOCKED


class Latch(Protocol):
    """What a door drives. Each method may be called twice, and raises LatchError where the latch does not obey."""

    def lock(self) -> None:
        """Keep the animal out."""

    def unlock(self) -> None:
        """Let the animal pass."""

    def close(self) -> None:
        """Lock, then give the hardware back."""


class RecordingLatch:
    """A latch without hardware. It logs each move and keeps it, with its time, in `history`.

    A command that moves nothing (locking what is locked) is not history.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moves: deque[tuple[float, LatchState]] = deque(maxlen=HISTORY_MOVES)

    @property
    def history(self) -> list[tuple[float, LatchState]]:
        """The moves so far, as (time_s, state), oldest first."""
        return list(self._moves)

    @property
    def state(self) -> LatchState | None:
        """Where it stands; None before the first command."""
        return self._moves[-1][1] if self._moves else None

    def lock(self) -> None:
        """Record LOCKED."""
        self._move(LOCKED)

    def unlock(self) -> None:
        """Record UNLOCKED."""
        self._move(UNLOCKED)

    def close(self) -> None:
        """Lock; there is no hardware to give back."""
        self.lock()

    def assert_states(self, expected: Sequence[LatchState]) -> None:
        """Assert the states it went through, oldest first.

        Raises:
            AssertionError: they were others; the message lists them with their times.
        """
        if [state for _, state in self._moves] != list(expected):
            wanted = ", ".join(state.value for state in expected)
            raise AssertionError(f"expected the latch to go {wanted}; it went {self}")

    def __str__(self) -> str:
        return ", ".join(f"{state.value} at {time_s:.1f} s" for time_s, state in self._moves) or "nowhere"

    def _move(self, state: LatchState) -> None:
        if state is not self.state:
            self._moves.append((self._clock(), state))
            logger.info("latch %s", state.value)


def open_latch(uri: str, *, clock: Callable[[], float] = time.monotonic) -> RecordingLatch:
    """The latch of a name: `log` moves nothing, and logs and records what would have moved.

    Raises:
        LatchError: there is no such latch.
    """
    if uri != "log":
        raise LatchError(f"the latches are: log; got {uri!r}; try --latch log")
    return RecordingLatch(clock=clock)
