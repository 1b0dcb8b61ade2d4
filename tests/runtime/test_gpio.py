from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pawlatch.decide import Verdict
from pawlatch.door import Cause, Door, DoorOptions, DoorState
from pawlatch.errors import ConfigError, LatchError
from pawlatch.gpio import GpioLatch, ServoLatch, pin_factory
from pawlatch.latch import LatchOptions, open_latch
from pawlatch.sensors import CLEAR_S, Sensor, SensorOptions, open_sensors

pytest.importorskip("gpiozero", reason='gpiozero is absent; pip install "pawlatch[pi]"')

from gpiozero.pins import local
from gpiozero.pins.mock import MockFactory, MockPWMPin

YES = Verdict(True, "own", 0.97, "3 of 3 frames")


class Timer:
    """A threading.Timer that goes off when a test says so."""

    made: list

    def __init__(self, after_s, call):
        self.after_s, self.call, self.pending = after_s, call, False
        self.made.append(self)

    def start(self):
        self.pending = True

    def cancel(self):
        self.pending = False

    def join(self, timeout=None):
        self.fire()

    def fire(self):
        if self.pending:
            self.pending = False
            self.call()


@pytest.fixture
def timer():
    return type("TestTimer", (Timer,), {"made": []})


@pytest.fixture
def pins():
    return MockFactory(pin_class=MockPWMPin)


@pytest.fixture
def mock_machine(monkeypatch):
    """gpiozero's mock pins as those of this machine."""
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    pin_factory.cache_clear()
    yield pin_factory()
    pin_factory.cache_clear()


# a pin


@pytest.mark.parametrize("active_high", [True, False])
def test_a_pin_is_inactive_from_the_start_and_active_while_unlocked(pins, active_high):
    latch = GpioLatch(17, active_high=active_high, factory=pins)
    pin = pins.pin(17)
    active = [pin.state == active_high]
    for move in (latch.lock, latch.unlock, latch.unlock, latch.lock):
        move()
        active.append(pin.state == active_high)
    assert active == [False, False, True, True, False]
    assert pin.function == "output"
    assert latch.is_real
    assert latch.pulse_s is None


@pytest.mark.parametrize(("active_high", "pull"), [(True, "down"), (False, "up")])
def test_a_closed_latch_leaves_an_input_pulled_to_the_side_that_locks(pins, active_high, pull):
    latch = GpioLatch(17, active_high=active_high, factory=pins)
    latch.unlock()
    latch.close()
    latch.close()
    pin = pins.pin(17)
    assert (pin.function, pin.pull) == ("input", pull)
    assert bool(pin.state) != active_high


def test_a_pin_with_a_resistor_of_its_own_keeps_it(pins):
    latch = GpioLatch(3, active_high=False, factory=pins)
    latch.close()
    assert pins.pin(3).pull == "up"


def test_a_pulse_ends_by_itself(pins, timer):
    latch = GpioLatch(17, pulse_s=0.5, factory=pins, timer=timer)
    latch.unlock()
    assert pins.pin(17).state
    assert timer.made[0].after_s == 0.5
    timer.made[0].fire()
    assert not pins.pin(17).state


def test_a_pulse_that_was_cut_short_does_not_end_the_next_one(pins, timer):
    latch = GpioLatch(17, pulse_s=0.5, factory=pins, timer=timer)
    latch.unlock()
    latch.lock()
    assert not pins.pin(17).state
    latch.unlock()
    timer.made[0].call()  # it was too late to be cancelled
    assert pins.pin(17).state
    timer.made[1].fire()
    assert not pins.pin(17).state


def test_a_pulse_that_cannot_be_ended_is_not_begun(pins, timer):
    def no_threads(self):
        raise RuntimeError("can't start new thread")

    timer.start = no_threads
    latch = GpioLatch(17, pulse_s=0.5, factory=pins, timer=timer)
    with pytest.raises(LatchError, match="can't start new thread"):
        latch.unlock()
    assert not pins.pin(17).state


def test_a_real_timer_ends_the_pulse(pins):
    latch = GpioLatch(17, pulse_s=0.01, factory=pins)
    latch.unlock()
    latch._pulse.join(10)
    assert not pins.pin(17).state


def test_a_pin_that_does_not_follow_is_said(pins):
    class Shorted(MockPWMPin):
        def _set_state(self, value):
            """Ground wins."""

    pins.pin(17, pin_class=Shorted)
    latch = GpioLatch(17, factory=pins)
    latch.lock()
    with pytest.raises(LatchError, match="pin 17 must be active and is not; look for a short"):
        latch.unlock()
    pins.pin(17)._state = True  # and now the other way round
    with pytest.raises(LatchError, match="pin 17 must be inactive"):
        latch.close()
    assert pins.pin(17).function == "input", "whatever it does: no longer driven"


def test_a_pin_in_use_is_said_with_the_remedy(pins):
    GpioLatch(17, factory=pins).lock()
    keep = GpioLatch(18, factory=pins)
    with pytest.raises(LatchError, match=r"pin 18 is in use .* wire another pin"):
        GpioLatch(18, factory=pins)
    with pytest.raises(LatchError, match="pin 18 is in use"):
        Sensor(18, factory=pins)
    keep.close()
    GpioLatch(18, factory=pins).close()


def test_a_pin_that_another_process_has_is_said_and_had_later():
    class Busy(MockPWMPin):
        busy = True

        def __init__(self, factory, info):
            if self.busy:
                raise RuntimeError("'GPIO busy'")  # as lgpio says it
            super().__init__(factory, info)

    pins = MockFactory(pin_class=Busy)
    with pytest.raises(LatchError, match=r"pin 17 is in use .*systemctl stop pawlatch"):
        GpioLatch(17, factory=pins)
    Busy.busy = False
    GpioLatch(17, factory=pins).close()


def test_a_pin_that_fails_later_is_said(pins):
    latch = GpioLatch(17, factory=pins)
    latch._device.close()
    with pytest.raises(LatchError, match="pin 17 cannot be driven"):
        latch.lock()


# a servo


def test_a_servo_moves_and_then_gets_no_more_pulses(pins, timer):
    latch = ServoLatch(18, locked_ms=1.0, unlocked_ms=2.0, settle_s=0.6, factory=pins, timer=timer)
    pin = pins.pin(18)
    latch.lock()
    assert (pin.frequency, pin.state) == (50, pytest.approx(0.05, abs=2e-4))
    timer.made[-1].fire()
    assert pin.frequency is None
    latch.unlock()
    assert (pin.frequency, pin.state) == (50, pytest.approx(0.10, abs=2e-4))
    latch.close()
    latch.close()
    assert not pin.frequency
    assert pin.function == "input"


@pytest.mark.parametrize("fifth", range(2, 14))
def test_a_servos_pulse_survives_being_cut_to_whole_percents(pins, timer, fifth):
    latch = ServoLatch(18, locked_ms=fifth * 0.2, unlocked_ms=1.5, factory=pins, timer=timer)
    latch.lock()
    assert int(pins.pin(18).state * 100) == fifth, "what gpiozero hands to lgpio"


def test_a_servo_that_turns_back_is_not_let_go_on_the_way(pins, timer):
    latch = ServoLatch(18, factory=pins, timer=timer)
    latch.unlock()
    latch.lock()
    timer.made[0].call()
    assert pins.pin(18).frequency == 50
    timer.made[1].fire()
    assert pins.pin(18).frequency is None


# the machine's pins


def test_options_open_their_latch(mock_machine):
    pulsed, servo = open_latch(LatchOptions(kind="gpio", pin=17, drive="pulse", pulse_s=0.2)), open_latch("servo:18")
    assert isinstance(pulsed, GpioLatch)
    assert pulsed.pulse_s == 0.2
    assert isinstance(servo, ServoLatch)
    assert [mock_machine.pin(pin).function for pin in (17, 18)] == ["output", "output"]


def python(text, *, folder, **environment):
    return subprocess.run([sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, cwd=folder,
                          env={**os.environ, **environment})


LGPIO = """
open('pipe', 'w').close()  # as the real one does where it is imported
handles = []
SET_PULL_NONE = SET_PULL_UP = SET_PULL_DOWN = BOTH_EDGES = RISING_EDGE = FALLING_EDGE = 0
class error(Exception): pass
def gpiochip_open(chip): raise error("can not open gpiochip")
"""


@pytest.fixture
def stand_in(tmp_path):
    """An lgpio that can be imported only where a file can be written, on a machine that is no Raspberry Pi."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "lgpio.py").write_text(LGPIO)
    return {"PYTHONPATH": os.pathsep.join([str(library), *filter(None, [os.environ.get("PYTHONPATH")])])}


OPEN = "from pawlatch.latch import open_latch\ntry: open_latch('gpio:17')\nexcept Exception as error: print(type(error).__name__, error)"


def test_without_lgpio_nothing_else_is_taken_instead(tmp_path):
    (tmp_path / "lgpio.py").write_text("raise ImportError('No module named lgpio')")
    done = python(OPEN, folder=tmp_path, PYTHONPATH=str(tmp_path), GPIOZERO_PIN_FACTORY="lgpio")
    assert done.stdout.startswith("LatchError pins need gpiozero and lgpio")
    assert "sudo apt install python3-lgpio" in done.stdout
    assert done.stderr == "", "no warnings of gpiozero's"


def test_a_machine_without_pins_is_said_and_lgpio_leaves_no_pipe_behind(tmp_path, stand_in):
    done = python(OPEN, folder=tmp_path, **stand_in, GPIOZERO_PIN_FACTORY="lgpio")
    assert done.stdout.startswith("LatchError this machine's pins cannot be had"), done
    assert not (tmp_path / "pipe").exists()
    assert done.stderr == ""


def test_another_pin_library_is_refused(monkeypatch):
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "pigpio")
    pin_factory.cache_clear()
    with pytest.raises(LatchError, match="pins are driven by lgpio, got GPIOZERO_PIN_FACTORY=pigpio"):
        open_latch("gpio:17")


class Lgpio(ModuleType):
    """As much of lgpio as gpiozero's LGPIOFactory asks for; `lines` are the pins as (mode, level, pull), `calls` in order.

    A line that nobody claimed, or another program did, is treated as the kernel does.
    """

    SET_PULL_UP, SET_PULL_DOWN, SET_PULL_NONE = 32, 64, 128
    RISING_EDGE, FALLING_EDGE, BOTH_EDGES = 1, 2, 3

    error = type("error", (Exception,), {})

    def __init__(self):
        super().__init__("lgpio")
        self.lines, self.calls, self.taken, self.pulls = {}, [], set(), {}

    def gpiochip_open(self, chip):
        return 1

    def gpiochip_close(self, handle):
        self.lines.clear()

    def claim(self, kind, pin, level, flags):
        if pin in self.taken:
            raise self.error("'GPIO busy'")
        self.lines[pin] = kind, level
        self.pulls[pin] = flags
        self.calls.append((kind, pin, level))

    def gpio_claim_input(self, handle, pin, flags=0):
        self.claim("input", pin, 1 if flags & self.SET_PULL_UP else 0, flags)

    def gpio_claim_output(self, handle, pin, level=0, flags=0):
        self.claim("output", pin, level, flags)

    def gpio_free(self, handle, pin):
        del self.lines[pin]

    def gpio_get_mode(self, handle, pin):
        return 2 if self.lines[pin][0] == "output" else self.pulls[pin]

    def gpio_read(self, handle, pin):
        return self.lines[pin][1]

    def gpio_write(self, handle, pin, level):
        assert self.lines[pin][0] == "output"
        self.lines[pin] = "output", int(level)
        self.calls.append(("write", pin, int(level)))

    def tx_pwm(self, handle, pin, frequency, duty):
        self.calls.append(("pwm", pin, frequency, duty))


@pytest.fixture
def lgpio(monkeypatch):
    """gpiozero's own LGPIOFactory over a stand-in of lgpio, on a Raspberry Pi 4 that is not there."""
    fake = Lgpio()
    monkeypatch.setitem(sys.modules, "lgpio", fake)
    monkeypatch.delitem(sys.modules, "gpiozero.pins.lgpio", raising=False)
    monkeypatch.setattr("gpiozero.pins.local.get_pi_revision", lambda: 0xC03114)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    pin_factory.cache_clear()
    yield fake
    local.LocalPiFactory.pins.clear()
    pin_factory.cache_clear()
    sys.modules.pop("gpiozero.pins.lgpio", None)


@pytest.mark.parametrize("active_high", [True, False])
def test_a_pin_by_lgpio(lgpio, active_high):
    latch = open_latch(LatchOptions(kind="gpio", pin=17, active_high=active_high))
    on, off = int(active_high), int(not active_high)
    assert lgpio.lines[17] == ("output", off)
    latch.unlock()
    assert lgpio.lines[17] == ("output", on)
    latch.lock()
    assert lgpio.lines[17] == ("output", off)
    latch.unlock()
    latch.close()
    assert lgpio.lines[17] == ("input", off)
    assert lgpio.pulls[17] == (lgpio.SET_PULL_DOWN if active_high else lgpio.SET_PULL_UP)


def test_a_servo_by_lgpio(lgpio, timer):
    latch = ServoLatch(18, locked_ms=1.4, unlocked_ms=2.2, timer=timer)
    latch.lock()
    timer.made[-1].fire()
    latch.unlock()
    latch.close()
    duties = [call[2:] for call in lgpio.calls if call[0] == "pwm"]
    assert [duty for frequency, duty in duties if frequency and duty] == [7, 11, 7], "1.4, 2.2 and 1.4 of 20 ms"
    assert duties[-1] == (0, 0), "no pulses are left behind"


def test_sensors_by_lgpio(lgpio):
    with open_sensors(SensorOptions(reed_pin=22)) as sensors:
        assert lgpio.pulls[22] == lgpio.SET_PULL_UP
        assert not sensors.reed()
        lgpio.lines[22] = "input", 0
        assert sensors.reed()


def test_a_line_that_another_program_has_by_lgpio(lgpio):
    lgpio.taken.add(17)
    with pytest.raises(LatchError, match="pin 17 is in use"):
        open_latch("gpio:17")
    lgpio.taken.clear()
    open_latch("gpio:17").close()


# sensors


def test_no_sensors_are_none():
    with open_sensors(SensorOptions()) as sensors:
        assert (sensors.reed, sensors.passage) == (None, None)


@pytest.mark.parametrize("pull_up", [True, False])
def test_a_sensor_is_true_while_its_switch_is_closed(pins, pull_up):
    options = SensorOptions(reed_pin=22, reed_pull_up=pull_up, passage_pin=23, passage_pull_up=pull_up)
    with open_sensors(options, factory=pins) as sensors:
        assert (sensors.reed(), sensors.passage()) == (False, False)
        (pins.pin(22).drive_low if pull_up else pins.pin(22).drive_high)()
        assert (sensors.reed(), sensors.passage()) == (True, False)
    with pytest.raises(LatchError, match="pin 22 cannot be driven"):
        sensors.reed()


def test_the_first_sensors_pin_is_given_back_where_the_second_fails(pins):
    taken = Sensor(23, factory=pins)
    options = SensorOptions(reed_pin=22, passage_pin=23)
    with pytest.raises(LatchError, match="pin 23 is in use"):
        open_sensors(options, factory=pins)
    taken.close()
    open_sensors(options, factory=pins).close()


@pytest.mark.parametrize("wrong", [{"reed_pin": 1}, {"passage_pin": 28}, {"reed_pin": 5, "passage_pin": 5}, {"jam_s": 0.0},
                                   {"reed_on": "wall"}])
def test_sensors_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"reed_pin|passage_pin|jam_s|reed_on"):
        SensorOptions(**wrong)


def test_a_whole_door_at_pins(pins, clock):
    """A cat comes, goes through and is locked behind; then the bolt jams."""
    told = []
    options = DoorOptions(mode="armed", unlock_s=5, sensors=SensorOptions(reed_pin=22, passage_pin=23, jam_s=1.0))
    bolt, passage, solenoid = pins.pin(22), pins.pin(23), pins.pin(17)
    latch = GpioLatch(17, factory=pins)
    with (
        open_sensors(options.sensors, factory=pins) as sensors,
        Door(latch, options=options, clock=clock, on_transition=told.append, reed=sensors.reed, passage=sensors.passage) as door,
    ):
        def at(now_s):
            bolt.drive_high() if solenoid.state else bolt.drive_low()  # closed, to ground, while locked
            clock.now_s = now_s
            door.tick(now_s)

        bolt.drive_low()
        at(0.0)
        assert door.consider(YES, 0.0).unlock
        assert solenoid.state
        at(0.5)
        passage.drive_low()
        at(1.0)
        passage.drive_high()
        at(1.0 + CLEAR_S)
        assert not solenoid.state
        bolt.drive_high()
        door.tick(2.0)
        door.tick(3.0)
        assert door.state is DoorState.FAULT
    assert [transition.cause for transition in told] == [Cause.STARTED, Cause.VERDICT, Cause.PASSAGE, Cause.JAMMED]
    latch.close()


def test_the_package_asks_for_what_a_pi_needs():
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert any(need.startswith("gpiozero") for need in extras["pi"])
    assert any(need.startswith("lgpio>=0.2.2") and "python_version < '3.13'" in need for need in extras["pi"])
