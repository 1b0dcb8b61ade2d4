"""Where a training keeps what it computes: a hidden folder beside the model, which outlives a kill and nothing else."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pawlatch.errors import OutputError
from pawlatch.files import write_atomic

MARK = "training"


@contextmanager
def workspace(output: Path, *, resume: bool, task: int = 0) -> Iterator[Path]:
    """A folder for one training of `output`. It is gone afterwards, unless the process was interrupted or killed.

    Args:
        resume: begin with what an interrupted run left; else with nothing.
        task: the number of this process where several train together.

    Raises:
        OutputError: the place cannot be written to.
    """
    output = output.absolute()
    folder = output.with_name(f".{output.name}.{task}.training")
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    parents = [parent for parent in folder.parents if not parent.exists()]  # the innermost first
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder} ({error.strerror}); make room or name another place with -o") from error
    try:
        yield folder
    except Exception:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in parents:
            with suppress(OSError):  # somebody else uses it by now
                parent.rmdir()
        raise
    shutil.rmtree(folder)


def file_times(paths: Iterable[Path]) -> str:
    """Hex digest of the names, sizes and times of these files and of all files in these folders; of this machine alone."""
    digest = hashlib.sha256()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else filter(Path.is_file, [path]):
            about = file.stat()
            digest.update(f"{file} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def same_training(work: Path, fingerprint: str) -> bool:
    """Whether what lies in `work` is of the very same training; if not, all but the pixels is cleared."""
    mark = work / MARK
    if mark.is_file() and mark.read_text(encoding="utf-8") == fingerprint:
        return True
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("pixels"):
            path.unlink()
    write_atomic(mark, fingerprint)
    return False
