"""How the machine under a door feels: its temperature and its power, read beside the loop, and how many threads that leaves.

Sources: `vcgencmd get_throttled` and `measure_temp` (Raspberry Pi's documentation of vcgencmd), where this user may ask the
firmware; else the kernel's driver raspberrypi-hwmon (`rpi_volt`, in0_lcrit_alarm) and /sys/class/thermal. The firmware's
own file get_throttled comes last: the kernel calls it deprecated, and logs a trace when it is read. A service may not ask
vcgencmd, since the device behind it can do more than answer; it has the kernel's files.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

logger = logging.getLogger(__name__)

Strain = Literal["undervoltage", "heat", "throttling"]

HOT_C, COOL_C = 80.0, 75.0  # from 80 °C on the firmware slows the processor down
HELD_S = 60.0  # an undervoltage lasts moments, and comes back with the load
EVERY_S = 10.0
TOOL_TIMEOUT_S = 10.0
# The bits of `vcgencmd get_throttled`: now, and 16 higher since the start.
UNDERVOLTAGE, CAPPED, THROTTLED, SOFT_LIMIT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
SINCE_START = 16
POWER_REMEDY = "use the board's own power supply and a short, thick cable; power the latch from another supply"
HEAT_REMEDY = "give it a heat sink, air or shade"
_FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"


@dataclass(frozen=True)
class Board:
    """What was read; None is what this machine does not tell. `is_hot` may outlast a temperature that falls (BoardWatch)."""

    temperature_c: float | None
    undervoltage: bool | None  # now
    throttled: bool | None  # now: held to a lower frequency, for whatever reason
    is_hot: bool = False

    @property
    def strain(self) -> Strain | None:
        """What weighs most; None while all is well, or nothing is known."""
        return "undervoltage" if self.undervoltage else "heat" if self.is_hot else "throttling" if self.throttled else None

    @property
    def trouble(self) -> str | None:
        """What is wrong and what to do about it, as a sentence; None while all is well, or nothing is known."""
        match self.strain:
            case "undervoltage":
                return f"undervoltage: {POWER_REMEDY}"
            case "heat":
                return f"the processor is too hot, {self.temperature_c:.0f} °C: {HEAT_REMEDY}"
            case "throttling":
                return f"the processor is held to a lower frequency: {HEAT_REMEDY}"
        return None

    def threads(self, wanted: int) -> int:
        """How many threads the model may use here and now, of those that are wanted: one while there is trouble.

        All cores at work are what makes a weak supply sag and a bare processor hot.
        """
        return wanted if self.strain is None else 1


UNKNOWN = Board(None, None, None)


def read_board(root: Path = Path("/")) -> Board:
    """What the machine tells now; `root` is the system that is looked at. It may take some milliseconds."""
    bits, celsius = throttled_bits(), _temperature_c(root)
    volt = _undervoltage(root) if bits is None else bool(bits & UNDERVOLTAGE)
    if bits is None and volt is None:
        bits = _number(root / _FIRMWARE, base=16)
        volt = None if bits is None else bool(bits & UNDERVOLTAGE)
    throttled = None if bits is None else bool(bits & (THROTTLED | CAPPED))
    return Board(celsius, volt, throttled, is_hot=celsius is not None and celsius >= HOT_C)


class Settling:
    """Readings to a state that does not flap: hot until it is cool again, low power for a minute after it was last seen."""

    def __init__(self) -> None:
        self._is_hot = False
        self._low_s = self._slow_s = float("-inf")  # when undervoltage and throttling were last seen

    def __call__(self, read: Board, now_s: float) -> Board:
        celsius = read.temperature_c
        self._is_hot = celsius is not None and celsius >= (COOL_C if self._is_hot else HOT_C)
        self._low_s = now_s if read.undervoltage else self._low_s
        self._slow_s = now_s if read.throttled else self._slow_s
        return dataclasses.replace(
            read, is_hot=self._is_hot,
            undervoltage=None if read.undervoltage is None else now_s - self._low_s < HELD_S,
            throttled=None if read.throttled is None else now_s - self._slow_s < HELD_S,
        )


class BoardWatch:
    """Reads the board now and then in a thread of its own; `board` is the newest settled reading, there at once."""

    def __init__(self, *, read: Callable[[], Board] = read_board, every_s: float = EVERY_S,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._every_s, self._clock = read, every_s, clock
        self._settle = Settling()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="board watch", daemon=True)
        self.board = UNKNOWN

    def threads(self, wanted: int) -> int:
        """How many threads the model may use now."""
        return self.board.threads(wanted)

    def look(self) -> None:
        """Read once; the thread does so by itself."""
        self.board = self._settle(self._read(), self._clock())

    def close(self) -> None:
        """Stop reading. May be called twice, and before anything was read."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(TOOL_TIMEOUT_S)
            if self._thread.is_alive():
                logger.error("the %s does not end; a program that it asked hangs", self._thread.name)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # what cannot be read is not known, and the door goes on
                logger.exception("the board cannot be read")
                self.board = UNKNOWN
            if self._stopped.wait(self._every_s):
                return


def throttled_bits() -> int | None:
    """The bits of `vcgencmd get_throttled`; None where the firmware cannot be asked."""
    try:
        return int((ask_firmware("get_throttled") or "").partition("=")[2], 16)  # throttled=0x50005
    except ValueError:
        return None


def ask_firmware(what: str) -> str | None:
    """What vcgencmd answers; None where there is none."""
    return run_tool("vcgencmd", what)


def run_tool(*command: str) -> str | None:
    """What a program of the system prints; None where it is not there or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    import subprocess  # takes longer to import than all else here, and few machines have such a program

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else (done.stderr or done.stdout).strip()


def _temperature_c(root: Path) -> float | None:
    answer = (ask_firmware("measure_temp") or "").removeprefix("temp=").removesuffix("'C")  # temp=48.3'C
    try:
        return float(answer)
    except ValueError:
        return max(_zones_c(root), default=None)


def _zones_c(root: Path) -> Iterator[float]:
    for zone in (root / "sys/class/thermal").glob("thermal_zone*/temp"):
        if (milli := _number(zone)) is not None:
            yield milli / 1000


def _undervoltage(root: Path) -> bool | None:
    for monitor in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(monitor / "name") == "rpi_volt" and (alarm := _number(monitor / "in0_lcrit_alarm")) is not None:
            return bool(alarm)
    return None


def _number(path: Path, *, base: int = 10) -> int | None:
    try:
        return int(_text(path) or "", base)
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, ValueError):  # not there, or a sensor that cannot be read now
        return None
