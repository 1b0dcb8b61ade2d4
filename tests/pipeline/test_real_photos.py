"""The pipeline on real photographs and clips, where they are at hand."""

from __future__ import annotations

import json
import shutil

import pytest

from pawlatch.camera import clip_frames
from pawlatch.overlay import ClipWriter

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow", reason="needs the train and convert extras")

HALF_S = 4.88  # of the pomeranian's clip


@pytest.fixture(scope="module")
def pomeranian_door(tmp_path_factory, shared, command):
    """A door enrolled on the first half of a clip, against the dogs of the doggy door."""
    folder = tmp_path_factory.mktemp("pomeranian")
    photos = folder / "photos"
    framed = command("pawlatch", "frames", shared / "data/clips/pomeranian.mp4", "-o", photos / "pomeranian", "--end", HALF_S)
    assert framed.returncode == 0, framed.stderr
    for label in ("bo", "not_bo"):
        shutil.copytree(shared / "data/doggy_door/train" / label, photos / "_other" / label)
    told = command("train", photos, "-o", folder / "model", "--unlock", "pomeranian", "--target", "pi-zero2",
               KERAS_HOME=str(shared / "keras_home"))
    assert told.returncode == 0, told.stderr
    told = command("convert", "--int8", folder / "model")
    assert told.returncode == 0, told.stdout + told.stderr
    return shared, folder


def visits(command, model, clip):
    told = command("pawlatch", "replay", model, clip, "--json")
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout)["clips"][0]["visits"]


def test_it_opens_for_the_rest_of_the_clip(pomeranian_door, command):
    shared, folder = pomeranian_door
    rest = folder / "rest.webm"
    with ClipWriter(rest, fps=25) as clip:
        for frame in clip_frames(shared / "data/clips/pomeranian.mp4"):
            if frame.time_s > HALF_S:
                clip.write(frame.image_bgr, frame.time_s)
    opened = [visit for visit in visits(command, folder / "model", rest) if visit["unlocked"]]
    assert opened
    assert opened[0]["time_to_unlock_s"] < 1


@pytest.mark.parametrize("clip", ["malamute.mp4", "street_no_animal.mp4"])
def test_it_stays_shut_for_others(pomeranian_door, clip, command):
    shared, folder = pomeranian_door
    assert not any(visit["unlocked"] for visit in visits(command, folder / "model", shared / "data/clips" / clip))


def test_run_works_the_latch_on_the_same_clip(pomeranian_door, command):
    shared, folder = pomeranian_door
    told = command("pawlatch", "run", folder / "model/edge", "--camera", shared / "data/clips/pomeranian.mp4", "--latch", "log", "--fast")
    assert told.returncode == 0, told.stderr
    assert "unlocked for pomeranian" in told.stdout
    assert told.stdout.strip().splitlines()[-1].startswith("latch: locked at 0.0 s, unlocked at")
