"""One demo run for all tests that look at it."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory, command):
    """`pawlatch demo --fast`: the folder it wrote, and what it said."""
    pytest.importorskip("tensorflow", reason="needs the train and convert extras")
    home = tmp_path_factory.mktemp("home")
    output = tmp_path_factory.mktemp("demo") / "out"
    told = command("pawlatch", "demo", "--fast", "-o", output, HOME=str(home), KERAS_HOME=str(home))
    assert told.returncode == 0, told.stdout + told.stderr
    return output, told
