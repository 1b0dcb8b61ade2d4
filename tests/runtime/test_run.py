"""`pawlatch run`, the door itself: in this process where that is enough, else as the process that systemd starts."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from pawlatch.camera import open_clip
from pawlatch.classify import Classifier
from pawlatch.commands.door import run
from pawlatch.errors import CameraError, ConfigError, EngineError, LatchError, ModelCardError, OutputError
from pawlatch.journal import Journal

from .conftest import porch

DAY = [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)]
DEADLINE_S = 300.0 if "QEMU_CPU" in os.environ else 60.0  # an emulated processor is slow


def test_run_tells_of_unlocks_visits_and_moves(tiny_bundle, draw_clip, capsys):
    arguments = [str(tiny_bundle), "--camera", str(draw_clip("day", DAY)), "--latch", "log", "--fast"]
    assert run([*arguments, "--policy", "consensus"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "tiny, int8: opens for own, by consensus"
    assert lines[1] == "0:01.2  would have unlocked for own 1.00: 3 of 3 frames of the last 2.0 s say own at 0.80 or more"
    assert lines[2].startswith("0:01.0 to 0:02.9  own 1.00  opened after 0.2 s: 3 of 3 frames")
    assert lines[3].startswith("0:07.0 to 0:08.9  other 1.00  stayed shut: other 1.00: not a label that unlocks")
    assert lines[4:] == ["latch: locked at 0.0 s, unlocked at 1.2 s, locked at 6.2 s"]


def test_run_on_a_paced_clip_is_a_live_door(tiny_bundle, draw_clip, capsys):
    assert run([str(tiny_bundle), "--camera", str(draw_clip("own", [(0.3, None), (1.2, "own")]))]) == 0
    out = capsys.readouterr().out
    assert "unlocked for own" in out
    assert out.splitlines()[-1].count("locked at") == 3


def test_run_records_what_it_saw(tiny_bundle, draw_clip, tmp_path):
    record = tmp_path / "seen.webm"
    clip = draw_clip("own", [(0.5, None), (1, "own")])
    assert run([str(tiny_bundle), "--camera", str(clip), "--fast", "--record", str(record)]) == 0
    assert len(list(open_clip(record).frames)) == 15


def test_run_locks_before_anything_else_can_fail(tiny_bundle, caplog):
    with caplog.at_level("INFO", logger="pawlatch.latch"), pytest.raises(ModelCardError):
        run([str(tiny_bundle / "absent")])
    assert caplog.messages == ["latch locked"]


def test_run_says_that_a_card_without_unlock_labels_arms_nothing(tiny_bundle, draw_clip, capsys):
    card = tiny_bundle / "pawlatch.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"unlock": []}))
    clip = str(draw_clip("own", [(1, "own")]))
    assert run([str(tiny_bundle), "--camera", clip, "--fast", "--mode", "armed"]) == 0
    out = capsys.readouterr().out
    assert "names no unlock label, so the door stays shut" in out
    assert "armed, but" in out
    assert "stayed shut: the card names no unlock label: the door cannot be armed" in out


def test_run_refuses_a_model_that_sees_otherwise_here(tiny_bundle, caplog):
    expected = next((tiny_bundle / "selftest").glob("*.json"))
    expected.write_text(expected.read_text().replace("0.", "1."))
    with caplog.at_level("INFO", logger="pawlatch.latch"), pytest.raises(EngineError, match="self-test"):
        run([str(tiny_bundle), "--camera", "scene:empty?fps=1", "--fast"])
    assert "latch unlocked" not in caplog.messages


@pytest.mark.parametrize(("arguments", "error"), [
    (["--camera", "absent.mp4"], CameraError),
    (["--latch", "gpio:99"], LatchError),
    (["--latch", "magnet"], LatchError),
    (["--variant", "int4"], ModelCardError),
    (["--config", "absent.toml"], ConfigError),
    (["--camera", "scene:empty?fps=1", "--fast", "--record", "seen.mp4"], OutputError),
])
def test_run_refuses_bad_use(tiny_bundle, arguments, error):
    with pytest.raises(error):
        run([str(tiny_bundle), *arguments])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_run_refuses_a_time_that_is_none(tiny_bundle, seconds, capsys):
    with pytest.raises(SystemExit) as caught:
        run([str(tiny_bundle), "--unlock-s", seconds])
    assert caught.value.code == 2


# ------------------------------------------------------------------------------------------------ as a process


class Porches:
    """A camera that gives an endless porch as MJPEG over HTTP; `who` stands before it. It can be killed, and return."""

    def __init__(self) -> None:
        self.who: str | None = None
        self.port = 0
        self.start()

    def start(self) -> None:
        porches = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=picture")
                self.end_headers()
                step = 0
                with suppress(OSError):
                    while not porches.stopped.is_set():
                        step += 1
                        jpeg = cv2.imencode(".jpg", porch(porches.who, step))[1].tobytes()
                        self.wfile.write(b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(jpeg))
                        self.wfile.write(jpeg + b"\r\n")
                        porches.stopped.wait(0.1)

            def log_message(self, *_: object) -> None:
                pass

        self.stopped = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def kill(self) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def porches():
    it = Porches()
    yield it
    it.kill()


class Process:
    """`pawlatch run` as systemd starts it, its lines read as they come."""

    def __init__(self, *arguments: object, cache: Path, **environment: str) -> None:
        program = Path(sysconfig.get_path("scripts")) / "pawlatch"
        self._popen = subprocess.Popen(
            [program, "run", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._popen.stdout:
            self._queue.put(line.rstrip())
        self._queue.put(None)

    def until(self, text: str) -> str:
        """Read on up to the next line that holds `text`."""
        while True:
            line = self._queue.get(timeout=DEADLINE_S)
            assert line is not None, "\n".join(["it ended early:", *self.lines])
            self.lines.append(line)
            if text in line:
                return line

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def ended(self) -> int:
        """Its exit status, once it has ended; all that it said is in `lines`."""
        status = self._popen.wait(DEADLINE_S)
        while (line := self._queue.get(timeout=DEADLINE_S)) is not None:
            self.lines.append(line)
        return status

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


@pytest.fixture
def start(tmp_path):
    started: list[Process] = []

    def begin(*arguments: object, **environment: str) -> Process:
        started.append(Process(*arguments, cache=tmp_path / "cache", **environment))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


@pytest.fixture
def settings(tiny_bundle, porches, tmp_path):
    """`settings(mode="armed", …)` writes door.toml: the drawn porches, a latch that is a program, a journal. Returns its path."""
    moves = tmp_path / "moves"
    program = [sys.executable, "-c", f"import sys; open({str(moves)!r}, 'a').write(sys.argv[1] + chr(10))"]

    def write(mode: str = "observe", more: str = "") -> Path:
        path = tmp_path / "door.toml"
        path.write_text(f"""
[model]
bundle = "tiny"
[camera]
uri = "http://127.0.0.1:{porches.port}/"
stale_s = 0.5
retry_s = 0.05
[latch]
kind = "command"
lock = {json.dumps([*program, "lock"])}
unlock = {json.dumps([*program, "unlock"])}
timeout_s = 10.0
[journal]
folder = "journal"
[door]
mode = "{mode}"
{more}
""")
        return path

    write.moves = lambda: moves.read_text().split()
    return write


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_armed_door_opens_and_a_signal_locks_it(settings, porches, start, tmp_path, number):
    process = start("--config", settings("armed"))
    process.until("opens for own")
    porches.who = "own"
    process.until("unlocked for own")
    assert settings.moves()[-1] == "unlock"
    process.send(number)
    assert process.ended() == 0
    assert settings.moves()[0] == settings.moves()[-1] == "lock"
    with Journal.open_read(tmp_path / "journal") as journal:
        (event,) = journal.events()
    assert (event.label, event.unlocked) == ("own", True)


def test_observe_decides_and_a_real_latch_stays_locked(settings, porches, start, tmp_path):
    process = start("--config", settings("observe"))
    process.until("opens for own")
    porches.who = "own"
    process.until("would have unlocked for own")
    process.send(signal.SIGTERM)
    assert process.ended() == 0
    assert set(settings.moves()) == {"lock"}
    with Journal.open_read(tmp_path / "journal") as journal:
        (event,) = journal.events()
    assert event.unlocked
    assert event.setting.mode == "observe"


def test_sighup_locks_reads_again_and_goes_on(settings, porches, start):
    process = start("--config", settings("armed"))
    process.until("opens for own")
    porches.who = "own"
    process.until("unlocked for own")
    settings("armed", "unlock_z = 3")
    process.send(signal.SIGHUP)
    assert "did you mean unlock_s?" in process.until("stay as they were")
    assert settings.moves()[-1] == "lock"
    process.until("opens for own, by evidence")
    process.until("unlocked for own")
    settings("armed", '[decision]\npolicy = "consensus"')
    process.send(signal.SIGHUP)
    process.until("opens for own, by consensus")
    process.until("unlocked for own")
    process.send(signal.SIGTERM)
    assert process.ended() == 0


def test_a_kill_after_another_latch_was_written_locks_the_one_that_was_open(settings, porches, start, tmp_path, command):
    """As systemd does it: a runtime directory for the service, and `latch lock` once it is gone."""
    run, path = {"RUNTIME_DIRECTORY": str(tmp_path)}, settings("armed")
    process = start("--config", path, **run)
    process.until("opens for own")
    porches.who = "own"
    process.until("unlocked for own")
    path.write_text('[latch]\nkind = "log"\n')
    process.kill()
    assert settings.moves()[-1] == "unlock"
    assert command("pawlatch", "latch", "lock", "--config", path, **run).returncode == 0
    assert settings.moves()[-1] == "lock"
    process = start("--config", settings("armed"), **run)
    process.until("opens for own")
    process.send(signal.SIGTERM)
    assert process.ended() == 0
    assert not (tmp_path / "latch.json").exists()


def test_signals_are_heard_before_there_is_anything_to_stop(settings, start, tmp_path):
    """While the model is loaded, at the start and again, a SIGHUP must not kill the door, and a SIGTERM ends it with status 0."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, pawlatch.model as m\n"
        "open_model, calls = m.open_model, []\n"
        "def signalled(options):\n"
        "    calls.append(1)\n"
        "    os.kill(os.getpid(), signal.SIGHUP if len(calls) < 3 else signal.SIGTERM)\n"
        "    return open_model(options)\n"
        "m.open_model = signalled\n"
    )
    process = start("--config", settings("armed"), PYTHONPATH=str(tmp_path))
    assert process.ended() == 0
    assert sum("opens for own" in line for line in process.lines) == 3
    assert set(settings.moves()) == {"lock"}


def test_a_board_short_of_power_runs_the_model_in_one_thread_and_the_door_goes_on(settings, porches, start, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "vcgencmd").write_text("#!/bin/sh\ncase $1 in get_throttled) echo throttled=0x50005;; *) echo \"temp=51.0'C\";; esac\n")
    (tools / "vcgencmd").chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(DEADLINE_S)
        process = start("--config", settings("armed"), PATH=f"{tools}:{os.environ['PATH']}", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert process.until("undervoltage: use the board's own power supply").endswith("threads: 1")
        process.until("the model runs in 1 thread now")
        porches.who = "own"
        process.until("unlocked for own")
        while b"STATUS=locked; undervoltage: " not in systemd.recv(4096):
            pass
    process.send(signal.SIGTERM)
    assert process.ended() == 0
    assert [line for line in process.lines if "fault" in line and "fault, camera" not in line] == []  # which a busy machine has late
    with Journal.open_read(tmp_path / "journal") as journal:
        (note,) = [note for note in journal.notes() if note.kind == "board"]
    assert "undervoltage" in note.detail


def test_a_camera_that_goes_is_a_fault_until_it_returns(settings, porches, start):
    process = start("--config", settings("armed"))
    process.until("opens for own")
    porches.who = "own"
    process.until("unlocked for own")
    porches.kill()
    assert "fault" in process.until("the camera is")
    assert settings.moves()[-1] == "lock"
    porches.start()
    process.until("unlocked for own")


def test_a_missing_camera_is_waited_for(settings, porches, start):
    porches.kill()
    process = start("--config", settings())
    process.until("the camera is connecting")
    porches.start()
    porches.who = "own"
    process.until("would have unlocked for own")


def test_a_killed_door_is_locked_from_outside(settings, porches, start, command):
    config = settings("armed")
    process = start("--config", config)
    process.until("opens for own")
    porches.who = "own"
    process.until("unlocked for own")
    process.kill()
    assert settings.moves()[-1] == "unlock"  # nobody could lock it
    assert command("pawlatch", "latch", "lock", "--config", config).returncode == 0
    assert settings.moves()[-1] == "lock"


def test_another_model_is_taken_between_two_frames_and_a_bad_one_is_not(settings, porches, start, tiny_bundle, tmp_path):
    process = start("--config", settings())
    process.until("tiny, int8")
    card = json.loads((tiny_bundle / "pawlatch.json").read_text())

    def copy_in(card: dict) -> None:
        (tiny_bundle / "new.json").write_text(json.dumps(card))
        (tiny_bundle / "new.json").replace(tiny_bundle / "pawlatch.json")

    spoilt = json.loads(json.dumps(card))
    spoilt["files"]["int8"]["sha256"] = "0" * 64
    copy_in(spoilt)
    assert "goes on" in process.until("not the file its card vouches for")
    copy_in(card | {"name": "second"})
    process.until("second, int8")
    porches.who = "own"
    process.until("would have unlocked for own")


def test_systemd_hears_when_it_is_ready_alive_and_stopping(settings, start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(DEADLINE_S)

        def hear(text: str) -> None:
            while text not in listening.recv(4096).decode():
                pass

        process = start("--config", settings(), NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000")
        hear("READY=1")
        hear("WATCHDOG=1")
        hear("WATCHDOG=1")
        process.send(signal.SIGHUP)
        hear("RELOADING=1")
        hear("READY=1")
        process.send(signal.SIGTERM)
        hear("STOPPING=1")
    assert process.ended() == 0


def test_no_watchdog_ping_while_the_model_hangs(settings, start, tmp_path):
    """A loop that stands still must be told from one that works."""
    hang = tmp_path / "sitecustomize.py"
    hang.write_text(
        "import pawlatch.classify as c, time\n"
        "see, calls = c.Classifier.see, []\n"
        "def hanging(self, frame, **box):\n"
        "    calls.append(1)\n"
        "    return see(self, frame, **box) if len(calls) < 2 else time.sleep(1000)\n"
        "c.Classifier.see = hanging\n"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(DEADLINE_S)
        config = settings()
        process = start("--config", config, "--camera", "scene:own,own,own,own", NOTIFY_SOCKET=str(tmp_path / "notify"),
                        WATCHDOG_USEC="30000", PYTHONPATH=str(tmp_path))
        while "READY=1" not in listening.recv(4096).decode():
            pass
        listening.settimeout(2.0)  # 200 times as long as pings may be apart
        pings = iter(lambda: listening.recv(4096), b"")
        with pytest.raises(TimeoutError):
            list(pings)
        process.kill()


def test_the_page_shows_the_door_to_who_has_the_token(settings, porches, start):
    from urllib.error import HTTPError
    from urllib.request import urlopen

    process = start("--config", settings(), "--show", "0")
    url = process.until("what the door sees").split()[-1]
    process.until("opens for own")
    with urlopen(url, timeout=DEADLINE_S) as page:
        assert b"<img" in page.read()
    picture = url.replace("/?", "/snapshot.jpg?")
    until_s = time.monotonic() + DEADLINE_S
    while time.monotonic() < until_s:
        with suppress(HTTPError), urlopen(picture, timeout=DEADLINE_S) as jpeg:
            assert jpeg.read(2) == b"\xff\xd8"
            break
    with pytest.raises(HTTPError, match=r"401|403"):
        urlopen(url.partition("?")[0], timeout=DEADLINE_S)


@pytest.mark.parametrize("is_journal", [True, False])
def test_the_journal_is_not_told_the_token(settings, porches, is_journal):
    """systemd names the file that its journal reads; a JOURNAL_STREAM that is inherited by a terminal names another one."""
    reads, writes = os.pipe()
    about = os.fstat(writes)
    stream = f"{about.st_dev}:{about.st_ino + (not is_journal)}"
    program = Path(sysconfig.get_path("scripts")) / "pawlatch"
    process = subprocess.Popen([program, "run", "--config", settings(), "--show", "0"], stdout=writes,
                               env={**os.environ, "JOURNAL_STREAM": stream, "PAWLATCH_SHOW_TOKEN": "s3cret-of-the-owner"})
    os.close(writes)
    try:
        with os.fdopen(reads) as said:
            line = next(line for line in said if "what the door sees" in line)
    finally:
        process.kill()
        process.wait()
    assert ("s3cret-of-the-owner" in line) is not is_journal
    assert "http://127.0.0.1:" in line


def test_run_ends_with_status_0_on_a_signal_that_comes_early(tiny_bundle, capsys, monkeypatch):
    see, calls = Classifier.see, []

    def interrupted(self, frame_bgr, **box):
        calls.append(frame_bgr)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return see(self, frame_bgr, **box)

    monkeypatch.setattr(Classifier, "see", interrupted)
    assert run([str(tiny_bundle), "--camera", "scene:own,own,own", "--fast"]) == 0
    assert len(calls) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "latch: locked at 0.0 s"
