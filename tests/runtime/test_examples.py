"""The examples that need no training run as they stand; each file in `examples/` has a test that runs or reads it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

import pawlatch
from pawlatch.camera import open_clip
from pawlatch.config import read_config
from pawlatch.image import read_image
from pawlatch.rules import Rules, check_labels

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CATS = ("bo", "luna", "milo", "nala", "oskar")

TESTED_BY = {  # file: test, in the file that holds it
    "door.toml": "runtime/test_config.py::test_the_example_loads",
    "own_loop.py": "runtime/test_examples.py::test_a_loop_of_ones_own_opens",
    "overlay_window_free.py": "runtime/test_examples.py::test_the_overlay_is_a_clip_and_a_picture_of_the_unlock",
    "cat-flap/README.md": "pipeline/test_examples.py::test_five_cats_and_their_rules",
    "cat-flap/door.toml": "runtime/test_examples.py::test_the_rules_of_the_cat_flap_hold",
    "cat-flap/draw.py": "pipeline/test_examples.py::test_five_cats_and_their_rules",
    "doggy-door/README.md": "pipeline/test_examples.py::test_the_dog_door_is_rehearsed",
    "doggy-door/door.toml": "runtime/test_examples.py::test_the_settings_of_the_dog_door_are_a_real_latch_that_observes",
    "flowers/README.md": "pipeline/test_examples.py::test_drawn_flowers_are_told_apart",
    "flowers/draw.py": "pipeline/test_examples.py::test_drawn_flowers_are_told_apart",
    "home-assistant/automation.yaml": "runtime/test_mqtt_home_assistant.py::test_the_automations_that_are_shown_are_some",
    "home-assistant/card.yaml": "runtime/test_mqtt_discovery.py::test_every_entity_that_is_named_exists",
}


def run(example: str, *arguments: object, folder: Path) -> str:
    told = subprocess.run([sys.executable, EXAMPLES / example, *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, cwd=folder, env=dict(os.environ))
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_each_example_is_run_or_read_by_a_test():
    assert files_below(EXAMPLES) == set(TESTED_BY)


@pytest.mark.parametrize("where", sorted(set(TESTED_BY.values())))
def test_the_test_of_each_example_exists(where):
    file, _, test = where.partition("::")
    assert f"def {test}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


def test_a_loop_of_ones_own_opens(tiny_bundle, draw_clip, tmp_path):
    told = run("own_loop.py", tiny_bundle, draw_clip("visit", [(1, None), (2, "own"), (1, "other")]), folder=tmp_path)
    opened, latch = told.splitlines()
    assert opened.startswith("come in, own: evidence ")
    assert latch.startswith("the latch: locked at ")
    assert latch.count("unlocked") == 1
    assert latch.rindex(", locked") > latch.index("unlocked")


def test_a_loop_of_ones_own_stays_shut_for_a_stranger(tiny_bundle, draw_clip, tmp_path):
    told = run("own_loop.py", tiny_bundle, draw_clip("visit", [(1, None), (2, "other")]), folder=tmp_path)
    assert "come in" not in told
    assert "unlocked" not in told


def lines_of_code(source: str) -> int:
    """Lines that hold code, without the docstring and imports."""
    body = [node for node in ast.parse(source).body
            if not isinstance(node, ast.Import | ast.ImportFrom) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    held = {number for node in body for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    return sum(1 for number, line in enumerate(source.splitlines(), 1) if number in held and line.strip() and not line.strip().startswith("#"))


def test_a_loop_of_ones_own_takes_ten_lines():
    source = (EXAMPLES / "own_loop.py").read_text(encoding="utf-8")
    assert lines_of_code(source) <= 10
    assert lines_of_code(source + "x = [\n  1,\n]\n") == lines_of_code(source) + 3


def test_what_a_loop_needs_can_be_had_by_name_and_costs_nothing_before():
    for name in pawlatch.__all__:
        assert getattr(pawlatch, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Dor'"):
        _ = pawlatch.Dor
    light = subprocess.run([sys.executable, "-c", "import sys, pawlatch; print('numpy' in sys.modules, 'cv2' in sys.modules)"],
                           capture_output=True, text=True, timeout=60, check=True)
    assert light.stdout.strip() == "False False"


def test_the_overlay_is_a_clip_and_a_picture_of_the_unlock(tiny_bundle, draw_clip, tmp_path):
    clip = draw_clip("visit", [(1, None), (2, "own")])
    told = run("overlay_window_free.py", tiny_bundle, clip, tmp_path / "out", folder=tmp_path)
    assert told.startswith("own 1.00: evidence ")
    pictures = sorted((tmp_path / "out").glob("*.jpg"))
    assert len(pictures) == 1
    seen = list(open_clip(tmp_path / "out" / "seen.webm").frames)
    assert 25 <= len(seen) <= 33
    picture, plain = read_image(pictures[0]), next(open_clip(clip).frames).image_bgr
    red, green, blue = picture[5, 100].astype(int)  # the band of an open door is green, the porch is grey
    assert green > max(red, blue) + 30
    assert abs(int(plain[5, 100, 1]) - int(plain[5, 100, 2])) < 10


NOON, NIGHT = datetime(2026, 6, 1, 12), datetime(2026, 6, 1, 23)


@pytest.mark.parametrize(("cat", "at_noon", "at_night"), [
    ("bo", None, None),
    ("luna", None, "luna may not pass at Mon 23:00"),
    ("milo", None, None),
    ("nala", "nala may only go out, and this camera sees who goes in", "nala may only go out, and this camera sees who goes in"),
    ("oskar", "oskar may never pass", "oskar may never pass"),
])
def test_the_rules_of_the_cat_flap_hold(cat, at_noon, at_night):
    config = read_config(EXAMPLES / "cat-flap" / "door.toml")
    check_labels(config.door.labels, (*CATS, "_other", "_empty"))
    assert set(config.door.labels) == set(CATS)
    rules = Rules(config.door)
    assert rules.refusal(cat, lambda: NOON) == at_noon
    assert rules.refusal(cat, lambda: NIGHT) == at_night


def test_the_settings_of_the_dog_door_are_a_real_latch_that_observes(tmp_path):
    path = EXAMPLES / "doggy-door" / "door.toml"
    config = read_config(path)
    assert (config.latch.kind, config.latch.pin, config.door.mode, config.camera.uri) == ("gpio", 17, "observe", "picamera")
    assert config.door.unlock_s <= config.door.powered_s_per_minute == 15
    wired = tmp_path / "door.toml"
    wired.write_text(path.read_text(encoding="utf-8").replace("\n#", "\n"), encoding="utf-8")
    sensors = read_config(wired).door.sensors
    assert len({config.latch.pin, sensors.reed_pin, sensors.passage_pin, None}) == 4
