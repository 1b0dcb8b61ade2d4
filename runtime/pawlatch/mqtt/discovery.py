"""What Home Assistant is told of a door: one device with its entities, and the payloads of their topics. Pure.

Sources: Home Assistant's documentation of MQTT device discovery and of each platform, and its schemas (2025.4), which the
slow tests apply to what stands here. All topics are below `<topic>/<id>`:

    availability   online, offline (the last will)       state     JSON, retained: what is now
    visit          JSON, retained: the last visit        event     JSON, once for each visit
    picture        JPEG, retained, of the last visit     snapshot  JPEG, retained, of when it was asked for
    update         JSON, retained: the model             …/set     commands, see `pawlatch.mqtt.commands`
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pawlatch import __version__
from pawlatch.camera import CameraState
from pawlatch.mqtt.options import MqttOptions
from pawlatch.panel import SeenVisit, View
from pawlatch.rules import Mode

if TYPE_CHECKING:
    from pawlatch.board import Board
    from pawlatch.updates import UpdateStatus

ONLINE, OFFLINE = "online", "offline"
EVENTS = {"opened": "opened", "would open": "would_open", "stayed shut": "stayed_shut"}
LONGEST_STATE = 255  # characters that Home Assistant takes as a state
STAMPED = '{{ {"value": value, "at": now().timestamp()} | to_json }}'
STAMPED_WITH_CODE = '{{ {"value": value, "code": code, "at": now().timestamp()} | to_json }}'

Json = dict[str, Any]


@dataclass(frozen=True)
class Features:
    """What this door has, so that nothing is shown that it has not. Without a code nobody unlocks by MQTT."""

    modes: tuple[Mode, ...]
    has_code: bool
    is_code_digits: bool
    has_power: bool
    has_temperature: bool
    has_updates: bool


def discovery_topic(options: MqttOptions) -> str:
    """Where the message below belongs, retained."""
    return f"{options.discovery_prefix}/device/{options.id}/config"


def discovery(options: MqttOptions, features: Features) -> Json:
    """The device, whole."""
    base = options.base
    return {
        "dev": {"identifiers": [f"pawlatch_{options.id}"], "name": options.name, "manufacturer": "pawlatch",
                "model": "Door for one animal", "sw_version": __version__},
        "o": {"name": "pawlatch", "sw_version": __version__},
        "availability": [{"topic": f"{base}/availability"}],
        "state_topic": f"{base}/state",
        "cmps": {key: {"unique_id": f"pawlatch_{options.id}_{key}", **component}
                 for key, component in _components(options, features).items()},
    }


def _components(options: MqttOptions, features: Features) -> dict[str, Json]:
    base = options.base
    found = {
        "lock": _lock(base, features),
        "animal": {"platform": "binary_sensor", "name": "Animal", "device_class": "occupancy", "icon": "mdi:paw",
                   "value_template": "{{ value_json.animal }}"},
        "visit": {"platform": "event", "name": "Visit", "icon": "mdi:paw", "event_types": list(EVENTS.values()),
                  "state_topic": f"{base}/event"},
        "who": {"platform": "sensor", "name": "Who", "icon": "mdi:account-question", "state_topic": f"{base}/visit",
                "value_template": "{{ value_json.who }}", "json_attributes_topic": f"{base}/visit"},
        "score": {"platform": "sensor", "name": "Score", "icon": "mdi:percent", "unit_of_measurement": "%",
                  "suggested_display_precision": 0, "state_topic": f"{base}/visit",
                  "value_template": "{{ (value_json.score * 100) | round(1) }}"},
        "reason": {"platform": "sensor", "name": "Reason", "icon": "mdi:comment-question", "state_topic": f"{base}/visit",
                   "value_template": "{{ value_json.reason }}"},
        "mode": {"platform": "select", "name": "Mode", "icon": "mdi:door", "entity_category": "config",
                 "options": list(features.modes), "value_template": "{{ value_json.mode }}",
                 "command_topic": f"{base}/mode/set", "command_template": STAMPED},
        "keep_locked": {"platform": "switch", "name": "Keep locked", "icon": "mdi:lock-clock", "device_class": "switch",
                        "value_template": "{{ value_json.keep_locked }}",
                        "command_topic": f"{base}/keep_locked/set", "command_template": STAMPED},
        "state": {"platform": "sensor", "name": "State", "icon": "mdi:state-machine", "entity_category": "diagnostic",
                  "value_template": "{{ value_json.state }}", "json_attributes_topic": f"{base}/state",
                  "json_attributes_template": "{{ {'faults': value_json.faults, 'model': value_json.model} | to_json }}"},
        "answer": {"platform": "sensor", "name": "Answer", "icon": "mdi:message-reply-text", "entity_category": "diagnostic",
                   "value_template": "{{ value_json.answer }}"},
        "camera": {"platform": "binary_sensor", "name": "Camera", "device_class": "problem", "entity_category": "diagnostic",
                   "value_template": "{{ value_json.camera }}"},
    }
    if options.pictures:
        found["picture"] = {"platform": "image", "name": "Last visit", "image_topic": f"{base}/picture",
                            "content_type": "image/jpeg"}
        found["snapshot"] = {"platform": "image", "name": "Snapshot", "image_topic": f"{base}/snapshot",
                             "content_type": "image/jpeg"}
        found["take"] = {"platform": "button", "name": "Take snapshot", "icon": "mdi:camera",
                         "command_topic": f"{base}/snapshot/set", "payload_press": "PRESS"}
    if features.has_power:
        found["power"] = {"platform": "binary_sensor", "name": "Power", "device_class": "problem",
                          "entity_category": "diagnostic", "value_template": "{{ value_json.power }}"}
    if features.has_temperature:
        found["temperature"] = {"platform": "sensor", "name": "Processor", "device_class": "temperature",
                                "state_class": "measurement", "unit_of_measurement": "°C", "entity_category": "diagnostic",
                                "value_template": "{{ value_json.temperature }}"}
    if features.has_updates:
        found["update"] = {"platform": "update", "name": "Model", "entity_category": "config", "title": "The door's model",
                           "state_topic": f"{base}/update", "command_topic": f"{base}/update/set",
                           "payload_install": "INSTALL"}
    return found


def _lock(base: str, features: Features) -> Json:
    """A lock without a state may be shown as unlocked: so this one is available only once its state is there."""
    lock = {
        "platform": "lock", "name": None, "value_template": "{{ value_json.lock }}",
        "command_topic": f"{base}/lock/set", "command_template": STAMPED_WITH_CODE, "optimistic": False, "retain": False,
        "availability_mode": "all",
        "availability": [
            {"topic": f"{base}/availability"},
            {"topic": f"{base}/state", "value_template": "{{ 'online' if value_json.lock is defined else 'offline' }}"},
        ],
    }
    if features.has_code:
        lock["code_format"] = r"^\d{6,64}$" if features.is_code_digits else r"^\S{6,64}$"
    return lock


def state(view: View, *, board: Board | None, answer: str) -> Json:
    """What is now. Of a latch that only observes it says LOCKED, whatever the door goes through."""
    found: Json = {
        "lock": "JAMMED" if view.is_jammed else "UNLOCKED" if view.is_unlocked else "LOCKED",
        "state": view.state.value,
        "faults": [f"{cause.value}: {detail}" for cause, detail in view.faults.items()],
        "animal": _on(view.visitor is not None),
        "camera": _on(view.camera is not CameraState.OK),
        "mode": view.mode,
        "keep_locked": _on(view.held is not None and not view.held.is_open),
        "model": f"{view.model}, {view.variant}",
        "answer": answer[:LONGEST_STATE],
    }
    if board is not None:
        if board.undervoltage is not None:
            found["power"] = _on(board.undervoltage)
        if board.temperature_c is not None:
            found["temperature"] = round(board.temperature_c)  # a degree: tenths would be news each second
    return found


def visit(seen: SeenVisit) -> Json:
    """A visit that is over."""
    return {
        "event_type": EVENTS[seen.door], "who": seen.visit.label, "score": round(seen.visit.score, 3),
        "reason": seen.visit.reason[:LONGEST_STATE], "frames": seen.visit.frames, "event": seen.event,
        "ended": seen.ended.isoformat(timespec="seconds"),
    }


def update(status: UpdateStatus) -> Json:
    """What is installed, and what could be. A refusal goes before the summary: it is what the owner has to know."""
    latest = status.latest or status.installed
    summary = f"refused: {status.refusal}" if status.refusal else status.summary
    return {"installed_version": status.installed, "latest_version": latest, "in_progress": status.is_installing,
            "release_summary": (summary or "")[:LONGEST_STATE]}


def as_bytes(message: Json) -> bytes:
    """A JSON payload."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _on(value: bool) -> str:
    return "ON" if value else "OFF"
