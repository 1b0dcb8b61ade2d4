"""`pawlatch demo`: the main job, and what it shows a person."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from pawlatch.camera import open_clip
from pawlatch.card import read_card

pytestmark = pytest.mark.slow


def test_the_door_opens_for_the_own_dog_alone(demo):
    _, told = demo
    assert "the door opened for the own animal in 2 of 2 visits, for strangers in 0 of 3" in told.stdout
    table = [line for line in told.stdout.splitlines() if re.match(r" *\d+\.\d s  ", line)]
    assert sum("opened" in row for row in table) == 2
    assert len(table) >= 5


def test_it_shows_progress_the_parity_table_and_what_to_type_next(demo):
    _, told = demo
    for words in ("drawing", "fine-tuned 1 of", "int8 …", "the latch: locked at 0.0 s, unlocked at"):
        assert words in told.stderr
    for words in ("held-out photos", "verdict", "int8", "onnx_int8", "deployed: int8", "report.html", "train photos/"):
        assert words in told.stdout


def test_what_it_leaves_is_a_model_a_bundle_a_clip_and_a_page(demo):
    output, _ = demo
    card = read_card(output / "model" / "edge")
    assert card.unlock == ("biscuit",)
    assert {"float32", "float16", "int8_dynamic", "int8", "int16x8", "onnx_float32", "onnx_int8"} == set(card.files)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 7
    assert page.count("<article") >= 5
    assert 'src="visits.webm"' in page
    assert not re.search(r'(src|href)="https?://', page)
    assert (output / "photos" / "biscuit").is_dir()
    assert not list(output.rglob("*.part*"))


def test_the_annotated_clip_has_every_frame(demo):
    output, _ = demo
    clip = open_clip(output / "visits.webm")
    assert clip.fps == 10
    assert sum(1 for _ in clip.frames) == 440


def test_the_annotated_clip_plays_in_a_browser(demo, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    shutil.copy(demo[0] / "visits.webm", tmp_path)
    (tmp_path / "page.html").write_text(
        '<video muted src="visits.webm"></video><script>const v=document.querySelector("video");'
        'v.onerror=()=>document.title="error "+v.error.message;'
        'v.ontimeupdate=()=>{if(v.currentTime>0.3)document.title=`played ${v.videoWidth}x${v.videoHeight}`};v.play()</script>'
    )
    seen = subprocess.run(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}",
         "--autoplay-policy=no-user-gesture-required", "--timeout=20000", "--virtual-time-budget=15000", "--dump-dom",
         (tmp_path / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    )
    assert "played 640x480" in seen.stdout, seen.stdout + seen.stderr


def test_the_device_commands_agree_with_the_bundle(demo, command):
    output, _ = demo
    photo = next((output / "photos" / "biscuit").iterdir())
    for variant in ("int8", "float32", "onnx_int8"):
        told = command("pawlatch", "classify", output / "model" / "edge", photo, "--json", "--variant", variant)
        assert json.loads(told.stdout)["label"] == "biscuit"
    replayed = json.loads(command("pawlatch", "replay", output / "model", "scene:demo?seed=9", "--json").stdout)
    assert replayed["variant"] == "int8"
    (clip,) = replayed["clips"]
    keys = {"start_s", "end_s", "label", "score", "unlocked", "time_to_unlock_s", "reason"}
    assert all(keys <= visit.keys() for visit in clip["visits"])
    opened = [visit["start_s"] for visit in clip["visits"] if visit["unlocked"]]
    assert len(opened) == 2
    assert 3.5 < opened[0] < 8
    assert 27.5 < opened[1] < 32
    evaluated = json.loads(command("pawlatch", "evaluate", output / "model", output / "photos", "--json").stdout)
    assert evaluated["n"] > 200
    assert evaluated["accuracy"] > 0.9
    assert command("pawlatch", "doctor", output / "model").returncode == 0


def test_a_second_convert_gives_the_same_files(demo, command):
    output, _ = demo
    before = read_card(output / "model" / "edge").files
    told = command("convert", "--int8", output / "model")
    assert told.returncode == 0, told.stdout + told.stderr
    assert read_card(output / "model" / "edge").files == before


def test_a_deployed_file_with_a_flipped_byte_runs_nowhere(demo, tmp_path, command):
    bundle = tmp_path / "edge"
    shutil.copytree(demo[0] / "model" / "edge", bundle)
    (file,) = bundle.glob("int8-*.tflite")
    data = bytearray(file.read_bytes())
    data[-1000] ^= 0xFF
    file.write_bytes(data)
    told = command("pawlatch", "replay", bundle, "scene:own")
    assert told.returncode == 2
    assert "not the file its card vouches for" in told.stderr


def test_demo_with_own_photos_needs_to_know_who_may_enter(demo, command):
    told = command("pawlatch", "demo", "--photos", demo[0] / "photos", "-o", demo[0] / "second")
    assert told.returncode == 2
    assert "--unlock" in told.stderr
    assert "biscuit" in told.stderr
    assert not (demo[0] / "second").exists()


def test_demo_with_own_photos_makes_the_clip_from_the_held_out_ones(demo, tmp_path, command):
    told = command("pawlatch", "demo", "--fast", "--photos", demo[0] / "photos", "--unlock", "biscuit", "--weights", "starter",
               "-o", tmp_path / "own")
    assert told.returncode == 0, told.stdout + told.stderr
    assert "for strangers in 0 of 4" in told.stdout
    assert sum(1 for _ in open_clip(tmp_path / "own" / "visits.webm").frames) == 8 * 70 + 40


def test_a_second_demo_does_not_touch_the_first(demo, command):
    before = (demo[0] / "report.html").stat().st_mtime_ns
    told = command("pawlatch", "demo", "-o", demo[0])
    assert told.returncode == 2
    assert "--overwrite" in told.stderr
    assert (demo[0] / "report.html").stat().st_mtime_ns == before
