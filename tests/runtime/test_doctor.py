"""`pawlatch doctor`: what it finds, what it says about it, and what it does not move without a yes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch import checks
from pawlatch.board import read_board
from pawlatch.checks import (
    check_boot,
    check_clock,
    check_device,
    check_disk,
    check_memory_limit,
    check_power,
    check_temperature,
)
from pawlatch.commands import doctor as command
from pawlatch.commands.doctor import doctor
from pawlatch.commands.service import service
from pawlatch.errors import ModelCardError

from .broker import Broker, needs_mosquitto

NOON = datetime(2026, 6, 1, 12, 0)


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """`stand_in("vcgencmd", "echo throttled=0x0")`: a program of that name, found first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return make


@pytest.fixture
def examine(capsys) -> Callable[..., tuple[int, dict[str, dict]]]:
    """`examine(…)`: the status, and the findings by their check."""

    def run(*arguments: object) -> tuple[int, dict[str, dict]]:
        status = doctor([*map(str, arguments), "--json"])
        told = json.loads(capsys.readouterr().out)
        assert told["ok"] == (status == 0)
        return status, {finding["check"]: finding for finding in told["findings"]}

    return run


@pytest.fixture
def door_toml(tmp_path, tiny_bundle, draw_clip) -> Callable[..., Path]:
    """`door_toml("camera.uri = …")`: settings of a door with the fixture's model, in which all is well."""

    clip = draw_clip("porch", [(0.5, None), (0.5, "own")])

    def write(*lines: str) -> Path:
        path = tmp_path / "door.toml"
        given = {line.partition("=")[0].strip() for line in lines}
        usual = {"camera.uri": f'"{clip}"', "journal.folder": f'"{tmp_path}"', "model.bundle": f'"{tiny_bundle}"'}
        path.write_text("\n".join([*lines, *(f"{key} = {value}" for key, value in usual.items() if key not in given)]) + "\n")
        return path

    return write


# --------------------------------------------------------------------------------------------------------- the model


def test_without_arguments_it_tells_of_versions_and_the_machine(capsys):
    assert doctor([]) == 0
    out = capsys.readouterr().out
    for word in ("pawlatch ", "numpy", "ai-edge-litert", "ok      opencv: ", "clock: ", "power: ", "temperature: "):
        assert word in out


def test_each_variant_is_hashed_run_and_self_tested(examine, tiny_bundle):
    pytest.importorskip("onnxruntime", reason="the tiny bundle has an ONNX variant, which needs the onnx extra")
    status, found = examine(tiny_bundle)
    assert status == 0
    for variant in ("int8", "float32", "onnx_float32"):
        assert found[variant]["level"] == "ok"
        assert "passed: 3 photos" in found[variant]["text"]
    assert "deployed" in found["int8"]["text"]


def test_an_engine_that_is_not_installed_is_no_fault_of_a_bundle_that_does_not_deploy_it(examine, tiny_bundle, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    status, found = examine(tiny_bundle)
    assert (status, found["onnx_float32"]["level"]) == (0, "skipped")
    assert 'pip install "pawlatch[onnx]"' in found["onnx_float32"]["remedy"]


def damage(bundle: Path) -> None:
    (file,) = bundle.glob("int8-*.tflite")
    file.write_bytes(file.read_bytes()[:-10])


def exchange(bundle: Path) -> None:
    shutil.copyfile(bundle / "selftest" / "own.jpg", bundle / "selftest" / "other.jpg")


@pytest.mark.parametrize(("spoil", "told"), [(damage, "is not the file its card vouches for"), (exchange, "becomes other pixels here")])
def test_a_model_that_is_not_whole_is_red(tiny_bundle, capsys, spoil, told):
    spoil(tiny_bundle)
    assert doctor([str(tiny_bundle)]) == 1
    said = capsys.readouterr()
    assert "FAILED  int8: " in said.out
    assert told in said.out
    assert "int8" in said.err


def test_a_folder_that_is_no_bundle_is_bad_use(tmp_path):
    with pytest.raises(ModelCardError):
        doctor([str(tmp_path)])


# ----------------------------------------------------------------------------------------------------------- the door


def test_a_door_in_which_all_is_well(examine, door_toml):
    status, found = examine("--config", door_toml())
    assert status == 0
    assert found["config"]["level"] == found["camera"]["level"] == found["disk"]["level"] == "ok"
    assert found["camera"]["text"].startswith("160×120, 10.0 frames")
    assert "moves nothing" in found["latch"]["text"]
    assert "how often this model opens for a stranger" in found["arming"]["text"]


def test_a_slip_in_the_settings_is_named(examine, tmp_path):
    (tmp_path / "door.toml").write_text('camera.url = "0"\n')
    status, found = examine("--config", tmp_path / "door.toml")
    assert (status, found["config"]["level"]) == (1, "bad")
    assert "did you mean uri?" in found["config"]["text"]


@pytest.mark.parametrize(("lines", "check", "told"), [
    (['camera.uri = "/nowhere.mp4"'], "camera", "/nowhere.mp4"),
    (['camera.uri = "/dev/video99"'], "camera", "/dev/video99"),
    (['model.bundle = "/nowhere"'], "model", "/nowhere is none"),
    (['door.labels.owl = {passes = "never"}'], "rules", "owl"),
    (['latch = {kind = "command", lock = ["/bin/false"], unlock = ["/bin/true"]}'], "latch", "/bin/false"),
    (['latch = {kind = "command", lock = ["/bin/true"], unlock = ["/bin/false"]}'], "latch", "/bin/false"),
])
def test_what_is_wrong_is_told_and_the_rest_is_still_looked_at(examine, door_toml, lines, check, told):
    status, found = examine("--config", door_toml(*lines), "--yes")
    assert (status, found[check]["level"]) == (1, "bad")
    assert told in found[check]["text"]
    assert {"clock", "disk", "temperature"} <= found.keys()


def test_a_camera_that_sees_nothing_is_told(examine, door_toml, tmp_path):
    (tmp_path / "dark").mkdir()
    for number in range(40):
        cv2.imwrite(str(tmp_path / "dark" / f"{number:02}.png"), np.zeros((120, 160, 3), np.uint8))
    status, found = examine("--config", door_toml(f'camera.uri = "{tmp_path}/dark"'))
    assert (status, found["camera"]["level"]) == (1, "bad")
    assert found["camera"]["text"] == "it is black"


def test_a_camera_that_gives_nothing_is_not_waited_for_for_ever(examine, door_toml, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "WAIT_S", 0.3)
    os.mkfifo(tmp_path / "pipe")
    status, found = examine("--config", door_toml(f'camera.uri = "{tmp_path}/pipe"'))
    assert (status, found["camera"]["level"]) == (1, "bad")
    assert found["camera"]["text"] == "no frame within 0.3 s, connecting"


@pytest.fixture
def moves(door_toml, tmp_path, monkeypatch):
    """Settings of a latch that notes what it is told, and what it was told."""
    monkeypatch.setattr(command, "MOVE_S", 0.0)
    for name in ("lock", "unlock"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {tmp_path}/moves\n")
        (tmp_path / name).chmod(0o755)
    config = door_toml(f'latch = {{kind = "command", lock = ["{tmp_path}/lock"], unlock = ["{tmp_path}/unlock"]}}')
    return config, lambda: (tmp_path / "moves").read_text().split() if (tmp_path / "moves").exists() else []


def test_nothing_moves_where_nobody_can_be_asked(examine, moves, monkeypatch):
    config, moved = moves
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115, PTH123
    status, found = examine("--config", config)
    assert (status, found["latch"]["level"], found["latch"]["remedy"]) == (0, "skipped", "add --yes")
    assert moved() == []


class Person:
    """Sits at a terminal and gives one answer."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self.answer}\n"


@pytest.mark.parametrize("answer", ["", "n", "what?"])
def test_nothing_moves_without_a_yes(examine, moves, monkeypatch, answer):
    config, moved = moves
    monkeypatch.setattr("sys.stdin", Person(answer))
    status, found = examine("--config", config)
    assert (status, found["latch"]["text"]) == (0, "nothing was moved")
    assert moved() == []


@pytest.mark.parametrize(("answer", "more"), [("y", []), ("n", ["--yes"])])
def test_after_a_yes_it_unlocks_and_locks(examine, moves, monkeypatch, answer, more):
    config, moved = moves
    monkeypatch.setattr("sys.stdin", Person(answer))
    status, found = examine("--config", config, *more)
    assert (status, found["latch"]["level"]) == (0, "ok")
    assert moved()[0] == "lock"
    assert moved().count("unlock") == 1
    assert moved()[-1] == "lock"


# -------------------------------------------------------------------------------------------------------- the machine


@pytest.mark.parametrize(("bits", "level", "told"), [
    (0x0, "ok", "no undervoltage since the start"),
    (0x1, "bad", "undervoltage now"), (0x50005, "bad", "undervoltage now"), (0x10000, "bad", "undervoltage at times since the start"),
    (0x4, "note", "is throttled"), (0x20002, "note", "is held to a lower frequency"), (0x80000, "note", "was, at times since the start, near its limit of heat"),
])
def test_the_firmware_tells_of_undervoltage(stand_in, examine, bits, level, told):
    stand_in("vcgencmd", f'case $1 in get_throttled) echo throttled={bits:#x};; measure_temp) echo "temp=48.3\'C";; esac')
    status, found = examine()
    assert (found["power"]["level"], status) == (level, int(level == "bad"))
    assert told in found["power"]["text"]
    assert (found["temperature"]["level"], found["temperature"]["text"]) == ("ok", "48 °C")


def test_a_firmware_that_may_not_be_asked_is_no_verdict(stand_in, examine):
    stand_in("vcgencmd", "echo VCHI initialization failed >&2; exit 1")
    _, found = examine()
    assert found["power"]["level"] == "skipped"
    assert "usermod -aG video" in found["power"]["remedy"]


@pytest.mark.parametrize(("celsius", "level"), [(55.2, "ok"), (71, "note"), (84, "bad")])
def test_the_temperature(stand_in, examine, celsius, level):
    stand_in("vcgencmd", f"echo \"temp={celsius}'C\"")
    assert examine()[1]["temperature"]["level"] == level


def test_without_vcgencmd_the_hottest_zone_counts(stand_in, tmp_path):
    for number, text in enumerate(("45123\n", "82500\n", "broken")):
        zone = tmp_path / "sys/class/thermal" / f"thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    finding = check_temperature(read_board(tmp_path))
    assert (finding.level, finding.text) == ("bad", "82 °C")
    assert check_temperature(read_board(tmp_path / "absent")).level == "skipped"


@pytest.mark.parametrize(("alarm", "level", "told"), [("0", "ok", "no undervoltage now"), ("1", "bad", "undervoltage now")])
def test_without_vcgencmd_the_kernel_tells_of_undervoltage(stand_in, tmp_path, alarm, level, told):
    monitor = tmp_path / "sys/class/hwmon/hwmon1"
    monitor.mkdir(parents=True)
    (monitor / "name").write_text("rpi_volt\n")
    (monitor / "in0_lcrit_alarm").write_text(f"{alarm}\n")
    finding = check_power(read_board(tmp_path))
    assert (finding.level, finding.text) == (level, told)
    assert check_power(read_board(tmp_path / "absent")).level == "skipped"


@pytest.mark.parametrize(("pin", "active_high", "told"), [
    (17, True, None), (4, False, None), (17, False, "is low from power-on"), (4, True, "is high from power-on"),
    (14, True, "the serial console's"),
])
def test_a_pin_that_unlocks_while_the_board_starts_is_told(examine, door_toml, pin, active_high, told):
    assert check_boot(pin, active_high=active_high).level == ("ok" if told is None else "note")
    lines = f'latch = {{kind = "gpio", pin = {pin}, active_high = {str(active_high).lower()}}}'
    found = examine("--config", door_toml(lines))[1]["boot"]
    assert (told or "rests on the side that locks") in found["text"]
    assert ("docs/wiring.md" in found["remedy"]) is (told is not None)


def test_a_clock_that_was_never_set(stand_in):
    finding = check_clock(datetime(1970, 1, 1, 0, 3), needed=False)
    assert finding.level == "bad"
    assert "sudo timedatectl set-ntp true" in finding.remedy


@pytest.mark.parametrize(("says", "needed", "level"), [
    ("yes", True, "ok"), ("yes", False, "ok"), ("no", True, "bad"), ("no", False, "note"), ("", True, "note"),
])
def test_a_clock_is_believed_when_it_is_synchronised(stand_in, tmp_path, says, needed, level):
    stand_in("timedatectl", f"echo {says}")
    assert check_clock(NOON, needed=needed, root=tmp_path).level == level
    (tmp_path / "run/systemd/timesync").mkdir(parents=True)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert check_clock(NOON, needed=needed, root=tmp_path).level == "ok"


def test_a_door_that_keeps_hours_needs_the_time(stand_in, examine, door_toml):
    stand_in("timedatectl", "echo no")
    if Path("/run/systemd/timesync/synchronized").exists():
        pytest.skip("this machine's clock is synchronised")
    assert examine("--config", door_toml())[1]["clock"]["level"] == "note"
    assert examine("--config", door_toml('door.hours = ["06:00-22:00"]'))[1]["clock"]["level"] == "bad"


@pytest.mark.parametrize(("free", "level"), [(64e9, "ok"), (700e6, "note"), (150e6, "bad")])
def test_the_journal_needs_room(tmp_path, monkeypatch, free, level):
    (tmp_path / "old.jpg").write_bytes(bytes(1000))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda path: usage._replace(free=int(free)))
    finding = check_disk(tmp_path / "journal", megabytes=1000)
    assert finding.level == level
    assert f"{free / 1e6:,.0f} MB free" in finding.text


def test_an_sd_card_is_named(tmp_path):
    device = tmp_path.stat().st_dev
    block = tmp_path / "root/sys/devices/mmcblk0p2"
    block.mkdir(parents=True)
    link = tmp_path / f"root/sys/dev/block/{device >> 8}:{device & 255}"
    link.parent.mkdir(parents=True)
    link.symlink_to(block)
    assert check_disk(tmp_path, megabytes=1, root=tmp_path / "root").text.endswith("on an SD card")
    assert "SD card" not in check_disk(tmp_path, megabytes=1).text


def test_a_device_that_is_not_there_or_not_ours(tmp_path, monkeypatch):
    assert check_device("pins", "gpiochip*", "gpio", root=tmp_path).level == "bad"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/gpiochip0").touch()
    assert check_device("pins", "gpiochip*", "gpio", root=tmp_path).level == "ok"
    monkeypatch.setattr(checks.os, "access", lambda path, mode: False)
    finding = check_device("pins", "gpiochip*", "gpio", root=tmp_path)
    assert (finding.level, finding.remedy) == ("bad", "type: sudo usermod -aG gpio $USER, and log in again")


@pytest.mark.parametrize(("controllers", "level"), [("cpuset cpu io memory pids", "ok"), ("cpuset cpu io pids", "note"), (None, "skipped")])
def test_a_memory_limit_needs_the_kernels_controller(tmp_path, controllers, level):
    if controllers is not None:
        (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
        (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text(controllers)
    assert check_memory_limit(root=tmp_path).level == level


def test_two_opencvs_in_one_environment_are_a_fault(examine, tmp_path, monkeypatch):
    for name in ("opencv_python", "opencv_python_headless"):
        info = tmp_path / "site" / f"{name}-5.0.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 5.0.0\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    status, found = examine()
    assert (status, found["opencv"]["level"]) == (1, "bad")
    assert "pip uninstall -y opencv-python opencv-python-headless && pip install opencv-python-headless" in found["opencv"]["remedy"]


@needs_mosquitto
def test_the_broker_must_take_the_door(examine, door_toml, tmp_path, monkeypatch):
    pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")
    monkeypatch.delenv("PAWLATCH_MQTT_CODE", raising=False)
    broker = Broker(tmp_path)
    settings = ('mqtt.host = "127.0.0.1"', f"mqtt.port = {broker.port}")
    try:
        status, found = examine("--config", door_toml(*settings))
        assert (status, found["mqtt"]["level"]) == (0, "ok")
        assert "unlocks for nobody" in found["mqtt"]["text"]
        status, found = examine("--config", door_toml(*settings, 'mqtt.code_file = "absent"'))
        assert (status, found["mqtt"]["level"]) == (1, "bad")
        assert "cannot read the code_file" in found["mqtt"]["text"]
    finally:
        broker.kill()
    status, found = examine("--config", door_toml(*settings))
    assert (status, found["mqtt"]["level"]) == (1, "bad")
    assert "Connection refused" in found["mqtt"]["text"]


# -------------------------------------------------------------------------------------------------------- the service


@pytest.fixture
def unit(tmp_path, monkeypatch) -> Path:
    """Where the unit is looked for."""
    path = tmp_path / "root/etc/systemd/system/pawlatch.service"
    monkeypatch.setattr(command, "UNIT", path)
    return path


def test_a_unit_must_go_with_the_settings(door_toml, tmp_path, unit, capsys):
    def told(config: Path) -> str:
        capsys.readouterr()
        doctor(["--config", str(config)])
        return next((line for line in capsys.readouterr().out.splitlines() if " service: " in line), "")

    assert told(door_toml()) == ""
    assert service(["install", "--config", str(door_toml()), "--root", str(tmp_path / "root")]) == 0
    assert "goes with these settings" in told(door_toml())
    other = told(door_toml("show.port = 8080"))
    assert "FAILED  service: " in other
    assert "was written for other settings" in other
    assert f"service install --config {tmp_path}/door.toml" in other
    unit.write_text(unit.read_text().replace("RestartSec=5", "RestartSec=9"))
    assert "was changed by hand" in told(door_toml())
