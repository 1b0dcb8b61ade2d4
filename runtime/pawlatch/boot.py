"""What a Raspberry Pi's pins do before any program runs, and whether a latch at them is locked meanwhile.

From power-on until somebody drives it each pin is an input with the pull that its chip gives it; a reset without a loss of
power leaves the pull that was last set. Sources: BCM2835 ARM Peripherals, table 6-31, whose pulls the later chips (BCM2711,
RP1) kept for these pins; Raspberry Pi's documentation of config.txt (`gpio=`) and of the pins during the boot sequence.
"""

from __future__ import annotations

from typing import Literal

Pull = Literal["up", "down"]

CONFIG_TXT = "/boot/firmware/config.txt"

PINS = range(28)  # what the header has
BOOT_PULLS: dict[int, Pull] = {pin: "up" if pin <= 8 else "down" for pin in PINS}
FIXED_HIGH = (2, 3)  # resistors of 1.8 kΩ on the board hold them high; no pull-down gets the better of those
# What else may move a pin before or beside a program, where it is enabled or wired.
TOUCHED = {
    0: "read at boot: EEPROM of a HAT", 1: "read at boot: EEPROM of a HAT",
    2: "I2C; fixed pull-up of 1.8 kΩ", 3: "I2C; fixed pull-up of 1.8 kΩ; wakes a Pi that was shut down",
    4: "general-purpose clock; 1-Wire's usual pin",
    7: "SPI chip select", 8: "SPI chip select", 9: "SPI", 10: "SPI", 11: "SPI",
    14: "serial console: driven high and low at boot where that is on", 15: "serial console",
    18: "sound by I2S or PWM", 19: "sound by I2S or PWM", 20: "sound by I2S", 21: "sound by I2S",
}


def locks_at_boot(pin: int, *, active_high: bool) -> bool:
    """Whether a latch that unlocks on `active_high` is locked by the pin's own pull."""
    return (BOOT_PULLS[pin] == "down") is active_high


def boot_doubt(pin: int, *, active_high: bool) -> str | None:
    """Why such a latch may be unlocked, or move, before this program runs; None where it rests."""
    if not locks_at_boot(pin, active_high=active_high):
        level, other = ("high", "9 to 27, which begin low") if active_high else ("low", "4 to 8, which begin high")
        return f"pin {pin} is {level} from power-on until a program takes it, which unlocks; wire the latch to one of {other}"
    if pin in (14, 15):
        return f"pin {pin} is the serial console's, which moves it at boot; wire another one, or turn the console off"
    return None


def config_line(pin: int, *, active_high: bool) -> str:
    """What locks in config.txt: the firmware drives the pin some seconds after power-on, before the kernel."""
    return f"gpio={pin}=op,{'dl' if active_high else 'dh'}"
