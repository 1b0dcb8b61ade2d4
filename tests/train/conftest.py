"""A small set of drawn photos, and one model trained on it through the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch import scene

SIDE = 64
COUNTS = {"초코": (scene.OWN, 14), "_other": (scene.OTHER, 14), "_empty": (scene.EMPTY, 8)}


@pytest.fixture(scope="session")
def drawn_photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    rng = np.random.default_rng(3)
    for label, (who, count) in COUNTS.items():
        (folder / label).mkdir(parents=True)
        for i in range(count):
            picture = scene.draw(rng, who, light=scene.LIGHTS[i % 3], size_hw=(120, 160))
            (folder / label / f"{i:02d}.jpg").write_bytes(cv2.imencode(".jpg", picture[..., ::-1])[1].tobytes())
    (folder / "_other" / "broken.jpg").write_bytes((folder / "_other" / "00.jpg").read_bytes()[:900])
    return folder


@pytest.fixture(scope="session")
def trained(drawn_photos, tmp_path_factory, command) -> tuple[Path, subprocess.CompletedProcess[str]]:
    model = tmp_path_factory.mktemp("trained") / "model"
    told = command("train", drawn_photos, "-o", model, "--unlock", "초코", "--weights", "starter", "--image-size", SIDE,
                     "--epochs", 3, "--fine-tune-epochs", 1, "--seed", 5)
    assert told.returncode == 0, told.stderr
    return model, told


@pytest.fixture(scope="session")
def counts() -> dict[str, int]:
    """Photos by label in `drawn_photos`, beside the broken one."""
    return {label: count for label, (_, count) in COUNTS.items()}


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory) -> Path:
    """A Keras model of four blocks, at 64 pixels, with random weights: a backbone that trains in a second."""
    keras = pytest.importorskip("tf_keras", reason="needs the train extra")
    keras.utils.set_random_seed(0)
    pixels = x = keras.Input((SIDE, SIDE, 3), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    for block, channels in enumerate((8, 12, 16, 24), 1):
        x = keras.layers.Conv2D(channels, 3, strides=2, padding="same", use_bias=False, name=f"block_{block}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"block_{block}_bn")(x)
        x = keras.layers.ReLU(6.0, name=f"block_{block}_relu")(x)
    path = tmp_path_factory.mktemp("backbone") / "tiny.keras"
    keras.Model(pixels, x, name="tiny").save(path)
    return Path(path)
