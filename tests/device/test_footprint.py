"""The libraries that the footprint calls spare are those that an inference never imports, nor maps."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from tests.device.footprint import ACCELERATOR, IMPORTED, Library, required, spare

BUNDLE = Path(__file__).parents[1] / "fixtures" / "tiny"
USE = f"""
import sys
import numpy
from pathlib import Path
from pawlatch.classify import Classifier
classifier = Classifier(Path({str(BUNDLE)!r}), variant="int8", threads=1)
classifier.predict(numpy.zeros((*classifier.card.input.size_hw, 3), numpy.uint8))
print(*{{name.partition(".")[0] for name in sys.modules}})
print(Path("/proc/self/maps").read_text())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_an_inference_needs_no_library_that_is_called_spare():
    pytest.importorskip("ai_edge_litert")
    done = subprocess.run([sys.executable, "-c", USE], capture_output=True, text=True, check=True)
    modules, _, maps = done.stdout.partition("\n")
    site = Path(metadata.distribution("numpy").locate_file(""))
    owners = {path.relative_to(site.resolve()).parts[0].removesuffix(".py"): library.name for library in required(site, "ai-edge-litert")
              for path in library.files if path.is_relative_to(site.resolve())}
    imported = {owners[top] for top in modules.split() if top in owners}
    assert {"numpy", "ai-edge-litert"} <= imported <= IMPORTED
    assert "libpywrap_litert_common.so" in maps
    assert ACCELERATOR not in maps


def test_each_file_is_spare_once_or_not_at_all():
    files = {Path("ai_edge_litert") / ACCELERATOR: 1, Path("ai_edge_litert/a.pyc"): 2, Path("ai_edge_litert/a.py"): 4}
    numpy = {Path("numpy/tests/a.pyc"): 8, Path("numpy/a.pyc"): 16, Path("numpy/a.so"): 32}
    found = spare([Library("ai-edge-litert", "2", files), Library("numpy", "2", numpy), Library("tqdm", "4", {Path("a.pyc"): 64})])
    assert list(found.values()) == [1, 64, 8, 2 + 16]
