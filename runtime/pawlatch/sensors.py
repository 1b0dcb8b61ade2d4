"""What tells where the bolt is and whether something passes: inputs, and what the door concludes from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

from pawlatch.errors import ConfigError, LatchError
from pawlatch.gpio import pin_errors, pin_factory

CLEAR_S = 0.5  # for which the passage must be clear again: a tail follows its cat


@dataclass(frozen=True)
class SensorOptions:
    """What is wired to tell where the bolt is and whether something passes; both are optional. Pins by GPIO number."""

    # The pin of a reed switch that is closed while the door is locked (or the flap shut), 2 to 27.
    reed_pin: int | None = None
    # Where it sits: on the bolt, which must follow each command; or on the flap, which must be shut while the bolt is out.
    reed_on: Literal["bolt", "flap"] = "bolt"
    # Whether the switch connects the pin to ground (true) or to 3.3 V.
    reed_pull_up: bool = True
    # For how long reed switch and command may disagree before the door counts as jammed, in seconds above 0.
    jam_s: float = 2.0
    # The pin of what is closed while something stands in the passage, 2 to 27.
    passage_pin: int | None = None
    # Whether it connects the pin to ground (true) or to 3.3 V.
    passage_pull_up: bool = True

    def __post_init__(self) -> None:
        for name in ("reed_pin", "passage_pin"):
            pin = getattr(self, name)
            if pin is not None and not 2 <= pin <= 27:
                raise ConfigError(f"{name} must be a GPIO number, 2 to 27, got {pin}")
        if self.reed_pin is not None and self.reed_pin == self.passage_pin:
            raise ConfigError(f"reed_pin and passage_pin must differ, both are {self.reed_pin}")
        if self.reed_on not in ("bolt", "flap"):
            raise ConfigError(f"reed_on must be bolt or flap, got {self.reed_on!r}")
        if not (math.isfinite(self.jam_s) and self.jam_s > 0):
            raise ConfigError(f"jam_s must be above 0, got {self.jam_s}")


class Sensor:
    """An input pin, read when it is called: True while its switch is closed.

    It is polled, with no thread of its own; what reads it takes the bounce of its contacts into account.

    Raises:
        LatchError: as GpioLatch.
    """

    def __init__(self, pin: int, *, pull_up: bool = True, factory: Any = None) -> None:
        self._pin = pin
        with pin_errors(pin):
            from gpiozero import InputDevice

            self._device = InputDevice(pin, pull_up=pull_up, pin_factory=factory or pin_factory())

    def __call__(self) -> bool:
        with pin_errors(self._pin):
            return bool(self._device.is_active)

    def close(self) -> None:
        """Give the pin back. May be called twice."""
        self._device.close()


@dataclass(frozen=True)
class Sensors:
    """What is wired; None where nothing is. `reed`: True while locked (or shut); `passage`: True while something passes."""

    reed: Sensor | None = None
    passage: Sensor | None = None

    def close(self) -> None:
        """Give the pins back. May be called twice."""
        for sensor in (self.reed, self.passage):
            if sensor is not None:
                sensor.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def open_sensors(options: SensorOptions, *, factory: Any = None) -> Sensors:
    """The sensors of these options.

    Raises:
        LatchError: as GpioLatch.
    """
    reed = None
    if options.reed_pin is not None:
        reed = Sensor(options.reed_pin, pull_up=options.reed_pull_up, factory=factory)
    if options.passage_pin is None:
        return Sensors(reed)
    try:
        return Sensors(reed, Sensor(options.passage_pin, pull_up=options.passage_pull_up, factory=factory))
    except LatchError:
        Sensors(reed).close()
        raise


class Passage:
    """Whether an animal went through an open door: something stood in the passage, and is out again."""

    def __init__(self) -> None:
        self._last_s: float | None = None

    def opened(self) -> None:
        """Begin anew."""
        self._last_s = None

    def is_over(self, passing: bool, time_s: float) -> bool:
        """Take in what the sensor says at `time_s`."""
        if passing:
            self._last_s = time_s
        return self._last_s is not None and time_s - self._last_s >= CLEAR_S


class Bolt:
    """Whether the reed switch agrees with what the latch was told."""

    def __init__(self, options: SensorOptions) -> None:
        self._options = options
        self._disagree_s: float | None = None

    def is_jammed(self, *, told_locked: bool, sensed_locked: bool, time_s: float) -> bool | None:
        """Take in what the switch says at `time_s`; None while they disagree, but not yet for `jam_s`."""
        if sensed_locked == told_locked or (self._options.reed_on == "flap" and not told_locked):
            self._disagree_s = None
            return False
        if self._disagree_s is None:
            self._disagree_s = time_s
        return True if time_s - self._disagree_s >= self._options.jam_s else None
