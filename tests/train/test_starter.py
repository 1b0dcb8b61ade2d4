"""The starter backbone: that it ships, that it has learnt something, and that its script still makes one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")


def backbone(weights, size=64):
    from pawlatch_train.backbones import open_backbone
    from pawlatch_train.weights import STARTER_WIDTH

    return open_backbone("mobilenet_v2", weights=weights, width=STARTER_WIDTH, size=size, target="desktop").model


def test_the_packaged_starter_loads_and_is_small():
    from pawlatch_train.backbones import find_weights

    starter = find_weights("mobilenet_v2", "starter", width=None, size=None, target="desktop")
    assert Path(starter.origin).stat().st_size < 1_100_000
    kernels = [value for value in backbone("starter").get_weights() if value.ndim == 4]
    assert all(np.isfinite(kernel).all() and kernel.std() > 0 for kernel in kernels)


@pytest.mark.slow
def test_the_script_distils_a_starter_from_photos_and_drawn_scenes(drawn_photos, tmp_path):
    teacher, output = tmp_path / "teacher.h5", tmp_path / "starter.npz"
    backbone("none").save_weights(teacher)
    told = subprocess.run(
        [sys.executable, "-m", "pawlatch_train.starter", "--photos", drawn_photos, "--teacher", teacher,
         "--scenes", "5", "--minutes", "0.02", "-o", output],
        capture_output=True, text=True, timeout=600,
    )
    assert told.returncode == 0, told.stderr
    assert "41 pictures" in told.stderr
    made, untrained = backbone(str(output)), backbone("none")
    assert [value.shape for value in made.get_weights()] == [value.shape for value in untrained.get_weights()]
