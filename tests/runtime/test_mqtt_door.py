"""`pawlatch run` with [mqtt]: as a process, before a real broker and before the worst of them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")

from pawlatch.journal import Journal

from .broker import Broker, Ear, Stub, free_port, needs_mosquitto, until
from .test_mqtt_link import flood, silent, trickle
from .test_run import porches, settings, start  # noqa: F401  fixtures

BASE = "pawlatch/pawlatch"
CODE = "271828"


@pytest.fixture
def secrets(tmp_path) -> str:
    """Lines for [mqtt] that name a file with the code."""
    (tmp_path / "code").touch(mode=0o600)
    (tmp_path / "code").write_text(CODE)
    return 'code_file = "code"'


def table(port: int, more: str = "") -> str:
    return f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{more}'


def says(ear: Ear, **wanted: object) -> dict:
    return json.loads(ear.until(f"{BASE}/state", lambda payload: wanted.items() <= json.loads(payload).items()))


@needs_mosquitto
def test_an_armed_door_is_seen_and_worked_by_mqtt(settings, porches, start, broker, ear, secrets):  # noqa: F811
    process = start("--config", settings("armed", table(broker.port, secrets)))
    process.until("opens for own")
    says(ear, lock="LOCKED", camera="OFF", state="locked")
    ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": CODE, "at": time.time()})
    says(ear, lock="UNLOCKED", state="held")
    assert settings.moves()[-1] == "unlock"
    ear.say(f"{BASE}/lock/set", "LOCK")
    says(ear, lock="LOCKED")
    assert settings.moves()[-1] == "lock"
    porches.who = "own"
    says(ear, animal="ON", lock="UNLOCKED")
    porches.who = None
    assert json.loads(ear.until(f"{BASE}/event"))["event_type"] == "opened"
    assert ear.until(f"{BASE}/picture").startswith(b"\xff\xd8")
    process.send(signal.SIGTERM)
    assert process.ended() == 0
    ear.until(f"{BASE}/availability", b"offline".__eq__)
    assert CODE not in "\n".join(process.lines)


@needs_mosquitto
def test_a_door_that_observes_says_locked_and_refuses(settings, porches, start, broker, ear, secrets):  # noqa: F811
    process = start("--config", settings("observe", table(broker.port, secrets)))
    porches.who = "own"
    process.until("would have unlocked for own")
    says(ear, lock="LOCKED", animal="ON")
    assert json.loads(ear.until("homeassistant/device/pawlatch/config"))["cmps"]["mode"]["options"] == ["off", "observe"]
    ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": CODE, "at": time.time()})
    until(lambda: "only observes" in says(ear)["answer"])
    assert not any(json.loads(state)["lock"] != "LOCKED" for state in ear.of(f"{BASE}/state"))
    assert set(settings.moves()) == {"lock"}


@needs_mosquitto
def test_a_hold_outlives_the_door(settings, porches, start, broker, ear):  # noqa: F811
    path = settings("armed", table(broker.port))
    process = start("--config", path)
    says(ear, state="locked")
    ear.say(f"{BASE}/keep_locked/set", {"value": "ON", "at": time.time()})
    says(ear, keep_locked="ON")
    process.kill()
    start("--config", path).until("MQTT keeps it locked")


@needs_mosquitto
def test_an_unlock_that_was_obeyed_opens_no_door_that_starts_again(settings, porches, start, broker, ear, secrets):  # noqa: F811
    """Who records it, and ends the door by a power cut or a kill, has ten seconds to say it again."""
    path = settings("armed", table(broker.port, secrets))
    process = start("--config", path)
    says(ear, state="locked")
    order = {"value": "UNLOCK", "code": CODE, "at": time.time()}
    ear.say(f"{BASE}/lock/set", order)
    says(ear, lock="UNLOCKED")
    process.kill()
    ear.until(f"{BASE}/availability", b"offline".__eq__)
    start("--config", path)
    ear.until(f"{BASE}/availability", b"online".__eq__)
    says(ear, lock="LOCKED")
    before = settings.moves()
    ear.say(f"{BASE}/lock/set", order)
    until(lambda: says(ear)["answer"] in ("it was sent before this door began", "open for 5 s"))
    assert settings.moves() == before


@needs_mosquitto
def test_the_journal_tells_the_mode_that_was_chosen_and_not_the_settings(settings, porches, start, broker, ear, tmp_path):  # noqa: F811
    """Else it says "opened" of a latch that never moved; as much after the next start, which finds the mode chosen."""
    path = settings("armed", table(broker.port))
    process = start("--config", path)
    says(ear, state="locked", mode="armed")
    ear.say(f"{BASE}/mode/set", {"value": "observe", "at": time.time()})
    says(ear, mode="observe")
    for _ in range(2):
        porches.who = "own"
        process.until("would have unlocked for own")
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        process = start("--config", path)
        process.until('the mode is "observe", as MQTT chose')
    assert set(settings.moves()) == {"lock"}
    with Journal.open_read(tmp_path / "journal") as journal:
        assert [(event.mode, event.door) for event in journal.events()] == [("observe", "would open")] * 2


@needs_mosquitto
def test_a_door_that_opened_is_said_to_have_opened_whatever_mode_was_chosen_since(settings, porches, start, broker, ear):  # noqa: F811
    start("--config", settings("armed", table(broker.port)))
    says(ear, state="locked")
    porches.who = "own"
    says(ear, lock="UNLOCKED")
    ear.say(f"{BASE}/mode/set", {"value": "observe", "at": time.time()})
    says(ear, mode="observe")
    porches.who = None
    assert json.loads(ear.until(f"{BASE}/event"))["event_type"] == "opened"


@needs_mosquitto
def test_sighup_keeps_the_bridge(settings, porches, start, broker, ear):  # noqa: F811
    process = start("--config", settings("observe", table(broker.port)))
    says(ear, mode="observe", state="locked")
    settings("armed", table(broker.port, 'code_file = "another"'))
    process.send(signal.SIGHUP)
    process.until("[mqtt] is read at the start alone: what has changed there counts from the next one")
    says(ear, mode="armed")
    ear.until("homeassistant/device/pawlatch/config", lambda told: b'"armed"' in told)
    assert ear.of(f"{BASE}/availability")[-1] == b"online"


def test_mqtt_that_is_added_by_a_reload_and_cannot_be_ends_no_door(settings, porches, start):  # noqa: F811
    process = start("--config", settings("armed"))
    process.until("opens for own")
    settings("armed", table(1, 'code_file = "absent"'))
    process.send(signal.SIGHUP)
    process.until("[mqtt] is read at the start alone")
    process.until("opens for own")
    process.send(signal.SIGTERM)
    assert process.ended() == 0


def test_a_code_that_all_may_read_ends_it_before_it_begins(settings, porches, command, secrets, tmp_path):  # noqa: F811
    (tmp_path / "code").chmod(0o644)
    done = command("pawlatch", "run", "--config", settings("armed", table(1, secrets)))
    assert done.returncode == 2
    assert "chmod o=" in done.stderr
    assert set(settings.moves()) == {"lock"}


# ------------------------------------------------------------------------------------------------------- under siege

ATTEMPTS = 4  # other work on this machine may cost frames, too; a siege that does costs them each time

COUNTING = """
import atexit, pawlatch.loop as loop
step, seen = loop.Watch._step, []
def counted(self, frame):
    seen.append(frame.index)
    return step(self, frame)
loop.Watch._step = counted
atexit.register(lambda: print("frames", len(seen), flush=True))
"""


def assault(port: int, stopped: threading.Event) -> None:
    """All that a client of the broker can do: kept and wrong and endless unlocks, megabytes, nonsense, false births."""
    ear = Ear(port)
    number = 0
    while not stopped.wait(0.002):
        number += 1
        at = time.time()
        ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": CODE, "at": at}, retain=True, qos=0)
        ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": f"{number:06}", "at": at}, qos=0)
        ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": CODE, "at": at - 3600}, qos=0)
        ear.say(f"{BASE}/snapshot/set", "PRESS", qos=0)
        ear.say(f"{BASE}/keep_locked/set", {"value": ("ON", "OFF")[number % 2], "at": at}, qos=0)
        ear.say(f"{BASE}/lock/set", "LOCK", qos=0)
        ear.say(f"{BASE}/mode/set", b"\xff" * 100, qos=0)
        ear.say("homeassistant/status", ("online", "offline", b"\x00")[number % 3], qos=0)
        if number % 50 == 0:
            ear.say(f"{BASE}/lock/set", b"{" * 1_000_000, qos=0)
    ear.close()


@pytest.fixture
def siege(tmp_path):
    """`siege("a flood")`: the port of a broker of that kind."""
    stopped, held = threading.Event(), []

    def begin(kind: str) -> int:
        if kind == "nobody there":
            return free_port()
        if kind == "an assault on mosquitto":
            held.append(Broker(tmp_path))
            attacker = threading.Thread(target=assault, args=(held[-1].port, stopped))
            attacker.start()
            held.append(attacker)
            return held[0].port
        held.append(Stub({"silence": silent, "a byte a second": trickle, "a flood": flood}[kind]))
        return held[-1].port

    yield begin
    stopped.set()
    for each in reversed(held):
        {Broker: lambda it: it.kill(), Stub: lambda it: it.close(), threading.Thread: lambda it: it.join()}[type(each)](each)


@pytest.fixture
def play(start, draw_clip, tmp_path):  # noqa: F811
    """`play(path)`: an armed door on a clip of strangers, at the clip's own pace; how many frames it saw, and what the latch did."""
    (tmp_path / "sitecustomize.py").write_text(COUNTING)
    clip = draw_clip("strangers", [(1, None), (2, "other"), (4, None), (2, "other"), (2, None)])

    def played(path: Path) -> tuple[int, str]:
        process = start("--config", path, "--camera", str(clip), "--latch", "log",
                        PYTHONPATH=os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
        assert process.ended() == 0, process.lines
        assert CODE not in "\n".join(process.lines)
        (latch,) = (line for line in process.lines if line.startswith("latch: "))
        return int(process.lines[-1].removeprefix("frames ")), latch

    return played


@pytest.fixture(scope="module")
def peace() -> list[int]:
    """How many frames a door saw without a broker, each time that it was tried."""
    return []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [
    "nobody there", "silence", "a byte a second", "a flood", pytest.param("an assault on mosquitto", marks=needs_mosquitto)])
def test_no_broker_costs_a_frame_or_opens_the_door(kind, siege, settings, play, secrets, peace):  # noqa: F811
    besieged, port = [], siege(kind)
    for attempt in range(ATTEMPTS):
        if attempt or not peace:
            peace.append(play(settings("armed"))[0])
        alone = peace[-1]
        seen, latch = play(settings("armed", table(port, secrets)))
        assert latch == "latch: locked at 0.0 s"
        besieged.append((alone, seen))
        if seen >= alone - 1:
            break
    assert besieged[-1][1] >= besieged[-1][0] - 1, besieged


@needs_mosquitto
@pytest.mark.slow
def test_an_assault_without_a_guard_would_open(siege, settings, play, secrets, tmp_path):  # noqa: F811
    with (tmp_path / "sitecustomize.py").open("a") as patch:
        patch.write("import pawlatch.mqtt.commands as commands\ncommands.refuse_retained = lambda heard: None\n")
    _, latch = play(settings("armed", table(siege("an assault on mosquitto"), secrets)))
    assert "unlocked" in latch
