"""The parts of the whole-machine test that need no machine: the pin's history, the comparison with the journal, the table."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from tests.device.machine.guest.camera import Stage, yuyv
from tests.device.machine.history import History, Move, read_console, unwritten
from tests.device.machine.image import Cast
from tests.device.machine.table import Check, table
from tests.device.roots import HostError

CONSOLE = """\
[    0.812345] pins: all as from power-on
[    3.100000] pins: 4 low
[   10.000000] clock: 1000.000
[   20.000000] mark: kill
[   20.500000] pins: 17 high
[   21.000000] clock: 1011.000
[   30.250000] pins: 17 low
[   41.000000] pins: 17 high
[   42.0000"""


def test_the_pins_moves_are_read_with_the_time_of_the_wall():
    history = read_console(CONSOLE, pin=17)
    assert history.moves == (Move(20.5, True), Move(30.25, False), Move(41.0, True))
    assert history.rises_unix_s() == [1010.5, 1031.0]
    assert history.is_high
    assert not read_console(CONSOLE, pin=4).is_high


def test_how_long_it_stays_high_is_told():
    history = read_console(CONSOLE, pin=17)
    assert history.marks == {"kill": 20.0}
    assert history.high_after(25.0) == 5.25
    assert history.high_after(35.0) == 0.0
    assert history.high_after(41.0) == float("inf")


def test_a_console_without_pins_or_without_time_says_nothing():
    with pytest.raises(ValueError, match="does not say that the pins are there"):
        read_console(CONSOLE.partition("\n")[2], pin=17)
    with pytest.raises(ValueError, match="no time of the wall"):
        History((Move(1.0, True),), ()).rises_unix_s()


@pytest.mark.parametrize(("rises", "unlocks", "missing"), [
    ([], [], []),
    ([100.0, 130.0], [99.8, 129.5], []),
    ([100.0], [99.8, 129.5], []),  # written, and the power went before it moved
    ([100.0, 130.0], [99.8], [130.0]),
    ([100.0, 103.0], [99.8], [103.0]),  # one unlock is no excuse for two rises
    ([100.0], [102.0], [100.0]),  # written too late
    ([100.0], [70.0], [100.0]),  # somebody else's
])
def test_a_rise_without_an_unlock_of_its_own_is_found(rises, unlocks, missing):
    assert unwritten(rises, unlocks) == missing


def photos(folder, **of):
    """Photos of one colour each: `photos(folder, own=[200, 100])` by their greys."""
    for label, greys in of.items():
        (folder / label).mkdir(parents=True)
        for number, grey in enumerate(greys):
            cv2.imwrite(str(folder / label / f"{number}.png"), np.full((90, 120, 3), grey, np.uint8))
    return folder


def test_who_may_enter_and_who_not_is_the_bundles_word(tiny_bundle, tmp_path):
    photos(tmp_path / "photos" / "valid", own=[200, 100], other=[60], _empty=[120])
    cast = Cast.read(tiny_bundle, tmp_path / "photos")
    assert [path.parent.name for path in cast.own + cast.other] == ["own", "own", "other", "_empty"]
    with pytest.raises(HostError, match="there are 0 of who may enter and 1 others"):
        Cast.read(tiny_bundle, photos(tmp_path / "less", other=[60]))


def test_the_next_photo_comes_with_each_visit(tmp_path):
    stage = Stage(photos(tmp_path, own=[200, 60]))

    seen = [np.median(stage.picture(who)[160:180, 100:160], axis=(0, 1)) for who in ("nobody", "own", "own", "nobody", "own", "other")]
    assert np.abs(np.array(seen) - [[120] * 3, [200] * 3, [200] * 3, [120] * 3, [60] * 3, [200, 40, 40]]).max() <= 2
    blue = np.frombuffer(yuyv(np.full((240, 320, 3), (255, 0, 0), np.uint8)), np.uint8)
    assert np.abs(blue.reshape(-1, 4) - [29, 255, 29, 107]).max() <= 1  # Y, Cb, Y, Cr of ITU-R BT.601 in its full range


def test_the_table_says_what_does_not_hold():
    text = table([Check("low | high", True, "17\nlow", 1.4), Check("b", False, "high", 60.0)], title="A title.")
    assert text.splitlines()[0] == "A title."
    assert "| low \\| high | yes | 17 low | 1 s |" in text.splitlines()
    assert "| b | **no** | high | 60 s |" in text.splitlines()
