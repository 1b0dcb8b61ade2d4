"""What the pin did, read from the console, against what the journal says. Pure functions of texts and times."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

BEFORE_S, AFTER_S = 20.0, 1.0  # an unlock is stamped, made durable (slowly, on an emulated disk), and then moves the pin
_LINE = re.compile(r"^\[\s*(?P<time>\d+\.\d+)\] (?:pins: (?P<pin>\d+) (?P<level>high|low)|clock: (?P<unix>\d+\.\d+)|mark: (?P<mark>\w+)|"
                   r"pins: (?P<on>all as from))")


@dataclass(frozen=True)
class Move:
    """A change of the pin's level, by the kernel's clock since power-on."""

    time_s: float
    is_high: bool


@dataclass(frozen=True)
class History:
    """The pin's life from power-on to power-off; it begins low.

    `clocks` are (kernel's time, the wall's), as told inside; `marks` are what was done to the machine, by name, with the last time.
    """

    moves: tuple[Move, ...]
    clocks: tuple[tuple[float, float], ...]
    marks: dict[str, float] = field(default_factory=dict)

    @property
    def is_high(self) -> bool:
        """Where it stands at the end."""
        return bool(self.moves) and self.moves[-1].is_high

    def rises_unix_s(self) -> list[float]:
        """When it went high, as the wall said.

        Raises:
            ValueError: nobody told the time.
        """
        return [self._unix_s(move.time_s) for move in self.moves if move.is_high]

    def high_after(self, time_s: float) -> float:
        """How long it is still high from a moment of the kernel's on; infinity where it does not fall."""
        before = [move for move in self.moves if move.time_s <= time_s]
        if not (before and before[-1].is_high):
            return 0.0
        return next((move.time_s - time_s for move in self.moves if move.time_s > time_s and not move.is_high), float("inf"))

    def _unix_s(self, time_s: float) -> float:
        if not self.clocks:
            raise ValueError("the console tells no time of the wall")
        kernel_s, unix_s = min(self.clocks, key=lambda clock: abs(clock[0] - time_s))
        return unix_s + time_s - kernel_s


def read_console(text: str, *, pin: int) -> History:
    """The pin's moves in a console's text, where the power went away in the middle of a line, too.

    Raises:
        ValueError: the pins were not there from the start, so that nothing can be said of them.
    """
    moves, clocks, is_on = [], [], False
    marks: dict[str, float] = {}
    for line in text.replace("\r", "").splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        is_on = is_on or found["on"] is not None
        if found["unix"] is not None:
            clocks.append((float(found["time"]), float(found["unix"])))
        elif found["mark"] is not None:
            marks[found["mark"]] = float(found["time"])
        elif found["pin"] is not None and int(found["pin"]) == pin:
            moves.append(Move(float(found["time"]), found["level"] == "high"))
    if not is_on:
        raise ValueError("the console does not say that the pins are there")
    return History(tuple(moves), tuple(clocks), marks)


def unwritten(rises_unix_s: Sequence[float], unlocks_unix_s: Sequence[float]) -> list[float]:
    """The rises of the pin for which the journal holds no unlock of their own. More unlocks than rises are fine: power goes between."""
    left, missing = sorted(unlocks_unix_s), []
    for rise_s in sorted(rises_unix_s):
        mine = next((unlock_s for unlock_s in left if rise_s - BEFORE_S <= unlock_s <= rise_s + AFTER_S), None)
        if mine is None:
            missing.append(rise_s)
        else:
            left.remove(mine)
    return missing
