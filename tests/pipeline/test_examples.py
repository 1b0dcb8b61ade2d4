"""The examples that train: the commands in their README are run as they stand there, in a copy of their folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch import ClipWriter, scene
from pawlatch.card import read_card

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CATS = ("bo", "luna", "milo", "nala", "oskar")


@pytest.fixture
def example(tmp_path):
    """`example("flowers")`: a copy of that folder to work in."""
    pytest.importorskip("tensorflow", reason="needs the train and convert extras")

    def copied(name: str) -> Path:
        return Path(shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")))

    return copied


def shell(line: str, folder: Path, **environment: str) -> str:
    """Run a line of a README, with the commands of this virtual environment; what it prints."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
    told = subprocess.run(["bash", "-euo", "pipefail", "-c", line], capture_output=True, text=True, timeout=900, cwd=folder,
                          env={**os.environ, "PATH": path, "KERAS_HOME": str(folder), **environment})
    assert told.returncode == 0, f"{line}\n{told.stdout}{told.stderr}"
    return told.stdout


def commands(folder: Path) -> list[str]:
    """The lines of the README's block that is marked to be run."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- run -->\n```\n(.*?)```", text, re.DOTALL)
    return block.strip().splitlines()


def draw(folder: Path) -> None:
    subprocess.run([sys.executable, "draw.py"], cwd=folder, check=True, timeout=600)


def at_hour(hour: int) -> str:
    """A TZ in which it is about that hour now."""
    return f"<NOW>{datetime.now(UTC).hour - hour}"


def visits(told: str) -> dict[int, str]:
    """What became of the visit in each eight seconds, by its number."""
    lines = re.findall(r"^ +(\d+):(\d\d\.\d) to .*$", told, re.MULTILINE)
    whole = re.findall(r"^ +\d+:\d\d\.\d to .*$", told, re.MULTILINE)
    return {int((60 * int(minute) + float(second)) // 8): line for (minute, second), line in zip(lines, whole, strict=True)}


def opened(told: dict[int, str]) -> set[str]:
    """The cats for whom the door opened, each by its own name."""
    return {cat for number, cat in enumerate(CATS) if f"  {cat} " in told.get(number, "") and "opened after" in told[number]}


def test_five_cats_and_their_rules(example):
    folder = example("cat-flap")
    draw(folder)
    *before, watch = commands(folder)
    for line in before:
        shell(line, folder)
    assert read_card(folder / "model" / "edge").labels == (*sorted(("_other", "_empty")), *CATS)
    noon = visits(shell(watch, folder, TZ=at_hour(12)))
    night = visits(shell(watch, folder, TZ=at_hour(23)))
    by_day, by_night = opened(noon), opened(night)
    assert by_day <= {"bo", "luna", "milo"}  # the rules hold whatever the model says
    assert by_night <= {"bo", "milo"}
    assert len(by_day) >= 2, noon  # the starter's weights may miss one
    assert by_night, night
    alone = json.loads(shell("pawlatch replay model/edge visits.webm --json", folder))["clips"][0]["visits"]
    without_rules = {CATS[int(visit["start_s"] // 8)] for visit in alone if visit["unlocked"] and visit["start_s"] < 8 * len(CATS)}
    assert without_rules & {"nala", "oskar"}, alone  # it is the rules that keep them out


def test_five_real_cats_are_told_apart(example, shared):
    folder = example("cat-flap")
    for split in ("train", "valid"):
        shutil.copytree(shared / "data" / "cats" / split, folder / "photos" / split)
    names = sorted(path.name for path in (folder / "photos" / "train").iterdir())
    assert len(names) == 5
    _, train, convert, _ = commands(folder)
    shell(train.replace(",".join(CATS), ",".join(names)), folder)
    shell(convert, folder)
    told = json.loads(shell("pawlatch evaluate model/edge photos/valid --json", folder))
    assert told["accuracy"] >= 0.7


def film(path: Path, script: str, *, seed: int = 0) -> Path:
    drawn = scene.Scene.parse(f"{script}?hw=240x320&fps=5&seed={seed}")
    clip = path.with_suffix(".webm")  # as ClipWriter wants it; OpenCV looks at what is in a file, not at its name
    with ClipWriter(clip, fps=drawn.fps) as writer:
        for time_s, frame in drawn.frames():
            writer.write(frame, time_s)
    return clip.rename(path)


def test_the_dog_door_is_rehearsed(example):
    folder = example("doggy-door")
    film(folder / "my-dog.mp4", "empty,own,empty,own,empty,own,empty,own")
    for label, who, script in (("rex", scene.OWN, ""), ("_other", scene.OTHER, "empty,other,empty,cat,empty,other,empty,cat,empty,other"),
                               ("_empty", scene.EMPTY, "empty,empty")):
        (folder / "photos" / label).mkdir(parents=True)
        rng = np.random.default_rng(len(label))
        for i in range(50):
            photo = scene.draw(rng, who, light=scene.LIGHTS[i % 3], size_hw=(360, 480))
            cv2.imwrite(str(folder / "photos" / label / f"{i:02d}.jpg"), photo[..., ::-1])
        if script:
            clip = film(folder / f"{label}.mp4", script, seed=5)
            shell(f"pawlatch frames {clip.name} --count 60 -o photos/{label}", folder)
    told = [shell(line, folder) for line in commands(folder)]
    assert "photos saved in photos/rex" in told[0]
    watched, report = told[-2:]
    assert "opens for rex, by evidence" in watched
    assert "latch: locked at 0.0 s" in watched
    assert watched.count(" to ") >= 5  # visits
    strangers = [line for number, line in visits(watched).items() if number in (1, 2, 4)]
    assert strangers
    assert not [line for line in strangers if "opened after" in line]
    assert "armed" in report
    assert (folder / "rehearsal" / "journal.sqlite3").is_file()


def test_drawn_flowers_are_told_apart(example):
    folder = example("flowers")
    draw(folder)
    train, convert, classify, evaluate = commands(folder)
    shell(train, folder)
    shell(convert, folder)
    assert read_card(folder / "model" / "edge").unlock == ()
    assert shell(classify, folder).startswith("photos/poppy/00.jpg: poppy ")
    assert json.loads(shell(f"{evaluate} --json", folder))["accuracy"] >= 0.95
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=folder, check=True)
    assert told.stdout.startswith("[('poppy', ")


def test_real_flowers_are_told_apart(example, shared):
    folder = example("flowers")
    for split, most in (("train", 60), ("valid", 20)):
        for label in sorted((shared / "data" / "flowers" / split).iterdir())[:3]:
            (folder / "photos" / split / label.name).mkdir(parents=True)
            for photo in sorted(label.iterdir())[:most]:
                shutil.copy(photo, folder / "photos" / split / label.name)
    for line in commands(folder)[:2]:
        shell(line, folder)
    assert json.loads(shell("pawlatch evaluate model/edge photos/valid --json", folder))["accuracy"] >= 0.7
