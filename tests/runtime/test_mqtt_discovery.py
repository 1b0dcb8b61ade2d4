"""What Home Assistant is told, as data; and that the examples speak of the entities that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest

from pawlatch.door import Cause, DoorState
from pawlatch.mqtt.commands import COMMAND_TOPICS
from pawlatch.mqtt.discovery import Features, as_bytes, discovery, discovery_topic, state, update, visit
from pawlatch.mqtt.options import MqttOptions
from pawlatch.panel import Held, Panel, View

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = Features(("off", "observe", "armed"), True, True, True, True, True)


def entity_ids(options: MqttOptions) -> set[str]:
    """As Home Assistant makes them: the platform, and the names of device and entity in small letters."""
    return {
        f"{component['platform']}.{re.sub('[^a-z0-9]+', '_', ' '.join(filter(None, [options.name, component['name']])).lower())}"
        for component in discovery(options, EVERYTHING)["cmps"].values()
    }


@pytest.mark.parametrize("page", ["examples/home-assistant/card.yaml", "examples/home-assistant/automation.yaml", "docs/home-assistant.md"])
def test_every_entity_that_is_named_exists(page):
    named = set(re.findall(r"\b(?:lock|image|event|sensor|binary_sensor|select|switch|button|update)\.pawlatch\w*",
                           (ROOT / page).read_text(encoding="utf-8")))
    assert named
    assert named <= entity_ids(MqttOptions())
    if page.startswith("docs"):
        assert named == entity_ids(MqttOptions())


@pytest.mark.parametrize("name", ["card", "automation"])
def test_the_examples_are_yaml(name):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    found = yaml.safe_load((ROOT / f"examples/home-assistant/{name}.yaml").read_text(encoding="utf-8"))
    assert found["type"] == "vertical-stack" if name == "card" else all({"alias", "triggers", "actions"} == set(each) for each in found)


def test_topics_that_are_told_are_those_that_are_heard_and_said():
    components = discovery(MqttOptions(), EVERYTHING)["cmps"].values()
    said = {value for component in components for key, value in component.items() if key == "command_topic"}
    assert said == {f"pawlatch/pawlatch/{name}" for name in COMMAND_TOPICS}


def test_two_doors_share_nothing():
    one, other = (discovery(MqttOptions(id=name), EVERYTHING) for name in ("front", "back"))
    assert discovery_topic(MqttOptions(id="front")) == "homeassistant/device/front/config"
    assert not {each["unique_id"] for each in one["cmps"].values()} & {each["unique_id"] for each in other["cmps"].values()}
    assert one["dev"]["identifiers"] != other["dev"]["identifiers"]
    assert "/back/" not in json.dumps(one)


def test_no_secret_is_told():
    options = MqttOptions(username="me", password="hunter2", code_file=Path("/secret"))
    told = json.dumps(discovery(options, EVERYTHING))
    assert not any(secret in told for secret in ("hunter2", "/secret", '"me"'))


def test_what_is_not_there_is_not_shown():
    few = discovery(MqttOptions(pictures=False), Features(("off",), False, False, False, False, False))["cmps"]
    assert not few.keys() & {"picture", "snapshot", "take", "power", "temperature", "update"}
    assert "code_format" not in few["lock"]
    assert discovery(MqttOptions(), EVERYTHING)["cmps"]["lock"]["code_format"].startswith(r"^\d")


@pytest.mark.parametrize(("view", "lock"), [
    (View(), "LOCKED"), (View(DoorState.UNLOCKED, is_unlocked=True), "UNLOCKED"), (View(DoorState.UNLOCKED, observes=True), "LOCKED"),
    (View(is_unlocked=True, faults=MappingProxyType({Cause.LATCH: "no answer"})), "JAMMED"),
    (View(faults=MappingProxyType({Cause.CAMERA: "black"})), "LOCKED"),
])
def test_the_locks_state(view, lock):
    assert state(view, board=None, answer="")["lock"] == lock


def test_what_passes_each_second_changes_no_state():
    """Else a broker would hear from the door all day."""
    held = [state(View(held=Held(False, for_s, "x")), board=None, answer="") for for_s in (10.0, 9.0)]
    assert held[0] == held[1]
    assert held[0]["keep_locked"] == "ON"
    warm = [state(View(), board=SimpleNamespace(temperature_c=celsius, undervoltage=None), answer="") for celsius in (48.1, 48.4)]
    assert warm[0] == warm[1]
    assert "power" not in warm[0], "a board that does not tell is not well"
    assert [state(View(), board=SimpleNamespace(temperature_c=None, undervoltage=low), answer="")["power"]
            for low in (False, True)] == ["OFF", "ON"]


def test_a_long_reason_is_cut_to_what_a_state_may_have(stay):
    panel = Panel()
    panel.visited(stay(0.0, other=0.9), event=3, armed=True)
    told = visit(panel.visits[0])
    assert (told["event_type"], told["who"], told["event"]) == ("stayed_shut", "other", 3)
    assert len(state(View(), board=None, answer="x" * 1000)["answer"]) == 255


def test_a_model_that_was_refused_says_why():
    status = SimpleNamespace(installed="1", latest=None, summary="better", is_installing=True, refusal="it lets in a stranger")
    assert update(status) == {"installed_version": "1", "latest_version": "1", "in_progress": True,
                              "release_summary": "refused: it lets in a stranger"}


def test_no_text_breaks_a_payload():
    assert json.loads(as_bytes({"who": 'Bo "the cat"\n\ud800'}))["who"].startswith('Bo "the cat"\n')
