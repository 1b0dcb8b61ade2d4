"""What the door publishes, before the real Home Assistant: its schemas, and its core connected to the same mosquitto.

It lives in an environment of its own, made once (600 MB): Home Assistant pins what it needs, and 2025.4 wants Python 3.13.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("paho.mqtt.client", reason="needs the mqtt extra")

from pawlatch.latch import LOCKED, UNLOCKED
from pawlatch.mqtt.discovery import Features, discovery
from pawlatch.mqtt.options import MqttOptions

from .broker import Ear, free_port, needs_mosquitto, until
from .test_mqtt_bridge import BASE, CODE, Weather, house, open_bridge  # noqa: F401  fixtures

pytestmark = pytest.mark.slow

VERSION = "2025.4.4"
START_S = 120.0
HERE = Path(__file__).parent
EVERYTHING = Features(("off", "observe", "armed"), True, True, True, True, True)


def _python_313() -> str | None:
    candidates = [shutil.which("python3.13"), *sorted(Path.home().glob(".pyenv/versions/3.13.*/bin/python"))]
    for candidate in filter(None, candidates):
        if subprocess.run([candidate, "-c", "import venv"], capture_output=True).returncode == 0:
            return candidate
    return None


@pytest.fixture(scope="session")
def ha_python():
    """A Python that has Home Assistant."""
    cache = Path(os.environ.get("PAWLATCH_DEVICE_CACHE", Path.home() / ".cache" / "pawlatch-tests"))
    folder = cache / f"homeassistant-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "homeassistant.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "whole").exists():
            base = _python_313()
            if base is None:
                pytest.skip("needs Python 3.13, for which the index has a Home Assistant that knows device-based discovery")
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([base, "-m", "venv", folder], check=True)
            made = subprocess.run([folder / "bin" / "pip", "install", "-q", f"homeassistant=={VERSION}", "paho-mqtt==2.1.0"],
                                  capture_output=True, text=True)
            if made.returncode != 0:
                pytest.skip(f"Home Assistant cannot be installed here: {made.stderr[-300:]}")
            (folder / "whole").touch()
    return folder / "bin" / "python"


class Talk:
    """A program that answers each line of JSON with one."""

    def __init__(self, *command: object, folder: Path) -> None:
        self.log = folder / "log"
        self._process = subprocess.Popen(list(map(str, command)), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=self.log.open("w"), cwd=folder,
                                         env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"})
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def hear(self) -> object:
        line = self._lines.get(timeout=START_S)
        assert line is not None, self.log.read_text()
        return json.loads(line)

    def ask(self, command: object) -> object:
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture(scope="session")
def judge(ha_python, tmp_path_factory):
    """`judge(message)`: what its schemas say of each component."""
    talk = Talk(ha_python, HERE / "ha_schemas.py", folder=tmp_path_factory.mktemp("schemas"))
    yield talk.ask
    talk.close()


@pytest.mark.parametrize("features", [EVERYTHING, Features(("off",), False, False, False, False, False),
                                      Features(("off", "observe"), True, False, True, False, False)])
@pytest.mark.parametrize("options", [MqttOptions(), MqttOptions(id="back_door", name="Hintertür", topic="haus/tür", pictures=False)])
def test_its_schemas_take_every_component_and_know_every_key(judge, options, features):
    verdict = judge(discovery(options, features))
    assert verdict.pop("") == f"Home Assistant {VERSION}"
    assert set(verdict.values()) == {"ok"}, verdict
    assert set(verdict) == set(discovery(options, features)["cmps"])


@pytest.mark.parametrize(("component", "key", "value", "told"), [
    ("lock", "code_formt", "x", "unknown: code_formt"), ("lock", "command_topic", "a/#", "command_topic"),
    ("animal", "device_class", "dog", "device_class"), ("mode", "options", None, "options"), ("visit", "event_types", None, "event_types"),
    ("who", "value_template", "{{ value_json.", "value_template"), ("picture", "image_topic", None, "image_topic"),
])
def test_a_wrong_one_is_told(judge, component, key, value, told):
    message = discovery(MqttOptions(), EVERYTHING)
    if value is None:
        del message["cmps"][component][key]
    else:
        message["cmps"][component][key] = value
    verdict = judge(message)
    assert told in verdict.pop(component)
    assert all(each == "ok" or each.startswith("Home Assistant") for each in verdict.values())


def test_a_message_that_is_no_device_is_told(judge):
    message = discovery(MqttOptions(), EVERYTHING)
    del message["o"]
    assert "origin" in judge(message)["device"]


class HomeAssistant:
    """Its core as a process."""

    def __init__(self, python: Path, folder: Path, port: int) -> None:
        self._talk = Talk(python, HERE / "ha_core.py", folder, port, free_port(), folder=folder)
        assert self._talk.hear() == "ConfigEntryState.LOADED", self.log

    @property
    def log(self) -> str:
        return self._talk.log.read_text()

    @property
    def states(self) -> dict[str, list]:
        return self._talk.ask({"states": None})

    def call(self, domain: str, service: str, **data: object) -> str | None:
        return self._talk.ask({"call": [domain, service, data]})

    def check(self, automation: dict) -> str | None:
        return self._talk.ask({"automation": automation})

    def until(self, entity: str, state: str) -> dict:
        """Wait for a state; its attributes."""
        until(lambda: self.states.get(entity, [None])[0] == state, lambda: f"{entity}: {self.states.get(entity)}")
        return self.states[entity][1]

    def close(self) -> None:
        self._talk.close()


@pytest.fixture
def home(ha_python, broker, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    it = HomeAssistant(ha_python, folder, broker.port)
    yield it
    it.close()


@needs_mosquitto
def test_a_door_appears_in_home_assistant_and_is_worked_from_there(home, open_bridge, house, stay):  # noqa: F811
    installed: list[str] = []
    house.panel.board = lambda: Weather(48.0, False)
    house.panel.updater = SimpleNamespace(install=installed.append, status=SimpleNamespace(
        installed="3f2a", latest="9c1b", summary="knows the winter coat", is_installing=False, refusal=None))
    bridge = open_bridge()
    lock = home.until("lock.pawlatch", "locked")
    assert lock["code_format"] == r"^\d{6,64}$"
    home.until("select.pawlatch_mode", "armed")
    home.until("binary_sensor.pawlatch_animal", "off")
    home.until("binary_sensor.pawlatch_power", "off")
    home.until("sensor.pawlatch_processor", "48")
    home.until("event.pawlatch_visit", "unknown")

    assert "ServiceValidationError" in home.call("lock", "unlock", entity_id="lock.pawlatch", code="1")  # no code at all
    assert home.call("lock", "unlock", entity_id="lock.pawlatch", code="314159") is None
    home.until("sensor.pawlatch_answer", "the code is wrong, for the 1. time")
    assert home.call("lock", "unlock", entity_id="lock.pawlatch", code=CODE) is None
    home.until("lock.pawlatch", "unlocked")
    assert home.call("lock", "lock", entity_id="lock.pawlatch", code=CODE) is None
    home.until("lock.pawlatch", "locked")
    house.latch.assert_states([LOCKED, UNLOCKED, LOCKED])

    assert home.call("switch", "turn_on", entity_id="switch.pawlatch_keep_locked") is None
    home.until("switch.pawlatch_keep_locked", "on")
    assert home.call("switch", "turn_off", entity_id="switch.pawlatch_keep_locked") is None
    home.until("switch.pawlatch_keep_locked", "off")
    assert home.call("select", "select_option", entity_id="select.pawlatch_mode", option="observe") is None
    home.until("select.pawlatch_mode", "observe")

    house.panel.visited(stay(0.0, own=0.9, unlock_at=4), event=7, armed=False)
    home.until("sensor.pawlatch_who", "own")
    home.until("sensor.pawlatch_score", "90.0")
    assert home.states["event.pawlatch_visit"][1]["event_type"] == "would_open"
    until(lambda: home.states["image.pawlatch_last_visit"][0] != "unknown")

    house.panel.picture = lambda: np.full((48, 64, 3), 128, np.uint8)
    assert home.call("button", "press", entity_id="button.pawlatch_take_snapshot") is None
    until(lambda: home.states["image.pawlatch_snapshot"][0] != "unknown")
    assert home.states["update.pawlatch_model"][1]["release_summary"] == "knows the winter coat"
    home.until("update.pawlatch_model", "on")
    assert home.call("update", "install", entity_id="update.pawlatch_model") is None
    until(lambda: installed == ["MQTT"])

    bridge.close()
    home.until("lock.pawlatch", "unavailable")
    assert "rror" not in home.log


@needs_mosquitto
def test_a_door_without_a_code_is_locked_from_home_assistant_and_not_unlocked(home, open_bridge, house):  # noqa: F811
    """Its template is handed `None` for a code then."""
    open_bridge(code=None)
    home.until("lock.pawlatch", "locked")
    house.door.hold(open=True, for_s=60.0, who="somebody")
    home.until("lock.pawlatch", "unlocked")
    assert home.call("lock", "lock", entity_id="lock.pawlatch") is None
    home.until("lock.pawlatch", "locked")
    assert home.call("lock", "unlock", entity_id="lock.pawlatch") is None
    home.until("sensor.pawlatch_answer", "no code is set, so nobody unlocks by MQTT; see code_file below [mqtt]")
    house.latch.assert_states([LOCKED, UNLOCKED, LOCKED])


@needs_mosquitto
def test_home_assistant_never_shows_a_lock_as_unlocked_before_its_state_is_there(home, broker):
    """Discovered and online, and the state withheld: that is when it would."""
    ear = Ear(broker.port)
    message = discovery(MqttOptions(), EVERYTHING)
    ear.say("homeassistant/device/pawlatch/config", message, retain=True)
    ear.say(f"{BASE}/availability", "online", retain=True)
    home.until("lock.pawlatch", "unavailable")
    home.until("sensor.pawlatch_state", "unknown")  # this one is available
    assert home.states["lock.pawlatch"][0] == "unavailable"
    bare = discovery(MqttOptions(id="bare", name="Bare"), EVERYTHING)
    del bare["cmps"]["lock"]["availability"]  # without the guard it is shown, with nothing known
    ear.say("homeassistant/device/bare/config", bare, retain=True)
    ear.say("pawlatch/bare/availability", "online", retain=True)
    home.until("lock.bare", "unknown")
    ear.say(f"{BASE}/state", {"lock": "LOCKED", "state": "locked", "answer": ""}, retain=True)
    home.until("lock.pawlatch", "locked")
    ear.close()


@needs_mosquitto
def test_the_automations_that_are_shown_are_some(home):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    path = HERE.parents[1] / "examples" / "home-assistant" / "automation.yaml"
    for automation in yaml.safe_load(path.read_text(encoding="utf-8")):
        assert home.check(automation) is None
        assert home.check({**automation, "triggers": [{"trigger": "state"}]})  # of nothing
