"""The pins' table: what it says of latches, and that docs/wiring.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pawlatch.boot import BOOT_PULLS, FIXED_HIGH, PINS, TOUCHED, boot_doubt, config_line, locks_at_boot
from pawlatch.errors import ConfigError
from pawlatch.latch import LatchOptions

WIRING = (Path(__file__).parents[2] / "docs" / "wiring.md").read_text(encoding="utf-8")


def rows(text):
    """pin: (pull, active high, active low, what else), as the page's table has them; a row may stand for several pins."""
    found = {}
    for first, last, pull, high, low, touched in re.findall(
            r"^\| (\d+)(?: to (\d+))? \| (up|down)[^|]* \| (locked|unlocked|refused) \| (locked|unlocked|refused) \| (.*?) \|$", text, re.MULTILINE):
        for pin in range(int(first), int(last or first) + 1):
            assert pin not in found
            found[pin] = (pull, high, low, touched)
    return found


def is_refused(pin, *, active_high):
    try:
        LatchOptions(kind="gpio", pin=pin, active_high=active_high)
    except ConfigError:
        return True
    return False


def expected(pin):
    words = ["refused" if is_refused(pin, active_high=level) else
             "locked" if locks_at_boot(pin, active_high=level) else "unlocked" for level in (True, False)]
    return (BOOT_PULLS[pin], *words, TOUCHED.get(pin, ""))


def test_the_pages_table_is_the_codes():
    assert rows(WIRING) == {pin: expected(pin) for pin in PINS}


def test_a_page_that_says_otherwise_is_noticed():
    assert rows(WIRING.replace("| 17 | down |", "| 17 | up |")) != {pin: expected(pin) for pin in PINS}


def test_pins_0_to_8_begin_high_and_the_others_low():
    assert [pin for pin in PINS if locks_at_boot(pin, active_high=False)] == list(range(9))
    assert [pin for pin in PINS if locks_at_boot(pin, active_high=True)] == list(range(9, 28))


@pytest.mark.parametrize("pin", FIXED_HIGH)
def test_a_pin_that_nothing_pulls_down_is_refused_where_high_unlocks(pin):
    with pytest.raises(ConfigError, match=f"pin {pin} is high from power-on until a program takes it, which unlocks"):
        LatchOptions(kind="gpio", pin=pin)
    assert LatchOptions(kind="gpio", pin=pin, active_high=False).pin == pin


def test_a_latch_that_rests_is_not_doubted():
    assert boot_doubt(17, active_high=True) is None
    assert boot_doubt(5, active_high=False) is None


@pytest.mark.parametrize(("active_high", "line"), [(True, "gpio=17=op,dl"), (False, "gpio=17=op,dh")])
def test_the_firmware_is_told_to_lock(active_high, line):
    assert config_line(17, active_high=active_high) == line
