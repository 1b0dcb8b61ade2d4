"""A door behind a real broker: what goes out, what comes in, and what an attacker who has the broker cannot do."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")

from pawlatch.attendant import Attendant
from pawlatch.door import Cause, Door, DoorOptions, DoorState
from pawlatch.frame import CameraState
from pawlatch.latch import LOCKED, UNLOCKED, RecordingLatch
from pawlatch.mqtt import client as client_module
from pawlatch.mqtt import wire
from pawlatch.mqtt.client import MOST_A_MINUTE, Bridge
from pawlatch.mqtt.options import MqttOptions
from pawlatch.panel import Panel, View, Visitor

from .broker import Broker, Ear, needs_mosquitto, until

pytestmark = needs_mosquitto

CODE = "271828"
BASE = "pawlatch/pawlatch"
DISCOVERY = "homeassistant/device/pawlatch/config"


class House:
    """A door with a loop of its own, forty turns a second, and a panel."""

    def __init__(self, **options: object) -> None:
        self.panel, self.latch = Panel(), RecordingLatch()
        self.door = Door(self.latch, options=DoorOptions(mode="armed", **options), on_transition=self.panel.moved)
        self.attendant = Attendant(self.door)
        self.door.started()
        self.camera, self.visitor = CameraState.OK, None
        self.turns = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while not self._stopped.wait(0.025):
            self.turns += 1
            self.door.tick(time.monotonic())
            self.panel.carry_out(self.attendant.carry_out)
            self.panel.publish(View(
                self.door.state, self.door.is_unlocked, mode=self.door.options.mode, modes=self.attendant.modes,
                faults=self.door.faults, camera=self.camera, visitor=self.visitor, model="tiny", variant="int8",
                held=None if self.door.held is None else SimpleNamespace(is_open=self.door.held[0].is_open, for_s=1, who="x"),
            ))

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()
        self.door.close()


@pytest.fixture
def house():
    it = House()
    yield it
    it.stop()


@pytest.fixture
def open_bridge(broker, house, monkeypatch):
    """`open_bridge()` with a code, `open_bridge(code=None)` without: a bridge that is there, and what its orders wait for."""
    opened: list[Bridge] = []

    def begin(*, code: str | None = CODE, **options: object) -> Bridge:
        if code is None:
            monkeypatch.delenv("PAWLATCH_MQTT_CODE", raising=False)
        else:
            monkeypatch.setenv("PAWLATCH_MQTT_CODE", code)
        opened.append(Bridge(MqttOptions(host="127.0.0.1", port=broker.port, **options), house.panel))
        return opened[-1].__enter__()

    yield begin
    for each in opened:
        each.close()


def state(ear: Ear, **wanted: object) -> dict:
    """The newest state, once it holds what is wanted."""
    return json.loads(ear.until(f"{BASE}/state", lambda payload: wanted.items() <= json.loads(payload).items()))


def unlocking(**other: object) -> dict:
    return {"value": "UNLOCK", "code": CODE, "at": time.time(), **other}


# ------------------------------------------------------------------------------------------------------- outwards


def test_a_door_is_told_in_one_message_and_its_state_before_it_is_available(open_bridge, ear):
    open_bridge()
    ear.until(f"{BASE}/availability", b"online".__eq__)
    topics = [topic for topic, _, _ in ear.heard]
    assert topics.index(DISCOVERY) < topics.index(f"{BASE}/state") < topics.index(f"{BASE}/availability")
    assert sum(topic.endswith("/config") for topic in topics) == 1
    told = json.loads(ear.of(DISCOVERY)[0])
    assert {component["platform"] for component in told["cmps"].values()} == {
        "lock", "image", "event", "sensor", "binary_sensor", "select", "switch", "button"}
    assert told["cmps"]["mode"]["options"] == ["off", "observe", "armed"]


def test_it_is_told_again_when_home_assistant_says_that_it_is_there(open_bridge, ear):
    open_bridge()
    ear.until(f"{BASE}/availability", b"online".__eq__)
    for nonsense in (b"", b"offline", b"\xff" * 1000, b"onlin"):
        ear.say("homeassistant/status", nonsense)
    ear.say("homeassistant/status", "online")
    until(lambda: len(ear.of(f"{BASE}/availability")) == 2)
    assert len(ear.of(DISCOVERY)) == 2
    assert ear.of(DISCOVERY)[0] == ear.of(DISCOVERY)[1]
    for _ in range(50):
        ear.say("homeassistant/status", "online")
    ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, answer="it is locked")
    assert len(ear.of(DISCOVERY)) == 2  # not more often than every five seconds


def test_states_of_camera_animal_and_faults(open_bridge, house, ear):
    open_bridge()
    state(ear, camera="OFF", animal="OFF", lock="LOCKED", state="locked")
    house.camera, house.visitor = CameraState.COVERED, Visitor("own", 0.9, "because")
    state(ear, camera="ON", animal="ON")
    house.door.fault(Cause.JAMMED, "the bolt is out")
    assert state(ear, lock="JAMMED", state="fault")["faults"] == ["jammed: the bolt is out"]


@dataclass(frozen=True)
class Weather:
    """As `pawlatch.board.Board`."""

    temperature_c: float | None
    undervoltage: bool | None


def test_power_temperature_and_model_are_told_where_they_are_known(open_bridge, house, ear):
    installed = []
    open_bridge()
    assert not {"power", "temperature", "update"} & json.loads(ear.until(DISCOVERY))["cmps"].keys()
    house.panel.board = lambda: Weather(48.26, True)
    house.panel.updater = SimpleNamespace(
        status=SimpleNamespace(installed="1", latest="2", summary="better", is_installing=False, refusal=None),
        install=installed.append)
    state(ear, power="ON", temperature=48)
    assert {"power", "temperature", "update"} <= json.loads(ear.until(DISCOVERY))["cmps"].keys()
    assert json.loads(ear.until(f"{BASE}/update")) == {
        "installed_version": "1", "latest_version": "2", "in_progress": False, "release_summary": "better"}
    ear.say(f"{BASE}/update/set", "INSTALL")
    until(lambda: installed == ["MQTT"])


def test_a_visit_is_told_with_its_picture(open_bridge, house, ear, stay):
    open_bridge()
    ear.until(f"{BASE}/availability", b"online".__eq__)
    house.panel.visited(stay(0.0, own=0.9, unlock_at=4), event=7, armed=False)
    told = json.loads(ear.until(f"{BASE}/event"))
    assert (told["event_type"], told["who"], told["score"], told["event"]) == ("would_open", "own", 0.9, 7)
    assert json.loads(ear.until(f"{BASE}/visit")) == told
    picture = cv2.imdecode(np.frombuffer(ear.until(f"{BASE}/picture"), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (120, 160, 3)
    late = Ear(ear._client.port)
    late.until(f"{BASE}/picture")
    assert not late.of(f"{BASE}/event")
    late.close()


def test_a_snapshot_is_drawn_when_it_is_asked_for(open_bridge, house, ear):
    open_bridge()
    state(ear, state="locked")
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    state(ear, answer="there is no picture yet")
    house.panel.picture = lambda: np.full((1080, 1920, 3), 128, np.uint8)
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    picture = cv2.imdecode(np.frombuffer(ear.until(f"{BASE}/snapshot"), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (540, 960, 3)


def test_no_picture_leaves_the_house_that_shall_not(open_bridge, house, ear, stay):
    open_bridge(pictures=False)
    house.panel.picture = lambda: np.full((48, 64, 3), 128, np.uint8)
    house.panel.visited(stay(0.0, own=0.9), event=None, armed=True)
    ear.until(f"{BASE}/event")
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    state(ear, answer="pictures = false: none is sent")
    assert not [topic for topic, _, _ in ear.heard if topic in (f"{BASE}/picture", f"{BASE}/snapshot")]


def test_a_loop_that_hangs_is_not_available(open_bridge, house, ear, monkeypatch):
    open_bridge()
    ear.until(f"{BASE}/availability", b"online".__eq__)
    monkeypatch.setattr(client_module, "SILENT_S", 0.3)
    hang = threading.Event()
    house.panel._waiting.append(SimpleNamespace(begin=lambda now_s: hang.wait(20) and False))
    ear.until(f"{BASE}/availability", b"offline".__eq__)
    hang.set()
    ear.until(f"{BASE}/availability", b"online".__eq__)


def test_a_picture_that_cannot_be_drawn_ends_nothing(open_bridge, house, ear, caplog):
    open_bridge()
    state(ear, state="locked")
    house.panel.picture = lambda: 1 / 0
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    state(ear, answer="it failed; the door's log says why")
    ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, answer="it is locked")


# -------------------------------------------------------------------------------------------------------- inwards


def test_a_person_unlocks_with_the_code_and_locks_without(open_bridge, house, ear):
    open_bridge()
    state(ear, lock="LOCKED")
    ear.say(f"{BASE}/lock/set", unlocking())
    state(ear, lock="UNLOCKED", answer="open for 5 s")
    ear.say(f"{BASE}/lock/set", {"value": "LOCK", "code": None})
    state(ear, lock="LOCKED")
    house.latch.assert_states([LOCKED, UNLOCKED, LOCKED])
    assert "MQTT holds it open" in house.panel.moves[-2].transition.detail


def test_mode_and_hold(open_bridge, house, ear):
    open_bridge()
    state(ear, mode="armed", keep_locked="OFF")
    ear.say(f"{BASE}/keep_locked/set", {"value": "ON", "at": time.time()})
    state(ear, keep_locked="ON", state="held")
    ear.say(f"{BASE}/keep_locked/set", {"value": "OFF", "at": time.time()})
    state(ear, keep_locked="OFF", state="locked")
    ear.say(f"{BASE}/mode/set", {"value": "observe", "at": time.time()})
    state(ear, mode="observe")
    ear.say(f"{BASE}/mode/set", "off")
    state(ear, mode="off")
    ear.say(f"{BASE}/lock/set", unlocking())
    state(ear, answer='the door is off: mode = "off"')
    house.latch.assert_states([LOCKED])


def test_no_mode_above_the_settings(open_bridge, house, ear):
    house.attendant.modes = ("off", "observe")
    open_bridge()
    until(lambda: bool(ear.of(DISCOVERY)) and json.loads(ear.of(DISCOVERY)[-1])["cmps"]["mode"]["options"] == ["off", "observe"])
    house.door.set_mode("observe", who="test")
    ear.say(f"{BASE}/mode/set", {"value": "armed", "at": time.time()})
    until(lambda: "from elsewhere it can be off or observe" in state(ear)["answer"])
    assert house.door.options.mode == "observe"


def test_a_real_latch_that_only_observes_stays_locked_and_says_so(broker, ear, monkeypatch):
    panel = Panel()
    panel.publish(View(DoorState.UNLOCKED, is_unlocked=False, observes=True, model="tiny"))
    with Bridge(MqttOptions(host="127.0.0.1", port=broker.port), panel):
        state(ear, lock="LOCKED", state="unlocked")


ATTACKS = {
    "retained": lambda ear: ear.say(f"{BASE}/lock/set", unlocking(), retain=True),
    "late": lambda ear: ear.say(f"{BASE}/lock/set", unlocking(at=time.time() - 60)),
    "without a time": lambda ear: ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "code": CODE}),
    "without a code": lambda ear: ear.say(f"{BASE}/lock/set", {"value": "UNLOCK", "at": time.time()}),
    "with a wrong code": lambda ear: ear.say(f"{BASE}/lock/set", unlocking(code="314159")),
    "plain": lambda ear: ear.say(f"{BASE}/lock/set", "UNLOCK"),
    "elsewhere": lambda ear: ear.say(f"{BASE}/mode/set", unlocking()),
}
GUARDS = {
    "retained": ("refuse_retained", lambda heard: None),
    "late": ("LATE_S", 1e9),
    "without a code": ("Codes.check", lambda self, given: None),
    "with a wrong code": ("Codes.check", lambda self, given: None),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_opens_nothing(attack, open_bridge, house, ear, caplog):
    open_bridge()
    state(ear, lock="LOCKED")
    ATTACKS[attack](ear)
    until(lambda: "is not obeyed" in caplog.text)
    ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, answer="it is locked")
    house.latch.assert_states([LOCKED])
    assert CODE not in caplog.text
    assert "314159" not in caplog.text


@pytest.mark.parametrize("attack", GUARDS)
def test_it_is_the_guard_that_keeps_it_shut(attack, open_bridge, house, ear, monkeypatch):
    name, without = GUARDS[attack]
    monkeypatch.setattr(f"pawlatch.mqtt.commands.{name}", without)
    open_bridge()._doorman._began_s -= 3600.0  # else what was sent before it began is refused for that
    state(ear, lock="LOCKED")
    ATTACKS[attack](ear)
    state(ear, lock="UNLOCKED")


def test_an_unlock_that_was_retained_before_the_door_came_is_dropped_each_time(open_bridge, house, ear, caplog, broker):
    ear.say(f"{BASE}/lock/set", unlocking(), retain=True)
    bridge = open_bridge()
    until(lambda: "it is retained" in caplog.text)
    bridge.close()
    caplog.clear()
    open_bridge()
    until(lambda: "it is retained" in caplog.text)
    house.latch.assert_states([LOCKED])


def test_without_a_code_nobody_unlocks(open_bridge, house, ear, caplog):
    open_bridge(code=None)
    assert "code_format" not in json.loads(ear.until(DISCOVERY))["cmps"]["lock"]
    state(ear, lock="LOCKED")
    ear.say(f"{BASE}/lock/set", unlocking(code=""))
    until(lambda: "no code is set" in caplog.text)
    house.latch.assert_states([LOCKED])


def test_a_thousand_wrong_codes_open_nothing_and_fill_no_log(open_bridge, house, ear, caplog, monkeypatch):
    """All of them are heard; the loop goes on meanwhile, and the door can still be locked."""
    monkeypatch.setattr(wire, "PER_S", 1e4)
    open_bridge()
    state(ear, lock="LOCKED")
    before = house.turns
    for number in range(1000):
        ear.say(f"{BASE}/lock/set", unlocking(code=f"{number:06}"), qos=0)
    until(lambda: "only counted for a while" in caplog.text)
    ear.say(f"{BASE}/lock/set", unlocking())  # even the right one does not count now
    until(lambda: ear.say(f"{BASE}/lock/set", "LOCK") or bool(json.loads(ear.of(f"{BASE}/state")[-1])["answer"]))
    house.latch.assert_states([LOCKED])
    assert house.turns > before
    told = [record.getMessage() for record in caplog.records if record.name == "pawlatch.mqtt.client"]
    assert len(told) < 25
    assert not any(re.search(r"\d{6}", line) for line in told)


def test_a_crowd_of_orders_is_bounded(open_bridge, house, ear, caplog):
    """Those that wait, and, but for locking, those that come: each may cost the loop a write to the disk."""
    busy = threading.Event()
    house.panel.picture = lambda: busy.wait(20) and None
    bridge = open_bridge()
    state(ear, lock="LOCKED")
    for _ in range(MOST_A_MINUTE):
        ear.say(f"{BASE}/snapshot/set", "PRESS")
    until(lambda: "too much is asked at once" in caplog.text)
    assert bridge._orders.qsize() <= client_module.MOST_ORDERS
    busy.set()
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    until(lambda: "10 orders came within a minute" in caplog.text)
    until(lambda: ear.say(f"{BASE}/lock/set", "LOCK") or json.loads(ear.of(f"{BASE}/state")[-1])["answer"] == "it is locked")


@pytest.mark.parametrize(("wait_s", "answer", "moves"), [
    (0.0, "it waited too long behind other orders; nothing was done", [LOCKED]),
    (1e9, "open for 5 s", [LOCKED, UNLOCKED]),  # sabotage: it is this guard that keeps it shut
])
def test_an_order_that_waited_behind_others_opens_nothing_any_more(wait_s, answer, moves, open_bridge, house, ear, monkeypatch):
    """It was fresh when it came; meanwhile whoever asked has gone."""
    monkeypatch.setattr(client_module, "WAIT_S", wait_s)
    busy = threading.Event()
    house.panel.picture = lambda: busy.wait(20) and None
    bridge = open_bridge()
    state(ear, lock="LOCKED")
    ear.say(f"{BASE}/snapshot/set", "PRESS")
    ear.say(f"{BASE}/lock/set", unlocking())
    until(lambda: bridge._orders.qsize() == 1)
    busy.set()
    state(ear, answer=answer)
    house.latch.assert_states(moves)


def test_it_is_never_too_late_to_lock(open_bridge, house, ear, monkeypatch):
    monkeypatch.setattr(client_module, "WAIT_S", 0.0)
    open_bridge()
    state(ear, lock="LOCKED")
    house.door.hold(open=True, for_s=60.0, who="somebody")
    state(ear, lock="UNLOCKED")
    ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, lock="LOCKED", answer="locked")


def test_a_door_that_opened_a_moment_ago_is_locked_though_nobody_has_seen_it_open(open_bridge, house, ear, monkeypatch):
    """The loop opens, and tells of it only at its turn's end: what comes between must not be taken for said already."""
    open_bridge()
    state(ear, lock="LOCKED")
    monkeypatch.setattr(house.panel, "publish", lambda view: None)
    house.door.hold(open=True, for_s=60.0, who="somebody")
    ear.say(f"{BASE}/lock/set", "LOCK")
    until(lambda: house.latch.state is LOCKED)


def test_nobody_is_told_that_a_jammed_door_is_locked(open_bridge, house, ear):
    open_bridge()
    state(ear, lock="LOCKED")
    house.door.fault(Cause.JAMMED, "the bolt is out")
    state(ear, lock="JAMMED")
    ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, answer="it was told to lock, but jammed: the bolt is out")


def test_a_time_beyond_all_numbers_does_not_shake_off_the_broker(open_bridge, house, ear, caplog):
    bridge = open_bridge()
    state(ear, lock="LOCKED")
    ear.say(f"{BASE}/lock/set", f'{{"value": "UNLOCK", "code": "{CODE}", "at": 1{"0" * 500}}}')
    until(lambda: "MQTT: lock/set is not obeyed" in caplog.text)
    assert bridge.is_up
    assert "no MQTT" not in caplog.text


def test_a_crowd_that_locks_moves_no_latch_that_is_locked(open_bridge, house, ear):
    moves = []
    house.latch.lock = lambda: moves.append("lock")
    open_bridge()
    state(ear, lock="LOCKED")
    for _ in range(20):
        ear.say(f"{BASE}/lock/set", "LOCK")
    state(ear, answer="it is locked")
    assert not moves


def test_it_ends_with_all_its_threads(open_bridge, house):
    bridge = open_bridge()
    bridge.close()
    bridge.close()
    assert not any(thread.is_alive() for thread in [*bridge._threads, bridge._link._thread])


def test_an_open_line_is_warned_of(house, caplog):
    with Bridge(MqttOptions(host="broker.invalid"), house.panel):
        assert "not encrypted" in caplog.text


def test_the_rights_in_the_docs_are_enough_and_no_more(house, tmp_path, caplog, monkeypatch):
    """Mosquitto with the `acl_file` of docs/home-assistant.md: the door works, and another user of the broker is kept out."""
    monkeypatch.delenv("PAWLATCH_MQTT_CODE", raising=False)
    page = (Path(__file__).resolve().parents[2] / "docs" / "home-assistant.md").read_text(encoding="utf-8")
    (rights,) = re.findall(r"```\n(user homeassistant\n.*?)```", page, re.DOTALL)
    (tmp_path / "acl").write_text(rights)
    (tmp_path / "users").touch(mode=0o600)
    for name in ("pawlatch", "homeassistant", "guest"):
        subprocess.run(["mosquitto_passwd", "-b", tmp_path / "users", name, "secret"], check=True)
    broker = Broker(tmp_path, "allow_anonymous false", f"password_file {tmp_path / 'users'}", f"acl_file {tmp_path / 'acl'}")
    home, guest = (Ear(broker.port, prepare=lambda client, name=name: client.username_pw_set(name, "secret"))
                   for name in ("homeassistant", "guest"))
    options = MqttOptions(host="127.0.0.1", port=broker.port, username="pawlatch", password="secret")
    try:
        with Bridge(options, house.panel):
            state(home, lock="LOCKED")
            assert home.until(DISCOVERY)
            guest.say(f"{BASE}/keep_locked/set", "ON")
            home.say("homeassistant/status", "online")
            until(lambda: len(home.of(DISCOVERY)) == 2)
            assert not house.door.held
            home.say(f"{BASE}/keep_locked/set", "ON")
            state(home, keep_locked="ON")
        assert not guest.heard
        assert "does not let this door listen" not in caplog.text
    finally:
        home.close()
        guest.close()
        broker.kill()
