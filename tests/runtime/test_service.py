"""Talking to systemd, over real datagram sockets, and the unit that `pawlatch service` writes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch.commands.service import service
from pawlatch.config import read_config
from pawlatch.errors import ConfigError, OutputError
from pawlatch.files import write_atomic
from pawlatch.latch import latch_options, latch_uri
from pawlatch.service import Notifier
from pawlatch.unit import Needs, doubts


class Systemd:
    """A socket that systemd would have made; `said()` is what has come since it was asked last."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)

    def said(self) -> list[str]:
        lines = []
        while True:
            try:
                lines += self.socket.recv(4096).decode().split("\n")
            except BlockingIOError:
                return lines

    def environment(self, **more: str) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "PATH": "/bin", **more}


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    made = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@pawlatch-{uuid.uuid4()}")
    yield made
    made.socket.close()


def test_ready_is_said_once(systemd):
    with Notifier.from_environment(systemd.environment()) as notifier:
        for _ in range(3):
            notifier.ready("the camera gives frames")
    assert systemd.said() == ["READY=1", "STATUS=the camera gives frames"]


def test_a_completed_turn_pings_three_times_in_the_watchdogs_time(systemd, clock):
    with Notifier.from_environment(systemd.environment(WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid())), clock=clock) as notifier:
        notifier.ready()
        for tenth in range(91):
            clock.now_s = tenth / 10
            notifier.watchdog()
    assert systemd.said() == ["READY=1", *["WATCHDOG=1"] * 4]  # at 0, 3, 6 and 9 s


def test_nobody_pings_but_the_loop(systemd, clock):
    with Notifier.from_environment(systemd.environment(WATCHDOG_USEC="9000000"), clock=clock) as notifier:
        notifier.ready()
        clock.now_s = 100
        notifier.status("still here")
        assert "WATCHDOG=1" not in systemd.said()
        notifier.watchdog()
        assert systemd.said() == ["WATCHDOG=1"]


@pytest.mark.parametrize("more", [
    {}, {"WATCHDOG_USEC": "9000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"},
])
def test_who_is_not_watched_does_not_ping(systemd, clock, more):
    with Notifier.from_environment(systemd.environment(**more), clock=clock) as notifier:
        notifier.ready()
        for clock.now_s in range(100):
            notifier.watchdog()
    assert systemd.said() == ["READY=1"]


def test_a_door_that_waits_for_its_camera_asks_for_time_to_start(systemd, clock):
    with Notifier.from_environment(systemd.environment(WATCHDOG_USEC="9000000"), clock=clock) as notifier:
        notifier.watchdog()
        assert systemd.said() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=9000000"]
        clock.now_s = 3
        notifier.ready()
        notifier.watchdog()
        assert systemd.said() == ["READY=1", "WATCHDOG=1"]


def test_a_reload_is_told_with_its_time_and_ended_by_ready(systemd):
    before_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with Notifier.from_environment(systemd.environment()) as notifier:
        notifier.ready()
        notifier.reloading()
        notifier.ready("again")
        notifier.stopping("SIGTERM")
    said = systemd.said()
    assert [line.partition("=")[0] for line in said] == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STATUS", "STOPPING", "STATUS"]
    assert before_usec <= int(said[2].partition("=")[2]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_status_is_one_line_and_sent_when_it_changes(systemd):
    with Notifier.from_environment(systemd.environment()) as notifier:
        for text in ("locked", "locked", "unlocked for\nSooty", "", "locked"):
            notifier.status(text)
    assert systemd.said() == ["STATUS=locked", "STATUS=unlocked for Sooty", "STATUS=locked"]


def test_children_do_not_inherit_the_socket(systemd):
    environment = systemd.environment(WATCHDOG_USEC="9000000", WATCHDOG_PID=str(os.getpid()))
    Notifier.from_environment(environment).close()
    assert environment == {"PATH": "/bin"}


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": "@"}])
def test_outside_systemd_nothing_happens(environment, caplog):
    with Notifier.from_environment(dict(environment)) as notifier:
        notifier.ready("up")
        notifier.watchdog()
        notifier.reloading()
        notifier.stopping()
    assert not caplog.messages


def test_a_socket_that_is_gone_is_told_once_and_ready_is_said_when_it_is_back(systemd, tmp_path, caplog):
    if systemd.address.startswith("@"):
        pytest.skip("an abstract name cannot be renamed")
    socket_path, aside = tmp_path / "notify", tmp_path / "aside"
    with Notifier.from_environment(systemd.environment()) as notifier:
        socket_path.rename(aside)
        notifier.ready()
        notifier.ready()
        assert len(caplog.messages) == 1
        aside.rename(socket_path)
        notifier.ready()
        assert systemd.said() == ["READY=1"]


def test_a_listener_that_does_not_read_does_not_stop_the_door(systemd):
    with Notifier.from_environment(systemd.environment()) as notifier:
        for number in range(2000):  # more than the socket holds
            notifier.status(f"frame {number}")
    assert systemd.said()[0] == "STATUS=frame 0"


def test_nothing_is_sent_after_closing(systemd):
    notifier = Notifier.from_environment(systemd.environment())
    notifier.close()
    notifier.close()
    notifier.ready()
    assert systemd.said() == []


# ------------------------------------------------------------------------------------------------------------ the door


class Running:
    """`pawlatch run` as systemd would start it, and what it says to systemd."""

    def __init__(self, systemd: Systemd, config: Path) -> None:
        self.systemd, self._lines = systemd, []
        systemd.socket.settimeout(60)
        environment = {**os.environ, "NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "300000", "XDG_CACHE_HOME": str(config.parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from pawlatch.cli import main; raise SystemExit(main())", "run", "--config", str(config)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def wait_for(self, start: str) -> list[str]:
        """What it says up to a line that begins so."""
        said = []
        while not (said and said[-1].startswith(start)):
            if not self._lines:
                self._lines = self.systemd.socket.recv(4096).decode().split("\n")
            said.append(self._lines.pop(0))
        return said

    def end(self) -> tuple[int, str]:
        out, _ = self.process.communicate(timeout=60)
        return self.process.returncode, out


@pytest.fixture
def running(tiny_bundle, draw_clip, tmp_path):
    """A door under a stand-in for systemd; its camera, a named pipe, has not given a frame yet."""
    systemd = Systemd(str(tmp_path / "notify"))
    os.mkfifo(tmp_path / "camera")
    config = tmp_path / "door.toml"
    config.write_text(
        f'model = {{bundle = "{tiny_bundle}", engine = "litert"}}\n'
        f'camera.uri = "{tmp_path}/camera"\njournal.folder = "{tmp_path}/journal"\n'
    )
    door = Running(systemd, config)
    last_resort = threading.Timer(90, door.process.kill)  # wakes a test that waits in vain
    last_resort.start()
    yield door
    last_resort.cancel()
    door.process.kill()
    door.process.communicate()
    systemd.socket.close()


def test_the_door_is_ready_with_its_first_frame_and_says_when_it_reloads_and_stops(running, tmp_path):
    before = running.wait_for("WATCHDOG=1")
    before += running.wait_for("WATCHDOG=1")
    assert "READY=1" not in before  # it turns, but there is no frame
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in before)
    picture = cv2.imencode(".jpg", np.full((120, 160, 3), 120, np.uint8) + np.arange(160, dtype=np.uint8)[:, None] // 4)[1].tobytes()
    ended = threading.Event()
    camera = threading.Thread(target=feed, args=(tmp_path / "camera", picture, ended))
    camera.start()
    try:
        running.wait_for("READY=1")
        running.wait_for("WATCHDOG=1")
        running.process.send_signal(signal.SIGHUP)
        running.wait_for("RELOADING=1")
        running.wait_for("MONOTONIC_USEC=")
        running.wait_for("READY=1")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("STOPPING=1")
        status, out = running.end()
    finally:
        ended.set()
        camera.join(60)
    assert status == 0, out
    assert out.count("latch: locked at") == 2  # before the reload, and at the end


def test_a_new_card_is_taken_while_the_door_works_and_a_bad_one_is_not(running, tiny_bundle, tmp_path):
    picture = cv2.imencode(".jpg", np.full((120, 160, 3), 120, np.uint8))[1].tobytes()
    ended = threading.Event()
    camera = threading.Thread(target=feed, args=(tmp_path / "camera", picture, ended))
    camera.start()
    said = iter(running.process.stdout.readline, "")
    try:
        assert next(line for line in said if line.startswith("tiny, int8: "))
        card = tiny_bundle / "pawlatch.json"
        good = json.loads(card.read_text())
        for name, change in (("bad", {"files": good["files"] | {"int8": good["files"]["float32"]}}), ("good", {"deploy": "float32"})):
            write_atomic(card, json.dumps(good | {"name": name} | change))
            if name == "bad":
                assert next(line for line in said if "is not used, tiny goes on: the self-test of int8 failed" in line)
        assert next(line for line in said if line.startswith("good, float32: "))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(60) == 0
    finally:
        ended.set()
        camera.join(60)


def feed(pipe: Path, picture: bytes, ended: threading.Event) -> None:
    """A camera that writes the same picture, again and again, to whoever reads."""
    while not ended.is_set():
        try:
            with os.fdopen(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK), "wb", buffering=0) as file:
                os.set_blocking(file.fileno(), True)
                while not ended.wait(0.05):
                    file.write(picture)
        except OSError:  # nobody reads just now
            ended.wait(0.05)


# ------------------------------------------------------------------------------------------------------------- the unit


@pytest.fixture
def door_toml(tmp_path):
    """`door_toml("[latch]\\nkind = …")`: a configuration with a model in an absolute place."""

    def write(*tables: str, name: str = "door.toml"):
        path = tmp_path / name
        path.write_text("\n".join(['model.bundle = "/opt/model/edge"', *tables]) + "\n")
        return path

    return write


def shown(capsys, config, *more: str) -> str:
    assert service(["show", "--config", str(config), *more]) == 0
    return capsys.readouterr().out


def settings(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def test_the_unit_locks_before_and_after_and_is_ready_with_the_first_frame(capsys, door_toml):
    config = door_toml('camera.uri = "0"')
    text = shown(capsys, config)
    program = Path(sys.executable).with_name("pawlatch")
    assert settings(text, "ExecStartPre") == settings(text, "ExecStopPost") == [f"{program} latch lock --config {config}"]
    assert settings(text, "ExecStart") == [f"{program} run --config {config}"]
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec=15", "Restart=always", "User=pawlatch", "StateDirectory=pawlatch",
                 "RuntimeDirectory=pawlatch", "MemoryMax=400M", "OOMPolicy=continue", "ProtectSystem=strict",
                 "NoNewPrivileges=yes", "PrivateTmp=yes", "CapabilityBoundingSet=",
                 "SystemCallFilter=@system-service", "DevicePolicy=closed", "ExecReload=/bin/kill -HUP $MAINPID"):
        assert line in text.splitlines()


@pytest.mark.parametrize(("tables", "otherwise"), [
    (['latch = {kind = "gpio", pin = 17}'], " --else gpio:17"),
    (['latch = {kind = "gpio", pin = 17, active_high = false, drive = "pulse"}'], " --else gpio:17?active_high=false&drive=pulse"),
    (['latch = {kind = "servo", pin = 18, locked_ms = 1.2}'], " --else servo:18?locked_ms=1.2"),
    (['latch = {kind = "command", lock = ["/bin/true"], unlock = ["/bin/true"]}'], ""),
    ([], ""),
])
def test_the_unit_knows_the_latch_where_settings_can_no_longer_be_read(capsys, door_toml, tables, otherwise):
    config = door_toml(*tables)
    (lock,) = settings(shown(capsys, config), "ExecStopPost")
    assert lock.partition(str(config))[2] == otherwise
    if otherwise:
        assert latch_uri(latch_options(otherwise.split()[1])) == otherwise.split()[1]


@pytest.mark.parametrize(("version", "steps"), [(None, []), ("252", []), ("257", ["5"])])
def test_a_systemd_that_can_waits_longer_after_each_restart(install, version, steps):
    libraries = install.unit.parents[3] / "usr/lib/aarch64-linux-gnu/systemd"
    libraries.mkdir(parents=True)
    if version is not None:
        (libraries / f"libsystemd-shared-{version}.so").touch()
    install()
    text = install.unit.read_text()
    assert settings(text, "RestartSec") == ["5"]
    assert settings(text, "RestartSteps") == steps
    assert settings(text, "StartLimitIntervalSec") == ["0"]  # it is never given up


@pytest.mark.parametrize(("tables", "devices", "groups", "families"), [
    (['camera.uri = "0"'], ["char-video4linux rw"], ["video"], "AF_UNIX"),
    (['camera.uri = "/dev/video2"', 'latch = {kind = "gpio", pin = 17}'], ["char-video4linux rw", "char-gpiochip rw"], ["video gpio"], "AF_UNIX"),
    (['camera.uri = "picamera"', 'latch = {kind = "servo", pin = 18}'],
     ["char-video4linux rw", "char-media rw", "char-dma_heap rw", "char-vchiq rw", "/dev/udmabuf rw", "char-gpiochip rw"], ["video gpio"],
     "AF_UNIX AF_NETLINK"),
    (['camera.uri = "rtsp://camera/1"', 'latch = {kind = "command", lock = ["/bin/true"], unlock = ["/bin/true"]}'], [], [],
     "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    (['camera.uri = "rtsp://camera/1"', "door.sensors.reed_pin = 5"], ["char-gpiochip rw"], ["gpio"], "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    (['camera.uri = "scene:demo"'], [], [], "AF_UNIX"),
    (['camera.uri = "0"', "show.port = 8080"], ["char-video4linux rw"], ["video"], "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    (['camera.uri = "0"', 'update.url = "https://a.org/edge"'], ["char-video4linux rw"], ["video"], "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    (['camera.uri = "0"', 'update.url = "/media/usb/edge"'], ["char-video4linux rw"], ["video"], "AF_UNIX"),
])
def test_the_unit_allows_what_the_settings_need_and_nothing_else(capsys, door_toml, tables, devices, groups, families):
    text = shown(capsys, door_toml(*tables))
    assert settings(text, "DeviceAllow") == devices
    assert settings(text, "SupplementaryGroups") == groups
    assert settings(text, "RestrictAddressFamilies") == [families]
    assert settings(text, "PrivateNetwork") == (["yes"] if families == "AF_UNIX" else [])


def test_a_page_for_this_machine_reaches_no_other(capsys, door_toml):
    assert settings(shown(capsys, door_toml("show.port = 8080")), "IPAddressDeny") == ["any"]
    assert settings(shown(capsys, door_toml("show.port = 8080")), "IPAddressAllow") == ["localhost"]
    assert settings(shown(capsys, door_toml('show = {port = 8080, host = "0.0.0.0"}')), "IPAddressDeny") == []


def test_a_journal_elsewhere_can_be_written(capsys, door_toml, tmp_path):
    assert settings(shown(capsys, door_toml()), "ReadWritePaths") == []
    text = shown(capsys, door_toml(f'journal.folder = "{tmp_path}/my journal"'))
    assert settings(text, "ReadWritePaths") == [f'"{tmp_path}/my journal"']


def test_a_door_that_updates_may_lower_the_priority_of_what_tries_a_model(capsys, door_toml):
    assert "SystemCallFilter=~@privileged @resources" in shown(capsys, door_toml())
    text = shown(capsys, door_toml('update.url = "https://example.org/edge"'))
    assert "SystemCallFilter=~@privileged\n" in text
    assert "@resources" not in text  # which holds setpriority


def test_a_door_that_updates_may_write_its_bundle_and_reach_the_network(capsys, door_toml, tmp_path):
    text = shown(capsys, door_toml('update.url = "https://example.org/edge"', "show.port = 8080"))
    (bundle,) = settings(text, "ReadWritePaths")
    assert read_config(tmp_path / "door.toml").model.bundle == Path(bundle)
    assert settings(text, "IPAddressDeny") == []


def test_a_bundle_in_the_services_own_state_needs_no_more(capsys, tmp_path):
    config = tmp_path / "door.toml"
    config.write_text('model.bundle = "/var/lib/pawlatch/model/edge"\nupdate.url = "https://example.org/edge"\n')
    assert settings(shown(capsys, config), "ReadWritePaths") == []


def test_what_systemd_would_expand_is_escaped(capsys, door_toml):
    text = shown(capsys, door_toml(name='50% of $HOME "x".toml'))
    assert '50%% of $$HOME \\"x\\".toml"' in settings(text, "ExecStart")[0]


def test_a_model_in_a_relative_place_is_refused(tmp_path):
    config = tmp_path / "door.toml"
    config.write_text('camera.uri = "0"\n')
    with pytest.raises(ConfigError, match="a service has no folder of its own"):
        service(["show", "--config", str(config)])


@pytest.mark.parametrize("name", ["root", "", "a b", "x;y", "%i"])
def test_only_a_plain_user_name_is_taken(door_toml, name, capsys):
    with pytest.raises(SystemExit):
        service(["show", "--config", str(door_toml()), "--user", name])


@pytest.fixture
def install(door_toml, tmp_path, capsys):
    """`install(*arguments, tables=…)`: what it prints; the system's root is `tmp_path / "root"`."""
    root = tmp_path / "root"

    def run(*arguments: str, action: str = "install", tables: tuple[str, ...] = ('camera.uri = "0"',)) -> str:
        config = ["--config", str(door_toml(*tables))] if action == "install" else []
        assert service([action, *config, "--root", str(root), *arguments]) == 0
        return capsys.readouterr().out

    run.unit = root / "etc/systemd/system/pawlatch.service"
    run.sysusers = root / "etc/sysusers.d/pawlatch.conf"
    run.wanted = root / "etc/systemd/system/multi-user.target.wants/pawlatch.service"
    return run


@pytest.mark.parametrize(("latch", "line", "is_doubted"), [
    ('latch = {kind = "gpio", pin = 17}', "gpio=17=op,dl", False),
    ('latch = {kind = "gpio", pin = 5, active_high = false}', "gpio=5=op,dh", False),
    ('latch = {kind = "gpio", pin = 17, active_high = false}', "gpio=17=op,dh", True),
    ('latch = {kind = "servo", pin = 18}', None, False),
])
def test_install_says_what_locks_before_linux_runs(install, latch, line, is_doubted):
    said = install(tables=('camera.uri = "0"', latch))
    assert [each.strip() for each in said.splitlines() if each.strip().startswith("gpio=")] == ([line] if line else [])
    assert ("from power-on until a program takes it, which unlocks" in said) is is_doubted


def test_install_writes_unit_and_user_and_says_what_to_type(install, door_toml, capsys):
    said = install()
    assert install.unit.read_text() == shown(capsys, door_toml('camera.uri = "0"'), "--root", str(install.unit.parents[3]))
    assert install.unit.stat().st_mode & 0o777 == 0o644
    assert 'u pawlatch - "pawlatch, the door" /var/lib/pawlatch' in install.sysusers.read_text()
    assert "g video -" in install.sysusers.read_text()
    commands = [line.strip() for line in said.splitlines() if line.startswith("  ")]
    assert commands == ["sudo systemd-sysusers", "sudo systemctl daemon-reload", "sudo systemctl enable pawlatch",
                        "sudo systemctl restart --no-block pawlatch", "systemctl status pawlatch", "journalctl -fu pawlatch"]


def test_install_again_replaces_its_own_unit_but_none_that_was_changed(install):
    install()
    assert "as it was" in install()
    install(tables=('camera.uri = "picamera"',))
    assert "char-media" in install.unit.read_text()
    install.unit.write_text(install.unit.read_text().replace("MemoryMax=400M", "MemoryMax=1G"))
    with pytest.raises(OutputError, match="was changed by hand"):
        install()
    assert "MemoryMax=1G" in install.unit.read_text()
    install("--overwrite")
    assert "MemoryMax=400M" in install.unit.read_text()


def test_uninstall_takes_away_what_install_wrote(install):
    install()
    said = install(action="uninstall")
    assert not install.unit.exists()
    assert not install.sysusers.exists()
    assert "sudo systemctl daemon-reload" in said
    assert "there is no" in install(action="uninstall")


def test_a_service_that_is_enabled_is_not_taken_away(install):
    install()
    install.wanted.parent.mkdir()
    install.wanted.symlink_to("/etc/systemd/system/pawlatch.service")
    with pytest.raises(OutputError, match="still enabled; type: sudo systemctl disable --now pawlatch"):
        install(action="uninstall")
    assert install.unit.exists()


def test_what_the_user_cannot_read_or_write_is_told(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    needs = Needs((), (), (), False, False, reads=(closed, Path("/usr/bin/env"), Path("/tmp/absent")), writes=(tmp_path / "journal",))
    unreadable, hidden, unwritable = doubts(needs, user="somebody")
    assert unreadable.startswith(f"the user somebody cannot read {closed}, because of /")
    assert hidden.startswith("/tmp/absent lies in a folder that the service sees empty")
    assert unwritable.endswith(f"type: sudo install -d -o somebody {tmp_path / 'journal'}")


@pytest.fixture
def called(tmp_path, monkeypatch):
    """What stand-ins for systemd's commands were called with; one whose arguments hold `tmp_path / "fails"`'s text fails."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "fails").write_text("nothing")
    for name in ("systemctl", "systemd-sysusers", "sudo"):
        (tmp_path / "bin" / name).write_text(
            f'#!/bin/sh\necho "{name} $@" >> {tmp_path}/called\ncase "$@" in *$(cat {tmp_path}/fails)*) exit 1;; esac\n')
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return lambda: (tmp_path / "called").read_text().splitlines() if (tmp_path / "called").exists() else []


def test_nothing_calls_systemctl_unless_asked(install, called):
    install()
    install(action="uninstall")
    assert called() == []
    with pytest.raises(SystemExit):  # another system's root
        install("--now")


def test_when_asked_it_calls_what_it_would_have_said(called, door_toml, tmp_path, monkeypatch, capsys):
    for name in ("UNIT", "SYSUSERS", "WANTED"):
        monkeypatch.setattr(f"pawlatch.commands.service.{name}", tmp_path / "etc" / name)
    install = ["install", "--config", str(door_toml()), "--now"]
    assert service(install) == 0
    assert called() == ["systemd-sysusers ", "systemctl daemon-reload", "systemctl enable pawlatch", "systemctl restart --no-block pawlatch"]
    (tmp_path / "fails").write_text("enable")
    assert service(install) == 1
    assert "systemctl failed with status 1" in capsys.readouterr().out
    assert called()[-1] == "systemctl enable pawlatch"
    assert service(["uninstall", "--now"]) == 0
    assert called()[-2:] == ["systemctl disable --now pawlatch", "systemctl daemon-reload"]
    assert not (tmp_path / "etc" / "UNIT").exists()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt-get install systemd)")
@pytest.mark.parametrize("tables", [
    ('camera.uri = "picamera"', 'latch = {kind = "gpio", pin = 17}', "show.port = 8080"),
    ('camera.uri = "0"', 'latch = {kind = "gpio", pin = 17}'),
    ('camera.uri = "rtsp://camera/1"', 'latch = {kind = "command", lock = ["/bin/true"], unlock = ["/bin/true"]}'),
])
def test_systemd_finds_no_fault_with_the_unit(install, tables):
    install(tables=tables)
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(install.unit)], capture_output=True, text=True, timeout=60)
    ours = [line for line in (checked.stdout + checked.stderr).splitlines() if "pawlatch" in line]
    assert (checked.returncode, ours) == (0, [])
    rated = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(install.unit)],
                           capture_output=True, text=True, timeout=60)  # 2.0 of 10, where a unit without hardening has 9.6
    assert rated.returncode == 0, rated.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt-get install systemd)")
def test_systemd_would_find_a_fault(install):
    """Sabotage: an option that is none."""
    install()
    install.unit.write_text(install.unit.read_text().replace("WatchdogSec=15", "WatchdogSec=soon\nExecStart=nowhere"))
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", str(install.unit)], capture_output=True, text=True, timeout=60)
    assert "pawlatch.service" in checked.stderr
