"""Power and temperature: read from what there is, settled so that they do not flap, and a running door that uses fewer threads."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from pawlatch.board import COOL_C, HELD_S, HOT_C, UNKNOWN, Board, BoardWatch, Settling, read_board
from pawlatch.model import ModelOptions, open_model
from pawlatch.swap import ModelSlot

WELL = Board(50.0, False, False)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """`tools("vcgencmd", "echo …")`: a program of that name; without it there is none."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.fixture
def root(tmp_path):
    """`root("class/hwmon/hwmon0/name", "rpi_volt")` writes a file below /sys of a system that is not this one."""
    system = tmp_path / "root"

    def write(name, text):
        path = system / "sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        return system

    write.path = system
    return write


# ------------------------------------------------------------------------------------------------------ what is read


def test_a_machine_that_tells_nothing_is_not_in_trouble(tools, root):
    board = read_board(root.path)
    assert board == UNKNOWN
    assert (board.trouble, board.strain, board.threads(4)) == (None, None, 4)


@pytest.mark.parametrize(("bits", "low", "slow"), [
    (0x0, False, False), (0x1, True, False), (0x50005, True, True), (0x4, False, True), (0x2, False, True),
    (0x50000, False, False), (0x8, False, False),  # what was since the start, and the soft limit, which is a Pi 3's everyday
])
def test_the_firmware_is_asked_first(tools, root, bits, low, slow):
    tools("vcgencmd", f"case $1 in get_throttled) echo throttled={bits:#x};; measure_temp) echo \"temp=48.3'C\";; esac")
    root("class/hwmon/hwmon0/name", "rpi_volt")
    root("class/hwmon/hwmon0/in0_lcrit_alarm", int(not low))
    assert read_board(root("class/thermal/thermal_zone0/temp", "90000")) == Board(48.3, low, slow)


@pytest.mark.parametrize("alarm", [0, 1])
def test_where_it_may_not_be_asked_the_kernel_tells(tools, root, alarm):
    tools("vcgencmd", "echo Can\\'t open device file: /dev/vcio >&2; exit 1")
    root("class/hwmon/hwmon0/name", "cpu_thermal")
    root("class/hwmon/hwmon1/name", "rpi_volt")
    root("class/hwmon/hwmon1/in0_lcrit_alarm", alarm)
    root("devices/platform/soc/soc:firmware/get_throttled", "50005")  # deprecated: it is not even read
    assert read_board(root("class/thermal/thermal_zone0/temp", "61322")) == Board(61.322, bool(alarm), None)


def test_the_firmwares_file_comes_last(tools, root):
    assert read_board(root("devices/platform/soc/soc:firmware/get_throttled", "50005")) == Board(None, True, True)


def test_what_cannot_be_read_is_not_known(tools, root):
    root("class/hwmon/hwmon1/name", "rpi_volt")
    root("class/hwmon/hwmon1/in0_lcrit_alarm", "?")
    (root.path / "sys/class/hwmon/hwmon2/name").mkdir(parents=True)
    assert read_board(root("class/thermal/thermal_zone0/temp", "hot")) == UNKNOWN


@pytest.mark.parametrize(("board", "strain", "told"), [
    (WELL, None, None),
    (replace(WELL, undervoltage=True, is_hot=True), "undervoltage", "power supply"),
    (replace(WELL, temperature_c=83.2, is_hot=True, throttled=True), "heat", "too hot, 83 °C: give it a heat sink"),
    (replace(WELL, throttled=True), "throttling", "held to a lower frequency"),
])
def test_trouble_says_what_is_wrong_and_what_to_do(board, strain, told):
    assert board.strain == strain
    assert (board.trouble is None) is (told is None)
    assert told is None or told in board.trouble
    assert board.threads(4) == (4 if strain is None else 1)
    assert board.threads(1) == 1


# ------------------------------------------------------------------------------------------------------ it does not flap


def test_it_is_hot_until_it_is_cool():
    settle = Settling()
    course = [79.9, HOT_C, 79.0, COOL_C, 74.9, 79.9, 80.1]
    assert [settle(replace(WELL, temperature_c=c), 0.0).is_hot for c in course] == [False, True, True, True, False, False, True]
    assert not settle(replace(WELL, temperature_c=None), 0.0).is_hot


@pytest.mark.parametrize("what", ["undervoltage", "throttled"])
def test_low_power_is_held_for_a_minute_after_its_last_moment(what):
    settle = Settling()
    low = replace(WELL, **{what: True})
    assert settle(WELL, 0.0) == WELL
    for time_s, read, is_so in ((1.0, low, True), (10.0, WELL, True), (20.0, low, True), (20.0 + HELD_S - 0.1, WELL, True),
                                (20.0 + HELD_S, WELL, False), (90.0, low, True)):
        assert getattr(settle(read, time_s), what) is is_so
    assert getattr(settle(replace(WELL, **{what: None}), 91.0), what) is None


def test_the_watch_reads_in_a_thread_of_its_own_and_ends_at_once(clock):
    seen, again = [], threading.Event()

    def read():
        seen.append(threading.current_thread().name)
        if len(seen) > 1:
            again.set()
        return replace(WELL, undervoltage=True)

    watch = BoardWatch(read=read, every_s=1e-3, clock=clock)
    assert watch.threads(2) == 2  # nothing is known yet
    with watch:
        assert again.wait(60)
        assert watch.threads(2) == 1
    watch.close()
    assert set(seen) == {"board watch"}


def test_a_watch_that_waits_is_ended_at_once():
    with BoardWatch(read=lambda: WELL, every_s=3600):
        pass
    BoardWatch().close()


def test_a_reading_that_fails_is_no_reading_and_not_the_end(caplog):
    readings, well = iter([OSError("bus"), WELL]), threading.Event()

    def read():
        reading = next(readings, None)
        if isinstance(reading, OSError):
            raise reading
        well.set()
        return WELL

    with BoardWatch(read=read, every_s=1e-3) as watch:
        assert well.wait(60)
    assert "the board cannot be read" in caplog.text
    assert watch.threads(2) == 2


# ------------------------------------------------------------------------------------------------------ fewer threads


@pytest.fixture
def slot_for(tiny_bundle):
    """`slot_for(watch)`: a slot whose model has as many threads as the board bears."""
    options = ModelOptions(bundle=tiny_bundle, variant="int8", threads=2)
    return lambda watch: ModelSlot(
        open_model(options), folder=tiny_bundle, load=lambda: open_model(options, threads=watch.threads(2)),
        suits=lambda classifier: classifier.threads == watch.threads(2))


def turn(slot, turns=3, *, from_s=0.0):
    for second in range(turns):
        slot.poll(from_s + second)
        slot.close()
    return slot.take()


def test_a_board_in_trouble_gets_a_model_with_one_thread_and_its_own_again_afterwards(slot_for, clock):
    readings = [WELL]
    watch = BoardWatch(read=lambda: readings[-1], clock=clock)
    slot = slot_for(watch)
    watch.look()
    assert turn(slot) is None
    readings.append(replace(WELL, undervoltage=True))
    watch.look()
    assert turn(slot, from_s=10).threads == slot.current.threads == 1
    readings.append(WELL)
    clock.now_s = HELD_S - 1
    watch.look()
    assert turn(slot, from_s=20) is None
    clock.now_s = HELD_S
    watch.look()
    assert turn(slot, from_s=30).threads == 2
    assert turn(slot, from_s=40) is None


def test_a_bundle_that_went_bad_meanwhile_leaves_the_model_as_it_is(slot_for, tiny_bundle, clock):
    watch = BoardWatch(read=lambda: replace(WELL, throttled=True), clock=clock)
    slot = slot_for(watch)
    assert turn(slot) is None
    (file,) = tiny_bundle.glob("int8-*.tflite")
    file.write_bytes(b"rotten")
    watch.look()
    assert turn(slot, 10, from_s=10) is None
    assert slot.current.threads == 2
    assert "is not the file its card vouches for" in slot.refusal
