"""A process that is killed while it writes a folder: what stood there is there, and the next one cleans up behind it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pawlatch.errors import OutputError
from pawlatch.files import new_folder, require_absent

KILLED = """
import os, signal, sys
from pathlib import Path
from pawlatch.files import new_folder

target, at = Path(sys.argv[1]), int(sys.argv[2])
renames, rename = 0, Path.rename

def killed_after(self, to):
    global renames
    rename(self, to)
    renames += 1
    if renames == at:
        os.kill(os.getpid(), signal.SIGKILL)

Path.rename = killed_after
with new_folder(target, overwrite=True) as folder:
    (folder / "new").write_text("new")
    if at == 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def killed(target: Path, *, at: int) -> None:
    """Replace `target` in a process that is killed while it writes (0), or right after its so manieth rename."""
    run = subprocess.run([sys.executable, "-c", KILLED, str(target), str(at)], capture_output=True, text=True, timeout=60)
    assert run.returncode == -signal.SIGKILL, run.stderr


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "old").write_text("old")
    return tmp_path / "model"


@pytest.mark.parametrize(("at", "holds"), [(0, "old"), (1, None), (2, "new"), (3, "new")])
def test_a_kill_leaves_one_whole_folder_and_the_next_run_sweeps(at, holds, target):
    killed(target, at=at)
    assert len(names(target.parent)) == 2  # and both are hidden, where it was killed between the two renames
    assert target.exists() == (holds is not None)
    with pytest.raises(OutputError, match="exists already"):  # also where it had been moved aside
        require_absent(target, overwrite=False)
    assert names(target) == [holds or "old"]
    with new_folder(target, overwrite=True) as folder:
        assert names(target.parent) == sorted([folder.name, "model"])
        (folder / "newest").touch()
    assert names(target.parent) == ["model"]
    assert names(target) == ["newest"]


def test_a_kill_before_there_was_anything_leaves_nothing_for_long(tmp_path):
    killed(tmp_path / "model", at=0)
    assert len(names(tmp_path)) == 1
    require_absent(tmp_path / "model", overwrite=False)
    with new_folder(tmp_path / "model"):
        pass
    assert names(tmp_path) == ["model"]


def test_what_is_of_others_stays(target):
    """Of a process that lives, of a folder of another name, and files."""
    killed(target, at=0)
    killed(target.with_name("model.99999"), at=0)
    (target.parent / ".model.99999.part").touch()
    with new_folder(target, overwrite=True) as one, new_folder(target, overwrite=True) as two:
        left = names(target.parent)
        assert {one.name, two.name, "model", ".model.99999.part"} < set(left)
        assert len(left) == 5  # and what was killed while it wrote `model.99999`
        assert sum(name.startswith(".model.99999.") for name in left) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(13, "Permission denied")])
def test_an_interrupt_between_the_two_renames_puts_the_old_one_back(error, target, monkeypatch):
    rename = Path.rename

    def interrupted(self, to):
        if self.name.endswith(".part"):
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises((KeyboardInterrupt, OutputError)), new_folder(target, overwrite=True):
        pass
    assert names(target.parent) == ["model"]
    assert names(target) == ["old"]
