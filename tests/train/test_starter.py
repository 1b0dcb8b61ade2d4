"""The starter backbone: that it ships, that it has learnt something, and that its script still makes one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")


def backbone(weights, size=64):
    from pawlatch_train.backbone import STARTER_WIDTH, build_backbone

    return build_backbone(weights, width=STARTER_WIDTH, size=size)


def test_the_packaged_starter_loads_and_is_small():
    from pawlatch_train.backbone import find_weights

    starter = find_weights("starter", width=None, size=None)
    assert starter.path.stat().st_size < 1_100_000
    kernels = [value for value in backbone(starter).get_weights() if value.ndim == 4]
    assert all(np.isfinite(kernel).all() and kernel.std() > 0 for kernel in kernels)


@pytest.mark.slow
def test_the_script_distils_a_starter_from_photos_and_drawn_scenes(drawn_photos, tmp_path):
    teacher, output = tmp_path / "teacher.h5", tmp_path / "starter.npz"
    backbone(None).save_weights(teacher)
    told = subprocess.run(
        [sys.executable, "-m", "pawlatch_train.starter", "--photos", drawn_photos, "--teacher", teacher,
         "--scenes", "5", "--minutes", "0.02", "-o", output],
        capture_output=True, text=True, timeout=600,
    )
    assert told.returncode == 0, told.stderr
    assert "41 pictures" in told.stderr
    from pawlatch_train.backbone import STARTER_WIDTH, Weights

    made, untrained = backbone(Weights("file", output, STARTER_WIDTH, 128)), backbone(None)
    assert [value.shape for value in made.get_weights()] == [value.shape for value in untrained.get_weights()]
