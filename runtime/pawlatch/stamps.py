"""When something happened, by three clocks: the loop's, the one on the wall, and how long the journal has lived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

DAY_S = 86400.0
JUMP_S = 60.0  # a wall clock that goes off by more has jumped


@dataclass(frozen=True)
class Stamp:
    """`now_s` is the loop's time, `unix_s` and `zone_s` (east of Greenwich) the wall's; ages are counted by `lived_s`."""

    now_s: float
    unix_s: float
    zone_s: int
    lived_s: float


class Clocks:
    """Reads all three. Until `begin`, the journal is as old as the loop's clock says."""

    def __init__(self, clock: Callable[[], float], wall: Callable[[], datetime]) -> None:
        self._clock, self._wall = clock, wall
        self._lived_at_0_s = self._wall_at_0_s = 0.0

    def begin(self, last: tuple[float, float] | None) -> None:
        """Go on from the journal's last entry, (lived_s, unix_s). Since then, a day at most has passed: clocks jump."""
        now_s, unix_s = self._clock(), self._wall().timestamp()
        lived_s = 0.0 if last is None else last[0] + min(max(unix_s - last[1], 0.0), DAY_S)
        self._lived_at_0_s, self._wall_at_0_s = lived_s - now_s, unix_s - now_s

    def read(self) -> Stamp:
        """What they show."""
        now_s, wall = self._clock(), self._wall()
        zone_s = round((wall.utcoffset() or timedelta()).total_seconds())
        return Stamp(now_s, wall.timestamp(), zone_s, self._lived_at_0_s + now_s)

    def jump_s(self) -> float:
        """By how much the wall clock has jumped since this was asked before; 0 where it has not."""
        jump_s = self._wall().timestamp() - self._clock() - self._wall_at_0_s
        if abs(jump_s) <= JUMP_S:
            return 0.0
        self._wall_at_0_s += jump_s
        return jump_s
