"""Latches at a Raspberry Pi's pins, by gpiozero over lgpio, and over nothing else unless a person says so.

gpiozero by itself falls back to whatever library it finds, with a warning; a door that drives no pin would then look like
one that does. GPIOZERO_PIN_FACTORY=mock, gpiozero's own switch, gives pins without a Pi.

A process that is killed leaves a pin as it was (Raspberry Pi OS keeps outputs; `dtparam=strict_gpiod` in config.txt makes
it let go), hence `pawlatch latch lock`. A process that ends leaves an input, pulled to the side that locks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Protocol

from pawlatch.errors import LatchError

logger = logging.getLogger(__name__)

SERVO_HZ = 50
INSTALL = ('type: pip install "pawlatch[pi]"; on Python 3.13: sudo apt install python3-lgpio, and make the environment with '
           "python3 -m venv --system-site-packages, so that it sees it")


class Timer(Protocol):
    """What ends a pulse: `threading.Timer`, or a stand-in that a test fires."""

    def start(self) -> None:
        """Begin to wait."""

    def cancel(self) -> None:
        """Do not call."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it called."""


Timers = Callable[[float, Callable[[], None]], Timer]


class GpioLatch:
    """A pin that is active while unlocked: a relay, a transistor, a solenoid.

    `pulse_s`: it is active only for that long after an unlock; a timer ends the pulse, even if the program hangs.

    Raises:
        LatchError: no gpiozero or lgpio, no such pin, or another program has it; so do its methods where the pin fails.
    """

    is_real = True

    def __init__(self, pin: int, *, active_high: bool = True, pulse_s: float | None = None, factory: Any = None,
                 timer: Timers = threading.Timer) -> None:
        self.pulse_s = pulse_s
        self._pin, self._active_high, self._timers = pin, active_high, timer
        self._factory = factory or pin_factory()
        self._moving = threading.Lock()
        self._pulse: Timer | None = None
        with pin_errors(pin):
            from gpiozero import OutputDevice

            self._device = OutputDevice(pin, active_high=active_high, initial_value=False, pin_factory=self._factory)

    def lock(self) -> None:
        """Make the pin inactive, and read it back."""
        with self._moving, pin_errors(self._pin):
            self._end_pulse()
            self._drive(False)

    def unlock(self) -> None:
        """Make the pin active, for `pulse_s` or until it is locked."""
        with self._moving, pin_errors(self._pin):
            self._end_pulse()
            if self.pulse_s is not None:
                pulse = self._pulse = self._timers(self.pulse_s, lambda: self._pulse_over(pulse))
                pulse.start()  # before the pin moves: what cannot be ended is not begun
            self._drive(True)

    def close(self) -> None:
        """Lock, and leave the pin as an input that is pulled to the side that locks."""
        if not self._device.closed:
            try:
                self.lock()
            finally:
                _let_go(self._device, self._factory, self._pin, pull="down" if self._active_high else "up")

    def __str__(self) -> str:
        return f"pin {self._pin}"

    def _drive(self, active: bool) -> None:
        self._device.value = active
        if self._device.is_active != active:
            raise LatchError(f"pin {self._pin} must be {'active' if active else 'inactive'} and is not; look for a short")

    def _end_pulse(self) -> None:
        if self._pulse is not None:
            self._pulse.cancel()
            self._pulse = None

    def _pulse_over(self, pulse: Timer) -> None:
        with self._moving:
            if pulse is self._pulse:  # not one that was cancelled too late
                self._pulse = None
                self._device.off()


class ServoLatch:
    """A servo that turns a bolt. After each move it gets no more pulses: it does not hum, and holds by its gears.

    Raises:
        LatchError: as GpioLatch.
    """

    is_real = True
    pulse_s = 0.0  # it rests unpowered on either side

    def __init__(self, pin: int, *, locked_ms: float = 1.0, unlocked_ms: float = 2.0, settle_s: float = 0.6,
                 factory: Any = None, timer: Timers = threading.Timer) -> None:
        self._pin, self._settle_s, self._timers = pin, settle_s, timer
        self._locked, self._unlocked = _duty(locked_ms), _duty(unlocked_ms)
        self._factory = factory or pin_factory()
        self._moving = threading.Lock()
        self._rest: Timer | None = None
        with pin_errors(pin):
            from gpiozero import PWMOutputDevice

            self._device = PWMOutputDevice(pin, frequency=SERVO_HZ, pin_factory=self._factory)

    def lock(self) -> None:
        """Turn to where it locks."""
        self._turn(self._locked)

    def unlock(self) -> None:
        """Turn to where it unlocks."""
        self._turn(self._unlocked)

    def close(self) -> None:
        """Turn to where it locks, wait until it is there, and give the pin back."""
        if not self._device.closed:
            self.lock()
            if self._rest is not None:
                self._rest.join()
            _let_go(self._device, self._factory, self._pin, pull="down")

    def __str__(self) -> str:
        return f"servo at pin {self._pin}"

    def _turn(self, duty: float) -> None:
        with self._moving, pin_errors(self._pin):
            if self._rest is not None:
                self._rest.cancel()
            rest = self._rest = self._timers(self._settle_s, lambda: self._detach(rest))
            rest.start()
            if self._device.frequency is None:
                self._device.frequency = SERVO_HZ
            self._device.value = duty

    def _detach(self, rest: Timer) -> None:
        with self._moving:
            if rest is self._rest and not self._device.closed:
                self._device.frequency = None


@cache
def pin_factory() -> Any:
    """The machine's pins, once a process: lgpio's, or gpiozero's mock where GPIOZERO_PIN_FACTORY says so.

    Raises:
        LatchError: gpiozero or lgpio is not installed, or this is no Raspberry Pi, or this user may not use its pins.
    """
    name = os.environ.get("GPIOZERO_PIN_FACTORY", "lgpio")
    if name not in ("lgpio", "mock"):
        raise LatchError(f"pins are driven by lgpio, got GPIOZERO_PIN_FACTORY={name}; unset it (mock: pins without a Pi)")
    try:
        if name == "mock":
            from gpiozero.pins.mock import MockFactory, MockPWMPin

            logger.warning("GPIOZERO_PIN_FACTORY=mock: no pin of this machine moves")
            return MockFactory(pin_class=MockPWMPin)
        with _elsewhere():
            from gpiozero.pins.lgpio import LGPIOFactory
    except ImportError as error:
        raise LatchError(f"pins need gpiozero and lgpio ({error}); {INSTALL}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return LGPIOFactory()
    except Exception as error:  # lgpio's own, gpiozero's and the kernel's
        raise LatchError(f"this machine's pins cannot be had: {error}; on a Raspberry Pi, add the user to the group gpio "
                         "(sudo usermod -aG gpio USER), elsewhere choose another latch") from error


@contextlib.contextmanager
def _elsewhere() -> Iterator[None]:
    """A working directory to write in: lgpio leaves a pipe there when it is imported, and fails where it cannot."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        yield


@contextlib.contextmanager
def pin_errors(pin: int) -> Iterator[None]:
    """Say as LatchError what gpiozero, lgpio or the kernel say in types of their own."""
    try:
        yield
    except LatchError:
        raise
    except ImportError as error:
        raise LatchError(f"pins need gpiozero ({error}); {INSTALL}") from error
    except Exception as error:
        if type(error).__name__ == "GPIOPinInUse" or "busy" in str(error).lower():
            raise LatchError(f"pin {pin} is in use ({error}); end the other program, such as a door that runs as a service "
                             "(sudo systemctl stop pawlatch), or wire another pin") from error
        raise LatchError(f"pin {pin} cannot be driven: {error}; look at its number and its wiring") from error


def _let_go(device: Any, factory: Any, pin: int, *, pull: str) -> None:
    """Close the device, which makes its pin an input that floats, and pull that."""
    with pin_errors(pin):
        device.close()
        freed = factory.pin(pin)
        if not freed.info.pull:  # pins 2 and 3 have resistors of their own
            freed.pull = pull


def _duty(pulse_ms: float) -> float:
    """Share of the period that a pulse takes. gpiozero cuts it down to whole percents for lgpio, so it gets a bit on top."""
    return round(pulse_ms * SERVO_HZ / 10) / 100 + 1e-4
