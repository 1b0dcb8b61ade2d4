"""What tests of all rooms share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A copy of the fixture bundle: reddish pictures are `own`, bluish `other`, grey `_empty`."""
    return Path(shutil.copytree(ROOT / "tests" / "fixtures" / "tiny", tmp_path / "tiny"))


@pytest.fixture
def shared() -> Path:
    """The folder of real photos and clips, which is not part of the repository."""
    folder = Path(os.environ.get("PAWLATCH_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set PAWLATCH_SHARED")
    return folder
