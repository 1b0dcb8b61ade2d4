"""The whole machine, as one test: see `python -m tests.device.machine`."""

from __future__ import annotations

import os

import pytest
from tests.device.machine.__main__ import main


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("PAWLATCH_DEVICE") != "1",
                    reason="boots an emulated machine for half an hour; set PAWLATCH_DEVICE=1, as root")
@pytest.mark.parametrize("kind", ["virt", "raspi3b"])
def test_a_whole_machine_keeps_the_door_locked_through_every_fault(kind, tmp_path):
    assert main(["--kind", kind, "--report", str(tmp_path / "report.md")]) == 0, (tmp_path / "report.md").read_text()
