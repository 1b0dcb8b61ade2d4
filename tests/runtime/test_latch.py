from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from pawlatch.errors import ConfigError, LatchError
from pawlatch.gpio import pin_factory
from pawlatch.latch import LOCKED, UNLOCKED, CommandLatch, LatchOptions, RecordingLatch, latch_options, open_latch


def test_keeps_each_move_with_its_time(clock):
    latch = RecordingLatch(clock=clock)
    latch.lock()
    clock.now_s = 2.5
    latch.unlock()
    latch.close()
    assert latch.history == [(0.0, LOCKED), (2.5, UNLOCKED), (2.5, LOCKED)]
    latch.assert_states([LOCKED, UNLOCKED, LOCKED])


def test_a_command_that_moves_nothing_is_not_history():
    latch = RecordingLatch()
    for command in (latch.lock, latch.lock, latch.close, latch.close):
        command()
    latch.assert_states([LOCKED])


def test_assert_states_goes_red_and_tells_what_happened():
    latch = RecordingLatch(clock=lambda: 1.0)
    latch.unlock()
    with pytest.raises(AssertionError, match=r"expected the latch to go locked; it went unlocked at 1\.0 s"):
        latch.assert_states([LOCKED])


def test_log_latch_logs_its_moves(caplog):
    with caplog.at_level(logging.INFO, logger="pawlatch"):
        open_latch("log").lock()
    assert [record.getMessage() for record in caplog.records] == ["latch locked"]


# names


def test_a_name_is_read_as_options():
    assert latch_options("log") == LatchOptions()
    assert latch_options("gpio:17") == LatchOptions(kind="gpio", pin=17)
    assert latch_options("gpio:17?active_high=false&drive=pulse&pulse_s=0.3") == LatchOptions(
        kind="gpio", pin=17, active_high=False, drive="pulse", pulse_s=0.3)
    assert latch_options("servo:18?locked_ms=1.2") == LatchOptions(kind="servo", pin=18, locked_ms=1.2)


@pytest.mark.parametrize(("uri", "says"), [
    ("", "the latches are: log, gpio:PIN, servo:PIN"), ("log:17", "the latches are"), ("gpio", "the latches are"),
    ("gpio:x", "the latches are"), ("gpio:-1", "the latches are"), ("relay:17", "the latches are"),
    ("command:lock.sh", r"and command, in door\.toml"),
    ("gpio:28", "by GPIO number, 2 to 27, got 28"), ("gpio:2", "pin 2 is high from power-on"),
    ("gpio:17?activehigh=false", "did you mean active_high"), ("gpio:17?active_high=no", "true or false"),
    ("gpio:17?drive=push", "hold or pulse"), ("gpio:17?pulse_s=nan", "pulse_s must be above 0"),
    ("gpio:17?settle_s=1", "no setting 'settle_s'"), ("servo:18?locked_ms=1.1", r"in steps of 0\.2"),
    ("servo:18?locked_ms=2.0", "must differ"), ("servo:18?unlocked_ms=9", r"0\.4 to 2\.6"), ("gpio:17?pulse_s=x", "'x'"),
])
def test_a_latch_that_cannot_be_is_refused_with_the_reason(uri, says):
    with pytest.raises(LatchError, match=says):
        latch_options(uri)


def test_pin_2_serves_a_latch_that_is_active_low():
    assert latch_options("gpio:2?active_high=false").pin == 2


@pytest.mark.parametrize(("wrong", "says"), [
    ({"pin": 17}, 'pin is for kind = "gpio or servo", and kind is "log"'),
    ({"kind": "gpio"}, "needs its pin"),
    ({"kind": "gpio", "pin": 17, "lock": ("lock.sh",)}, 'lock is for kind = "command"'),
    ({"kind": "command", "lock": ("lock.sh",)}, "needs both"),
    ({"kind": "relay"}, "kind must be one of log, gpio, servo, command"),
    ({"kind": "command", "lock": ("a",), "unlock": ("b",), "timeout_s": 60.0}, "timeout_s must be above 0 and at most 10"),
])
def test_options_that_do_not_belong_together_are_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        LatchOptions(**wrong)


def test_a_pin_without_gpiozero_is_said_with_the_line_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    pin_factory.cache_clear()
    with pytest.raises(LatchError, match=r'pins need gpiozero and lgpio .* pip install "pawlatch\[pi\]"'):
        open_latch("gpio:17")


# commands


@pytest.fixture
def script(tmp_path):
    """`script("text")`: a program of this Python; it finds the arguments in sys.argv and may write to `out`."""

    def write(text):
        path = tmp_path / "program.py"
        path.write_text(f"import os, pathlib, subprocess, sys, time\nout = pathlib.Path({str(tmp_path / 'out')!r})\n{text}\n")
        return sys.executable, "-S", "-E", str(path)

    return write


def test_a_command_gets_its_arguments_as_they_are(script, tmp_path):
    program = script("with out.open('a') as file: file.write(repr(sys.argv[1:]))")
    options = LatchOptions(kind="command", lock=(*program, "lock", "$HOME; rm *"), unlock=(*program, "unlock"), timeout_s=10.0)
    latch = open_latch(options)
    assert latch.is_real
    latch.lock()
    latch.unlock()
    latch.close()
    assert (tmp_path / "out").read_text() == "['lock', '$HOME; rm *']['unlock']['lock', '$HOME; rm *']"


def test_a_command_that_fails_is_said_with_its_last_words(script):
    program = script("print('first', file=sys.stderr); print('no such relay', file=sys.stderr); sys.exit(3)")
    with pytest.raises(LatchError, match=r"the locked command .* must exit with 0, got 3: no such relay; run it by hand"):
        CommandLatch(program, program, timeout_s=10).lock()


def test_a_command_that_is_absent_is_said():
    with pytest.raises(LatchError, match="the unlocked command /no/such does not start"):
        CommandLatch(["true"], ["/no/such"]).unlock()


def test_a_command_that_hangs_is_killed_with_all_it_started(script, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    child = "import sys, time; pipe = open(sys.argv[1], 'w'); print('alive', file=pipe, flush=True); time.sleep(600)"
    program = script(f"subprocess.Popen([sys.executable, '-S', '-E', '-c', {child!r}, {str(fifo)!r}]); time.sleep(600)")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(LatchError, match=r"did not end within 2\.0 s and was killed"):
            CommandLatch(program, program, timeout_s=2.0).lock()
        os.set_blocking(reader, True)
        assert os.read(reader, 100) == b"alive\n"
        assert os.read(reader, 1) == b"", "the child that holds the other end is gone"
    finally:
        os.close(reader)


def test_a_command_may_leave_a_child_behind(script):
    program = script("subprocess.Popen([sys.executable, '-S', '-E', '-c', 'import time; time.sleep(20)'])")
    CommandLatch(program, program, timeout_s=10).lock()


def test_the_module_is_light():
    """`pawlatch latch lock` runs before and after each start of the door."""
    heavy = "numpy", "cv2", "gpiozero", "sqlite3", "subprocess", "asyncio"
    text = f"import sys, pawlatch.latch; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
