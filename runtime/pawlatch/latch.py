"""Latches: what moves. The recording latch is part of the product: for dry runs, replays and everybody's tests.

Nothing heavy is imported here: `pawlatch latch lock` runs before and after every start of the door.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Literal, Protocol

from pawlatch.boot import FIXED_HIGH, boot_doubt
from pawlatch.errors import ConfigError, LatchError

logger = logging.getLogger(__name__)

HISTORY_MOVES = 10_000  # kept at most; a dry run may go on for months
STDERR_BYTES = 2000  # of a command that fails, its last ones
SERVO_STEP_MS = 0.2  # gpiozero hands lgpio whole percents of a servo's 20 ms
_OF_KIND = {
    "log": set[str](),
    "gpio": {"pin", "active_high", "drive", "pulse_s"},
    "servo": {"pin", "locked_ms", "unlocked_ms", "settle_s"},
    "command": {"lock", "unlock", "timeout_s"},
}


class LatchState(Enum):
    """Whether the animal can pass."""

    LOCKED = "locked"
    UNLOCKED = "unlocked"


LOCKED, UNLOCKED = LatchState.LOCKED, LatchState.UNLOCKED


class Latch(Protocol):
    """What a door drives. Each method may be called twice, and raises LatchError where the latch does not obey."""

    @property
    def is_real(self) -> bool:
        """Whether an animal could pass by it: such a latch moves only where the door is armed."""

    @property
    def pulse_s(self) -> float | None:
        """For how long an unlock powers it, in seconds; None: for as long as it is unlocked."""

    def lock(self) -> None:
        """Keep the animal out."""

    def unlock(self) -> None:
        """Let the animal pass."""

    def close(self) -> None:
        """Lock, then give the hardware back."""


@dataclass(frozen=True)
class LatchOptions:
    """What moves, and how it is wired. Settings of another kind of latch are refused."""

    # log: nothing moves, its moves are logged; gpio: a relay or transistor at a pin; servo; command: programs of yours.
    kind: Literal["log", "gpio", "servo", "command"] = "log"
    # gpio and servo: the pin by its GPIO number, 2 to 27.
    pin: int | None = None
    # gpio: whether the pin is high while unlocked; many relay boards want false.
    active_high: bool = True
    # gpio: hold powers the pin for as long as it is unlocked; pulse only for pulse_s, for latches that release by one.
    drive: Literal["hold", "pulse"] = "hold"
    # gpio: length of that pulse in seconds, above 0 and at most 10.
    pulse_s: float = 0.5
    # servo: pulse widths where it locks and where it unlocks, 0.4 to 2.6 ms, in steps of 0.2 ms.
    locked_ms: float = 1.0
    unlocked_ms: float = 2.0
    # servo: how long a move may take, in seconds, above 0 and at most 5; then it gets no more pulses, and does not hum.
    settle_s: float = 0.6
    # command: program and arguments that lock and that unlock; no shell. Status 0 is success, and both may run twice.
    lock: tuple[str, ...] = ()
    unlock: tuple[str, ...] = ()
    # command: how long it may take, in seconds, above 0 and at most 10; the door sees nothing meanwhile.
    timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in _OF_KIND:
            raise ConfigError(f"kind must be one of {', '.join(_OF_KIND)}, got {self.kind!r}")
        for field in fields(self):
            if field.name != "kind" and field.name not in _OF_KIND[self.kind] and getattr(self, field.name) != field.default:
                kinds = " or ".join(kind for kind, names in _OF_KIND.items() if field.name in names)
                raise ConfigError(f'{field.name} is for kind = "{kinds}", and kind is "{self.kind}"')
        if self.kind in ("gpio", "servo"):
            self._check_pin()
        for name, most in (("pulse_s", 10.0), ("settle_s", 5.0), ("timeout_s", 10.0)):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= most):
                raise ConfigError(f"{name} must be above 0 and at most {most:.0f}, got {value}")
        if self.drive not in ("hold", "pulse"):
            raise ConfigError(f"drive must be hold or pulse, got {self.drive!r}")
        self._check_servo()
        if self.kind == "command" and not (self.lock and self.unlock and self.lock[0] and self.unlock[0]):
            raise ConfigError('a command latch needs both: lock = ["program", "argument"] and unlock = [...]')

    def _check_pin(self) -> None:
        if self.pin is None or isinstance(self.pin, bool) or not 2 <= self.pin <= 27:
            raise ConfigError(f"a {self.kind} latch needs its pin by GPIO number, 2 to 27, got {self.pin}")
        if self.kind == "gpio" and self.active_high and self.pin in FIXED_HIGH:  # no resistor of the owner's helps
            raise ConfigError(str(boot_doubt(self.pin, active_high=True)))

    def _check_servo(self) -> None:
        for name in ("locked_ms", "unlocked_ms"):
            value = getattr(self, name)
            steps = value / SERVO_STEP_MS if math.isfinite(value) else 0.0
            if not 0.4 <= value <= 2.6 or abs(steps - round(steps)) > 1e-6:
                raise ConfigError(f"{name} must be 0.4 to 2.6 ms in steps of {SERVO_STEP_MS}, got {value}")
        if self.locked_ms == self.unlocked_ms:
            raise ConfigError(f"locked_ms and unlocked_ms must differ, both are {self.locked_ms}")


class RecordingLatch:
    """A latch without hardware. It logs each move and keeps it, with its time, in `history`.

    A command that moves nothing (locking what is locked) is not history.
    """

    is_real = False

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, pulse_s: float | None = None) -> None:
        self.pulse_s = pulse_s
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


class CommandLatch:
    """A latch that programs move: argument lists, no shell. Each call waits for the program, `timeout_s` at most."""

    is_real = True
    pulse_s = None

    def __init__(self, lock: Sequence[str], unlock: Sequence[str], *, timeout_s: float = 2.0) -> None:
        self._commands = {LOCKED: tuple(lock), UNLOCKED: tuple(unlock)}
        self._timeout_s = timeout_s

    def lock(self) -> None:
        """Run the program that locks."""
        self._run(LOCKED)

    def unlock(self) -> None:
        """Run the program that unlocks."""
        self._run(UNLOCKED)

    def close(self) -> None:
        """Lock; there is no hardware to give back."""
        self.lock()

    def __str__(self) -> str:
        return f"command {self._commands[LOCKED][0]}"

    def _run(self, state: LatchState) -> None:
        """Run it in a process group of its own, so that what it started ends with it."""
        import subprocess  # with tempfile 10 ms, which no other latch needs
        import tempfile

        command = self._commands[state]
        with tempfile.TemporaryFile() as stderr:  # a pipe would wait for children that outlive the program
            try:
                process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr,
                                           start_new_session=True)
            except (OSError, ValueError) as error:
                raise LatchError(f"the {state.value} command {command[0]} does not start: {error}; name it by its full path, "
                                 "and make it executable") from error
            try:
                status = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired as error:
                raise LatchError(f"the {state.value} command {command[0]} did not end within {self._timeout_s} s and was "
                                 "killed; make it faster, or raise timeout_s") from error
            finally:
                if process.returncode is None:
                    _kill_group(process.pid)
                    process.wait()
            if status != 0:
                stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - STDERR_BYTES))
                said = stderr.read().decode(errors="replace").strip().splitlines()
                raise LatchError(f"the {state.value} command {command[0]} must exit with 0, got {status}"
                                 f"{f': {said[-1]}' if said else ''}; run it by hand: {' '.join(command)}")
        logger.info("latch %s", state.value)


def open_latch(latch: LatchOptions | str, *, clock: Callable[[], float] = time.monotonic) -> Latch:
    """The latch of these options, or of a name like `log`, `gpio:17` or `servo:18?locked_ms=1.2`.

    A real latch is in no known state until it is told to lock: the door does that before anything else.

    Raises:
        LatchError: there is no such latch, or its hardware cannot be had.
    """
    options = latch_options(latch) if isinstance(latch, str) else latch
    if options.kind == "command":
        return CommandLatch(options.lock, options.unlock, timeout_s=options.timeout_s)
    if options.kind == "log" or options.pin is None:
        return RecordingLatch(clock=clock)
    from pawlatch.gpio import GpioLatch, ServoLatch  # below, so that other latches need no gpiozero

    if options.kind == "servo":
        return ServoLatch(options.pin, locked_ms=options.locked_ms, unlocked_ms=options.unlocked_ms, settle_s=options.settle_s)
    pulse_s = options.pulse_s if options.drive == "pulse" else None
    return GpioLatch(options.pin, active_high=options.active_high, pulse_s=pulse_s)


def latch_options(uri: str) -> LatchOptions:
    """The options of a name: `log`, `gpio:17`, `gpio:17?active_high=false&drive=pulse`, `servo:18?settle_s=1`.

    Raises:
        LatchError: there is no such latch, or no such setting of it.
    """
    name, _, settings = uri.partition("?")
    kind, _, pin = name.partition(":")
    known: Any = kind
    if kind not in ("log", "gpio", "servo") or (kind == "log") == bool(pin) or not (pin or "0").isdecimal():
        raise LatchError(f"the latches are: log, gpio:PIN, servo:PIN (and command, in door.toml); got {uri!r}; try --latch log")
    try:
        values: dict[str, Any] = {"pin": int(pin)} if pin else {}
        for setting in filter(None, settings.split("&")):
            key, _, text = setting.partition("=")
            values[key] = _value(kind, key, text)
        return LatchOptions(kind=known, **values)
    except ValueError as error:  # a ConfigError is one, too
        raise LatchError(f"the latch {uri!r} cannot be: {error}") from error


def latch_uri(options: LatchOptions) -> str | None:
    """The name from which `latch_options` makes these options; None of a command, which has none."""
    if options.kind == "command":
        return None
    settings = [(field.name, getattr(options, field.name)) for field in fields(options)
                if field.name not in ("kind", "pin") and getattr(options, field.name) != field.default]
    text = "&".join(f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings)
    name = options.kind if options.pin is None else f"{options.kind}:{options.pin}"
    return f"{name}?{text}" if text else name


def _value(kind: str, key: str, text: str) -> Any:
    """A setting's text as what the field holds; numbers are held against their bounds by LatchOptions."""
    names = sorted(_OF_KIND[kind] - {"pin"})
    if key not in names:
        near = difflib.get_close_matches(key, names, n=1)
        raise ConfigError(f"it has no setting {key!r}; {f'did you mean {near[0]}?' if near else f'it has {names}'}")
    if key == "active_high":
        if text not in ("true", "false"):
            raise ConfigError(f"active_high must be true or false, got {text!r}")
        return text == "true"
    return text if key == "drive" else float(text)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        logger.debug("the command's group %d had ended", pid)
