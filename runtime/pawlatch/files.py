"""Writing so that nothing is ever half there: to a temporary name first, then a rename."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pawlatch.errors import OutputError

WRITTEN = r"(\d{1,9})\.\w+\.part"  # after the hidden name of a new folder: the process that writes it
MOVED = r"(\d{1,9})\.old"  # what it is about to replace


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes | str, *, mode: int | None = None) -> None:
    """Write `data` so that `path` holds either all of it or what it held before, even across a power cut.

    `mode` are its permissions from the first byte on; None leaves them to the umask.

    Raises:
        OutputError: the place cannot be written to (no room, no permission, no such folder).
    """
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def sync_folder(folder: Path) -> None:
    """So that a new name in it is still there after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_absent(path: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that exists, unless told to replace it.

    One that a killed process had moved aside, and replaced by nothing, is put back first.

    Raises:
        OutputError: it exists and `overwrite` is false, or it is something that must not be replaced.
    """
    if not path.exists() and (moved := _left_behind(path, MOVED)):
        try:
            moved[0].rename(path)
        except OSError as error:
            raise _unwritable(path, error) from error
    if not path.exists():
        return
    if not path.is_dir():
        raise OutputError(f"the output must be a folder, but {path} is a file; name another with -o")
    if any(path.iterdir()) and not overwrite:
        raise OutputError(f"{path} exists already and is not touched; name another with -o, or add --overwrite")


@contextmanager
def new_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `path` that takes its name if and only if the block ends well.

    What processes that were killed at this have left beside it is removed.

    Raises:
        OutputError: `path` exists and `overwrite` is false, or the disk refuses.
    """
    path = path.absolute()
    require_absent(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in [*_left_behind(path, WRITTEN), *_left_behind(path, MOVED)]:
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        _replace_folder(temporary, path)
    except OSError as error:
        if isinstance(error, OutputError) or not error.errno:
            raise
        raise _unwritable(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`; what stood there gets the name of `new`, and only once the new one is in its place."""
    if not path.exists():
        new.rename(path)
        return
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    try:
        path.rename(old)
        new.rename(path)
    except BaseException:  # Ctrl-C too
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    old.rename(new)


def _left_behind(path: Path, ending: str) -> list[Path]:
    """Folders beside `path`, with its hidden name and such an ending, of processes that live no longer."""
    try:
        beside = list(path.parent.iterdir())
    except OSError:  # nothing there yet, or nothing that may be seen
        return []
    named = [(there, re.fullmatch(rf"\.{re.escape(path.name)}\.{ending}", there.name)) for there in beside]
    return [there for there, match in named if match and there.is_dir() and not _lives(int(match[1]))]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; make room or name another place with -o")
