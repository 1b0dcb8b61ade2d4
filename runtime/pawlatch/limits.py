"""Time that never goes back, and what the door counts over a sliding span of it: unlocks, powered seconds, strangers."""

from __future__ import annotations

import math
from collections import deque

HOUR_S = 3600.0
MINUTE_S = 60.0


class Elapsed:
    """A clock's time, and how far that ever went back on top, so that what was waited for is waited for.

    `shown_s` is the last that the clock showed, `now_s` the time that never goes back.
    """

    def __init__(self) -> None:
        self.shown_s = self.now_s = 0.0
        self._behind_s = 0.0

    def take(self, shown_s: float) -> float:
        """Take in what the clock shows, and return by how much it went back. What is no number is no time."""
        if not math.isfinite(shown_s):
            return 0.0
        back_s = max(0.0, self.shown_s - shown_s)
        self._behind_s += back_s
        self.shown_s, self.now_s = shown_s, shown_s + self._behind_s
        return back_s


class Tally:
    """Whether something happened `most` times within `within_s`."""

    def __init__(self, most: int, *, within_s: float) -> None:
        self._times: deque[float] = deque(maxlen=most)
        self._within_s = within_s

    def add(self, time_s: float) -> None:
        """Count one at `time_s`."""
        self._times.append(time_s)

    def is_full(self, time_s: float) -> bool:
        """Whether the last `most` of them all happened in the `within_s` before `time_s`."""
        return len(self._times) == self._times.maxlen and time_s - self._times[0] < self._within_s

    def clear(self) -> None:
        """Forget them."""
        self._times.clear()


class Duty:
    """For how long the latch was powered. `pulse_s`: an unlock powers it for that long; None: until it is locked."""

    def __init__(self, *, pulse_s: float | None) -> None:
        self._pulse_s = pulse_s
        self._spans: deque[tuple[float, float]] = deque()
        self._since_s: float | None = None

    def on(self, time_s: float) -> None:
        """It was unlocked at `time_s`."""
        self._since_s = time_s

    def off(self, time_s: float) -> None:
        """It was locked at `time_s`; without effect where it was."""
        if self._since_s is not None:
            self._spans.append((self._since_s, self._end(self._since_s, time_s)))
            self._since_s = None

    def used_s(self, time_s: float) -> float:
        """Powered seconds within the minute before `time_s`."""
        begin_s = time_s - MINUTE_S
        while self._spans and self._spans[0][1] <= begin_s:
            self._spans.popleft()
        spans = [*self._spans] if self._since_s is None else [*self._spans, (self._since_s, self._end(self._since_s, time_s))]
        return sum(max(0.0, end_s - max(start_s, begin_s)) for start_s, end_s in spans)

    def _end(self, start_s: float, time_s: float) -> float:
        return time_s if self._pulse_s is None else min(time_s, start_s + self._pulse_s)
