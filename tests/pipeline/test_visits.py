"""The door's promise, on drawn visits and real clips: the whole of `tests/bench/visits.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
pytest.importorskip("tensorflow", reason="needs the train and convert extras")

BENCH = Path(__file__).parents[1] / "bench" / "visits.py"


def test_evidence_lets_no_stranger_in_and_is_as_quick_as_it_must_be(tmp_path, shared):
    told = subprocess.run([sys.executable, BENCH, tmp_path, "--shared", shared], capture_output=True, text=True, timeout=3600)
    assert told.returncode == 0, told.stdout + told.stderr[-2000:]
    drawn = json.loads((tmp_path / "visits.json").read_text())["drawn"]["evidence"]
    assert (drawn["strangers"] >= 200, drawn["own"] >= 100) == (True, True)
    assert (drawn["false_unlocks"], drawn["elsewhen"]) == (0, 0)
    assert drawn["within_1_s"] >= 0.9 * drawn["own"]
