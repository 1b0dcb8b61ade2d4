"""What the comparison of a device with the desktop lets through, and each thing that must turn it red."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from tests.device.compare import TOLERANCE, compare

SCORES = {"own/1.jpg": [0.9, 0.1], "other/1.jpg": [0.25, 0.75]}


def found() -> dict[str, Any]:
    """A probe's JSON: two photos, `int8` and `float32`, one clip with one visit."""
    photos = {name: {"scores": scores, "label": name.split("/")[0], "opens": name == "own/1.jpg"} for name, scores in SCORES.items()}
    visits = {"day.mp4": [{"label": "own", "score": 0.9, "unlocked": True, "start_s": 1.0}]}
    variant = {"photos": photos, "evaluate": {"accuracy": 1.0}, "visits": visits}
    probe = {"place": {}, "decoded": {"own/1.jpg": "d0"}, "fitted": {"own/1.jpg": "f0", "other/1.jpg": "f1"}, "frames": {"day.mp4": "c0"},
             "gate": {"day.mp4": "g0"}, "models": {"tiny": {"int8": variant, "float32": copy.deepcopy(variant)}}, "xnnpack": True}
    return dict(json.loads(json.dumps(probe)))


def at(probe: dict[str, Any], *path: Any) -> Any:
    for key in path:
        probe = probe[key]
    return probe


def changed(*path: Any, to: Any) -> dict[str, Any]:
    device = found()
    at(device, *path[:-1])[path[-1]] = to
    return device


def without(*path: Any) -> dict[str, Any]:
    device = found()
    del at(device, *path[:-1])[path[-1]]
    return device


def test_the_same_is_equal_and_everything_was_compared():
    outcome = compare(found(), found())
    assert outcome.ok
    rows = {row.what: row for row in outcome.rows}
    assert set(rows) == {"decoded", "fitted", "frames", "gate", *(f"tiny {variant}: {what}" for variant in ("int8", "float32")
                                                                   for what in ("scores", "evaluate, replay"))}
    assert all(row.equal == row.n > 0 and not row.max_delta and not row.otherwise for row in rows.values())


@pytest.mark.parametrize(("device", "says"), [
    (changed("fitted", "own/1.jpg", to="one pixel flipped"), "fitted: own/1.jpg differs"),
    (changed("decoded", "own/1.jpg", to="other"), "decoded: own/1.jpg differs"),
    (changed("gate", "day.mp4", to="other"), "gate: day.mp4 differs"),
    (changed("models", "tiny", "int8", "photos", "own/1.jpg", "scores", to=[0.9 + 1e-9, 0.1]), "scores that differ by up to 1e-09; 0 may be"),
    (changed("models", "tiny", "int8", "photos", "own/1.jpg", "label", to="other"), "is ('own', True) on the desktop, ('other', True)"),
    (changed("models", "tiny", "int8", "photos", "own/1.jpg", "opens", to=False), "('own', False) on the device"),
    (changed("models", "tiny", "float32", "photos", "own/1.jpg", "opens", to=False), "('own', False) on the device"),
    (changed("models", "tiny", "float32", "photos", "own/1.jpg", "scores", to=[0.9 + 2 * TOLERANCE, 0.1]), "up to 0.002; 0.001 may be"),
    (changed("models", "tiny", "float32", "photos", "own/1.jpg", "scores", to=[float("nan"), 0.1]), "up to inf; 0.001 may be"),
    (changed("models", "tiny", "float32", "photos", "own/1.jpg", "scores", to=[0.9, float("nan")]), "up to inf; 0.001 may be"),
    (changed("models", "tiny", "int8", "photos", "own/1.jpg", "scores", to=[1.0]), "has 1 scores on the device, 2"),
    (changed("models", "tiny", "int8", "evaluate", to={"accuracy": 0.5}), "tiny int8: evaluate differs"),
    (changed("models", "tiny", "int8", "visits", "day.mp4", 0, "label", to="other"), "tiny int8: replay of day.mp4 differs"),
    (changed("models", "tiny", "float32", "visits", "day.mp4", 0, "unlocked", to=False), "tiny float32: replay of day.mp4 differs"),
    (changed("models", "tiny", "float32", to={"refused": "too old"}), "tiny float32: refused by the device"),
    (changed("xnnpack", to=False), "XNNPACK"),
    (without("frames", "day.mp4"), "frames: day.mp4 is only on the desktop"),
    (without("fitted", "other/1.jpg"), "fitted: other/1.jpg is only on the desktop"),
    (without("models", "tiny", "int8", "photos", "other/1.jpg"), "tiny int8: other/1.jpg is only on the desktop"),
    (without("models", "tiny", "int8", "visits", "day.mp4"), "replay of day.mp4 is only on the desktop"),
    (without("models", "tiny", "float32"), "tiny: float32 is only on the desktop"),
    (without("models", "tiny"), "models: tiny is only on the desktop"),
])
def test_what_differs_is_red(device, says):
    (problem,) = compare(found(), device).problems
    assert says in problem


def test_a_photo_that_only_the_device_has_is_red():
    assert compare(without("fitted", "other/1.jpg"), found()).problems == ("fitted: other/1.jpg is only on the device",)


@pytest.mark.parametrize("what", ["decoded", "fitted", "frames", "gate", "models"])
def test_nothing_compared_is_red(what):
    assert compare(changed(what, to={}), changed(what, to={})).problems == (f"{what}: nothing was compared",)


def test_a_clip_is_decoded_otherwise_and_decided_alike():
    device = changed("frames", "day.mp4", to="other")
    device["gate"]["day.mp4"] = "other"
    at(device, "models", "tiny", "int8", "visits", "day.mp4", 0)["score"] = 0.8
    outcome = compare(found(), device)
    assert outcome.ok
    assert {row.what for row in outcome.rows if row.equal < row.n} == {"frames", "gate", "tiny int8: evaluate, replay"}


def test_floats_may_differ_a_little():
    near = [score + TOLERANCE / 2 for score in SCORES["own/1.jpg"]]
    assert compare(found(), changed("models", "tiny", "float32", "photos", "own/1.jpg", "scores", to=near)).ok


def test_what_both_runtimes_refuse_is_told_and_is_red_for_int8_alone():
    old = changed("models", "tiny", "float32", to={"refused": "too old"})
    outcome = compare(old, old)
    assert outcome.ok
    assert "tiny float32: refused" in {row.what for row in outcome.rows}
    old["models"]["tiny"]["int8"] = {"refused": "too old"}
    assert compare(old, old).problems == ("tiny int8: refused by the desktop and the device",)
