"""The updater of a door that works: it looks, it installs when told, and nothing that it does reaches the door."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pawlatch.bundle import installed
from pawlatch.card import CARD_NAME
from pawlatch.errors import ConfigError
from pawlatch.schema import write_truth
from pawlatch.updates import UpdateOptions, Updater, UpdateStatus

SWAPPED = {"labels": ["other", "own", "_empty"]}
EMPTY = ",".join(["empty"] * 60)  # for as long as the test takes


@pytest.fixture
def old(published) -> Path:
    return published("old")


def until(updater: Updater, is_so: Callable[[UpdateStatus], bool]) -> UpdateStatus:
    """Its status once it is so."""
    waited = threading.Event()
    for _ in range(600):
        if is_so(updater.status):
            return updater.status
        waited.wait(0.1)
    raise AssertionError(updater.status)


def settings(folder: Path, old: Path, journal: Path | None = None) -> Path:
    path = folder / "door.toml"
    path.write_text(f'[model]\nbundle = "{old}"\nengine = "litert"\n[journal]\nfolder = "{journal or folder / "none"}"\n')
    return path


def test_it_looks_and_installs_when_told(published, old, tmp_path):
    new, before = published("new"), installed(old)[1]
    with Updater(UpdateOptions(str(new)), bundle=old, config=settings(tmp_path, old), first_s=0.0) as updater:
        seen = until(updater, lambda status: status.latest is not None)
        assert seen == UpdateStatus(before, installed(new)[1], f"{installed(new)[1]} is published", False, None)
        assert installed(old)[1] == before  # looking changes nothing
        updater.install("the page")
        assert updater.status.is_installing or updater.status.installed != before
        done = until(updater, lambda status: not status.is_installing)
    assert (done.installed, done.latest, done.refusal) == (installed(new)[1], installed(new)[1], None)
    assert done.summary == f"{installed(new)[1]} is installed: the self-test of int8 passed: 3 photos, scores within 0"
    assert installed(old)[1] == installed(new)[1]


def test_a_worse_model_is_refused_with_the_reason(published, old, tmp_path, recorded, draw_clip):
    journal = recorded(old, draw_clip("day", [(1, None), (2, "other"), (1, None)]))
    write_truth(journal, {1: "other"})
    new, before = published("new", **SWAPPED), installed(old)[1]
    with Updater(UpdateOptions(str(new)), bundle=old, config=settings(tmp_path, old, journal)) as updater:
        updater.install()
        done = until(updater, lambda status: not status.is_installing)
    assert done.refusal == "the new model is worse: 1 let in of those that should stay out"
    assert done.summary == f"{installed(new)[1]} is not taken: {done.refusal}"
    assert done.installed == installed(old)[1] == before


@pytest.mark.parametrize("by", ["looking", "installing"])
def test_what_cannot_be_had_is_told(old, tmp_path, by):
    with Updater(UpdateOptions(str(tmp_path / "nothing")), bundle=old, first_s=0.0 if by == "looking" else 60.0) as updater:
        if by == "installing":
            updater.install()
        told = until(updater, lambda status: status.refusal is not None and not status.is_installing)
    assert "cannot fetch pawlatch.json" in str(told.refusal)
    assert told.installed == installed(old)[1]


def test_an_unsigned_model_is_refused_where_a_key_is_set(published, old, tmp_path):
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB1111111111111111111111111111111111111111111\n")
    with Updater(UpdateOptions(str(published("new")), key=tmp_path / "key.pub"), bundle=old) as updater:
        updater.install()
        told = until(updater, lambda status: not status.is_installing)
    assert "must be signed by" in str(told.refusal)


def test_never_looks_when_told_never_and_closes_twice(published, old):
    updater = Updater(UpdateOptions(str(published("new")), check_s=0), bundle=old, first_s=0.0)
    assert updater.status.latest is None
    updater.close()
    updater.close()
    updater.install()
    assert not updater.status.is_installing
    assert updater.status.latest is None


def test_closing_ends_an_installation_and_the_old_model_stays(old, tmp_path):
    """What is published is a pipe into which nobody writes: a pull would wait for ever."""
    (tmp_path / "stuck").mkdir()
    os.mkfifo(tmp_path / "stuck" / CARD_NAME)
    before = installed(old)[1]
    updater = Updater(UpdateOptions(str(tmp_path / "stuck"), check_s=0), bundle=old)
    updater.install()
    until(updater, lambda status: updater._child is not None)
    updater.close()
    assert not updater._thread.is_alive()
    assert installed(old)[1] == before


@pytest.fixture
def endless() -> Iterator[str]:
    """A server that begins its answer for ever, where HTTP lets it."""
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):  # until the other side has had enough
                while True:
                    self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/edge"
        server.shutdown()
        serving.join(30)


@pytest.mark.parametrize("by", ["looking", "installing"])
def test_a_server_without_end_is_left(old, endless, monkeypatch, by):
    monkeypatch.setattr("pawlatch.updates._LOOK_S", 1.0)
    monkeypatch.setattr("pawlatch.updates._PULL_S", 1.0)
    with Updater(UpdateOptions(endless), bundle=old, first_s=0.0 if by == "looking" else 60.0) as updater:
        if by == "installing":
            updater.install()
        told = until(updater, lambda status: status.refusal is not None and not status.is_installing)
    assert "did not end within" in str(told.refusal)
    assert not updater._thread.is_alive()


def test_closing_ends_a_look(old, endless, caplog):
    updater = Updater(UpdateOptions(endless), bundle=old, first_s=0.0)
    until(updater, lambda status: updater._child is not None)
    with updater._lock:  # it yields to the door
        pid = updater._child.pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"
    updater.close()
    assert not updater._thread.is_alive()
    assert not caplog.records


@pytest.mark.parametrize("check_s", [1.0, -1.0, 59.0])
def test_it_does_not_look_too_often(check_s):
    with pytest.raises(ConfigError, match="check_s must be 0"):
        UpdateOptions("https://example.org", check_s=check_s)


@pytest.mark.parametrize("url", ["ftp://example.org", "model/edge", "", "javascript:x"])
def test_it_takes_no_other_addresses(url):
    with pytest.raises(ConfigError, match="url must be as"):
        UpdateOptions(url)


def test_what_a_pull_does_to_its_process_does_not_reach_the_door(published, old, monkeypatch):
    """Also where it dies, as of a model that crashes the engine."""
    monkeypatch.setattr("pawlatch.updates._PROGRAM", "import os, sys; sys.stderr.write('INFO: XNNPACK\\n'); sys.stderr.flush(); os.abort()")
    with Updater(UpdateOptions(str(published("new"))), bundle=old) as updater:
        updater.install()
        told = until(updater, lambda status: not status.is_installing)
    assert told.refusal == "it ended with status -6"


def test_a_running_door_takes_what_is_pulled(published, old, tmp_path):
    """The door itself, which says that there is one; the pull is another process, as the updater's is."""
    config = settings(tmp_path, old)
    new = published("new", deploy="float32")
    config.write_text(config.read_text() + f'[camera]\nuri = "scene:{EMPTY}"\n[update]\nurl = "{new}"\n')
    door = subprocess.Popen([sys.executable, "-c", "from pawlatch.cli import main; raise SystemExit(main())", "run", "--config", config],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last_resort = threading.Timer(120, door.kill)
    last_resort.start()
    try:
        said = iter(door.stdout.readline, "")
        assert next(line for line in said if line.startswith("old, int8: "))
        assert next(line for line in said if line == f"another model is published: {installed(new)[1]}; here is {installed(old)[1]}\n")
        pulled = subprocess.run([sys.executable, "-c", "from pawlatch.cli import main; raise SystemExit(main())", "model", "pull",
                                 "--config", config, "--json"], capture_output=True, text=True, timeout=120)
        assert pulled.returncode == 0, pulled.stderr
        assert json.loads(pulled.stdout)["status"] == "installed"
        assert next(line for line in said if line.startswith("new, float32: "))
        door.send_signal(signal.SIGTERM)
        assert door.wait(60) == 0
    finally:
        last_resort.cancel()
        door.kill()
        door.communicate()
