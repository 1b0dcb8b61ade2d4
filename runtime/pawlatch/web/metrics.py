"""The panel in Prometheus' text format, version 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pawlatch import __version__
from pawlatch.frame import CameraState
from pawlatch.panel import Panel
from pawlatch.rules import MODES
from pawlatch.states import DoorState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_VISITS_OF = "visits of "


def metrics(panel: Panel, *, free_bytes: int | None) -> str:
    """Everything that is known; what is not known has no line."""
    return "".join(_lines(panel, free_bytes))


def _lines(panel: Panel, free_bytes: int | None) -> Iterator[str]:
    view, counts = panel.view, panel.counts.copy()
    board = None if panel.board is None else panel.board()
    yield from _metric("build_info", "gauge", "The program and the model that decides.",
                       ({"version": __version__, "model": view.model, "variant": view.variant, "sha256": view.sha256}, 1))
    yield from _metric("door_state", "gauge", "1 for the state that the door is in.",
                       *(({"state": each.value}, each is view.state) for each in DoorState))
    yield from _metric("door_mode", "gauge", "1 for the mode that holds.",
                       *(({"mode": each}, each == view.mode) for each in MODES))
    yield from _metric("door_unlocked", "gauge", "Whether an animal can pass.", ({}, view.is_unlocked))
    yield from _metric("door_jammed", "gauge", "Whether the latch does not obey.", ({}, view.is_jammed))
    yield from _metric("door_held", "gauge", "Whether a person holds the door.", ({}, view.held is not None))
    yield from _metric("faults", "gauge", "Faults that keep the door locked.", ({}, len(view.faults)))
    yield from _metric("fault", "gauge", "1 for each fault there is.", *(({"fault": each.value}, 1) for each in view.faults))
    yield from _metric("camera_ok", "gauge", "Whether the camera can be believed.", ({}, view.camera is CameraState.OK))
    yield from _metric("silent_seconds", "gauge", "How long the door's loop has said nothing.", ({}, round(panel.silent_s, 3)))
    for name, key, told in (
        ("frames", "frames", "Frames that came from the camera."), ("unlocks", "unlocks", "Times that the door was unlocked."),
        ("state_changes", "moves", "Changes of the door's state."), ("requests", "requests", "Wishes of people."),
        ("requests_refused", "requests refused", "Wishes of people that were not carried out."),
    ):
        yield from _metric(f"{name}_total", "counter", told, ({}, counts[key]))
    yield from _metric("visits_total", "counter", "Visits that are over, by what the animal was taken for.",
                       *(({"label": key.removeprefix(_VISITS_OF)}, count)
                         for key, count in sorted(counts.items()) if key.startswith(_VISITS_OF)))
    yield "# HELP pawlatch_inference_seconds What the model took for the frames that it saw.\n"
    yield "# TYPE pawlatch_inference_seconds summary\n"
    yield f"pawlatch_inference_seconds_sum {panel.inference_s:.6f}\npawlatch_inference_seconds_count {counts['classified']}\n"
    yield from _metric("start_time_seconds", "gauge", "When the door started, in Unix time.", ({}, panel.started.timestamp()))
    if free_bytes is not None:
        yield from _metric("disk_free_bytes", "gauge", "Room on the journal's disk.", ({}, free_bytes))
    if board is not None and board.temperature_c is not None:
        yield from _metric("temperature_celsius", "gauge", "The processor's temperature.", ({}, board.temperature_c))
    if board is not None and board.undervoltage is not None:
        yield from _metric("undervoltage", "gauge", "Whether the board's supply is too weak now.", ({}, board.undervoltage))


def _metric(name: str, kind: str, told: str, *samples: tuple[Mapping[str, str], float]) -> Iterator[str]:
    yield f"# HELP pawlatch_{name} {told}\n# TYPE pawlatch_{name} {kind}\n"
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        yield f"pawlatch_{name}{f'{{{inner}}}' if inner else ''} {float(value):.15g}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
