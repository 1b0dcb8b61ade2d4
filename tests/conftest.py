"""What tests of all rooms share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--model", type=Path, metavar="DIR", help="a converted model, which tests/pipeline/test_parity.py judges")


@pytest.fixture(scope="session", autouse=True)
def cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What pawlatch keeps between runs is no test's business, and no test's is the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Path:
    """A copy of the fixture bundle: reddish pictures are `own`, bluish `other`, grey `_empty`."""
    return Path(shutil.copytree(ROOT / "tests" / "fixtures" / "tiny", tmp_path / "tiny"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and clips, which is not part of the repository."""
    folder = Path(os.environ.get("PAWLATCH_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set PAWLATCH_SHARED")
    return folder


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`command("convert", "--int8", model)`: a program of this virtual environment (many machines have another `convert`)."""

    def run(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sysconfig.get_path("scripts")) / program, *map(str, arguments)],
            capture_output=True, text=True, timeout=900, env={**os.environ, **environment},
        )

    return run
