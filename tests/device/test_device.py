"""The proof on the device's processor, as one test: see `python -m tests.device`."""

from __future__ import annotations

import os

import pytest
from tests.device.__main__ import main


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("PAWLATCH_DEVICE") != "1", reason="emulates three boards for half an hour; set PAWLATCH_DEVICE=1, as root")
@pytest.mark.parametrize("options", [[], ["--tflite"]], ids=["litert", "tflite"])
def test_the_desktops_verdict_is_the_devices(options, tmp_path):
    assert main([*options, "--output", str(tmp_path)]) == 0, (tmp_path / "result.md").read_text()
