from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pawlatch.commands.latch import latch
from pawlatch.driven import NAME, driving
from pawlatch.errors import ConfigError, LatchError
from pawlatch.latch import latch_options


@pytest.fixture
def pins(monkeypatch):
    """gpiozero's mock pins as those of this machine."""
    pytest.importorskip("gpiozero", reason='gpiozero is absent; pip install "pawlatch[pi]"')
    from pawlatch.gpio import pin_factory

    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    pin_factory.cache_clear()
    yield pin_factory()
    pin_factory.cache_clear()


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "door.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def moves(tmp_path, config):
    """A door.toml of a command latch, and what it was told so far."""
    program = tmp_path / "move.py"
    program.write_text(f"import sys\nwith open({str(tmp_path / 'moves')!r}, 'a') as file: print(sys.argv[1], file=file)\n")
    lock, unlock = ([sys.executable, "-S", "-E", str(program), word] for word in ("lock", "unlock"))
    path = config(f'[latch]\nkind = "command"\nlock = {lock}\nunlock = {unlock}\ntimeout_s = 10.0\n'.replace("'", '"'))
    return path, lambda: (tmp_path / "moves").read_text().split() if (tmp_path / "moves").exists() else []


@pytest.fixture
def pinctrl(tmp_path, monkeypatch):
    """A stand-in on the PATH that answers with this text."""

    def answer(text, *, status=0):
        program = tmp_path / "bin" / "pinctrl"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\ntest \"$1 $2\" = 'get 17' || exit 9\necho '{text}'\nexit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")

    return answer


def test_locks_from_outside_as_often_as_one_likes(pins, capsys):
    pin = pins.pin(17)
    pin.function = "output"
    pin.state = True  # as a killed door leaves it
    for _ in range(2):
        assert latch(["lock", "--latch", "gpio:17"]) == 0
        assert (pin.function, pin.pull, bool(pin.state)) == ("input", "down", False)
    assert capsys.readouterr().out == "gpio:17: locked\n" * 2


def test_locks_what_the_settings_name(moves):
    path, told = moves
    assert latch(["lock", "--config", path]) == 0
    assert set(told()) == {"lock"}


def test_a_slip_in_another_table_keeps_no_latch_from_being_locked(config, capsys):
    assert latch(["lock", "--config", config('[latch]\nkind = "log"\n[camera]\nurl = 5\n[door]\nsensors = {}\n')]) == 0
    assert latch(["lock", "--config", config("")]) == 0
    assert capsys.readouterr().out == "log: locked\n" * 2


def test_a_slip_in_its_own_table_is_named(config):
    with pytest.raises(ConfigError, match=r"\[latch\] has no setting 'pim'; did you mean pin"):
        latch(["lock", "--config", config('[latch]\nkind = "gpio"\npim = 17\n')])
    with pytest.raises(ConfigError, match="cannot read the settings"):
        latch(["lock", "--config", "/no/such/door.toml"])


def test_a_latch_that_does_not_lock_is_an_error(config):
    with pytest.raises(LatchError, match="must exit with 0, got 1"):
        latch(["lock", "--config", config('[latch]\nkind = "command"\nlock = ["false"]\nunlock = ["true"]\n')])


def test_needs_to_know_which_latch(capsys):
    with pytest.raises(SystemExit) as left:
        latch(["lock"])
    assert left.value.code == 2
    assert "--config --latch is required" in capsys.readouterr().err


@pytest.mark.parametrize(("level", "uri", "status", "said"), [
    ("lo", "gpio:17", 0, "gpio:17: locked (the pin is low)"), ("hi", "gpio:17", 1, "gpio:17: unlocked (the pin is high)"),
    ("hi", "gpio:17?active_high=false", 0, "gpio:17: locked (the pin is high)"),
])
def test_tells_the_state_without_moving(pinctrl, capsys, level, uri, status, said):
    pinctrl(f"17: op -- pd | {level} // GPIO17 = output")
    assert latch(["state", "--latch", uri]) == status
    assert capsys.readouterr().out.strip() == said


def test_a_state_that_cannot_be_told_is_said(pinctrl, monkeypatch):
    pinctrl("17: no    pd | -- // GPIO17 = none")
    with pytest.raises(LatchError, match="must tell whether pin 17 is high, and said: 17: no"):
        latch(["state", "--latch", "gpio:17"])
    pinctrl("17: op -- pd | lo // GPIO17 = output", status=1)
    with pytest.raises(LatchError, match="must tell"):
        latch(["state", "--latch", "gpio:17"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LatchError, match="takes pinctrl"):
        latch(["state", "--latch", "gpio:17"])
    with pytest.raises(LatchError, match="only a latch at a pin can be asked"):
        latch(["state", "--latch", "servo:18"])


def test_a_log_latch_is_locked(capsys):
    assert latch(["state", "--latch", "log"]) == 0
    assert "moves nothing" in capsys.readouterr().out


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("answer", ["\n", "n\n", "maybe\n"])
def test_asks_before_it_moves_anything(moves, monkeypatch, capsys, answer):
    path, told = moves
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert latch(["test", "--config", path]) == 1
    assert told() == []
    assert "This unlocks command" in capsys.readouterr().out


def test_unlocks_for_a_moment_and_ends_locked(moves, monkeypatch):
    path, told = moves
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    assert latch(["test", "--config", path, "--for-s", "0.01"]) == 0
    assert told() == ["lock", "unlock", "lock", "lock"]


def test_moves_nothing_where_nobody_can_be_asked(moves, monkeypatch):
    path, told = moves
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(LatchError, match="nobody is here to answer; add --yes"):
        latch(["test", "--config", path])
    assert told() == []


REED = '[latch]\nkind = "gpio"\npin = 17\n[door.sensors]\nreed_pin = 22\njam_s = 0.01\n'


def test_a_reed_switch_that_does_not_follow_turns_it_red(pins, config, capsys):
    assert latch(["test", "--yes", "--for-s", "0.01", "--config", config(REED)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "told to be locked", "  the reed switch says unlocked: look at the bolt and the wiring",
        "told to be unlocked", "  the reed switch says unlocked",
        "told to be locked", "  the reed switch says unlocked: look at the bolt and the wiring"]
    assert not pins.pin(17).state


def test_a_reed_switch_that_follows_keeps_it_green(pins, config, monkeypatch):
    def follow(sensor):
        return not pins.pin(17).state

    monkeypatch.setattr("pawlatch.sensors.Sensor.__call__", follow)
    assert latch(["test", "--yes", "--for-s", "0.01", "--config", config(REED)]) == 0


def test_an_interrupted_test_locks(moves, monkeypatch):
    path, told = moves

    class Interrupted:
        def wait(self, _):
            if told()[-1] == "unlock":
                raise KeyboardInterrupt

    monkeypatch.setattr("threading.Event", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        latch(["test", "--yes", "--config", path])
    assert told()[-2:] == ["unlock", "lock"]


def test_starts_without_what_it_does_not_need():
    heavy = "numpy", "cv2", "gpiozero", "sqlite3"
    text = (f"import sys\nfrom pawlatch.commands.latch import latch\nlatch(['lock', '--latch', 'log'])\n"
            f"print([name for name in {heavy} if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["log: locked", "[]"]


@pytest.mark.parametrize("text", ["[[[", '[latch]\nkind = "gpio"\npin = 99\n', None])
def test_settings_that_cannot_be_read_leave_no_latch_unlocked(pins, config, tmp_path, text, capsys):
    pin = pins.pin(17)
    pin.function = "output"
    pin.state = True
    path = str(tmp_path / "absent.toml") if text is None else config(text)
    with pytest.raises(ConfigError):
        latch(["lock", "--config", path])
    assert pin.state
    assert latch(["lock", "--config", path, "--else", "gpio:17"]) == 0
    assert not pin.state
    assert "so it is the latch gpio:17 that is locked" in capsys.readouterr().err


def test_good_settings_go_before_what_else_would_be_locked(pins, config, capsys):
    pins.pin(17)
    assert latch(["lock", "--config", config('[latch]\nkind = "gpio"\npin = 22\n'), "--else", "gpio:17"]) == 0
    assert capsys.readouterr() == ("gpio:22: locked\n", "")


@pytest.mark.parametrize("arguments", [["state", "--config", "a"], ["lock", "--latch", "log"]])
def test_else_is_for_locking_by_settings(arguments, capsys):
    with pytest.raises(SystemExit):
        latch([*arguments, "--else", "gpio:17"])
    assert "--else goes with lock --config" in capsys.readouterr().err


@pytest.mark.parametrize("otherwise", [(), ("--else", "log")])
def test_a_slip_in_the_sensors_keeps_no_latch_from_being_locked(moves, otherwise):
    path, moved = moves
    with Path(path).open("a") as file:
        file.write('[door.sensors]\nreed_pin = "x"\n')
    assert latch(["lock", "--config", path, *otherwise]) == 0
    assert set(moved()) == {"lock"}
    with pytest.raises(ConfigError, match="reed_pin must be a whole number"):
        latch(["test", "--config", path, "--yes"])
    assert "unlock" not in moved()


@pytest.fixture
def left(pins, tmp_path, monkeypatch):
    """A door that drove the pin 17, and was killed while it was open; the pin, and the word that it left."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    driving(latch_options("gpio:17")).__enter__()
    pin = pins.pin(17)
    pin.function = "output"
    pin.state = True
    return pin, tmp_path / NAME


PIN_22 = '[latch]\nkind = "gpio"\npin = 22\n'


def test_the_latch_of_a_door_that_was_killed_is_locked_though_the_settings_name_another_by_now(left, config, capsys):
    pin, word = left
    assert latch(["lock", "--config", config(PIN_22)]) == 0
    assert not pin.state
    assert capsys.readouterr().out == "gpio:17: locked\ngpio:22: locked\n"
    assert latch(["lock", "--config", config(PIN_22)]) == 0  # once it is locked, that pin may be anybody's
    assert capsys.readouterr().out == "gpio:22: locked\n"
    assert not word.exists()


def test_without_a_word_of_it_that_latch_would_stay_open(left, config):
    pin, word = left
    word.unlink()
    assert latch(["lock", "--config", config(PIN_22)]) == 0
    assert pin.state


def test_it_is_locked_though_the_settings_are_none(left, config):
    pin, _ = left
    with pytest.raises(ConfigError):
        latch(["lock", "--config", config("[[[")])
    assert not pin.state


def test_a_latch_that_fails_keeps_no_other_from_being_locked_and_is_not_forgotten(left, config):
    pin, word = left
    absent = '[latch]\nkind = "command"\nlock = ["/absent"]\nunlock = ["/absent"]\n'
    with pytest.raises(LatchError, match="/absent"):
        latch(["lock", "--config", config(absent)])
    assert not pin.state
    assert word.exists()


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "gpio"}', '{"kind": "magnet"}', "\ud800"])
def test_a_word_that_cannot_be_read_keeps_no_latch_from_being_locked(left, config, text, capsys, caplog):
    _, word = left
    word.write_bytes(text.encode(errors="surrogatepass"))
    assert latch(["lock", "--config", config(PIN_22)]) == 0
    assert capsys.readouterr().out == "gpio:22: locked\n"
    assert "cannot be read" in caplog.text


def test_a_door_that_ends_well_leaves_no_word_and_one_that_does_not_leaves_it(left):
    _, word = left
    with driving(latch_options("servo:18?locked_ms=1.2")):
        assert word.exists()
    assert not word.exists()
    with pytest.raises(LatchError), driving(latch_options("log")):
        raise LatchError("stuck")
    assert word.exists()
