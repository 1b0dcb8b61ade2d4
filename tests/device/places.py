"""Where pawlatch is run: this desktop, and a root on a board's core. The wheel of this tree, its base dependencies, nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.device.roots import CORES, SUITES, Core, build_root, run_inside

TREE = Path(__file__).resolve().parents[2]
TESTED = ("tests", "docs", "examples", "runtime", "train", "convert", "README.md", "CHANGELOG.md", "pyproject.toml", ".ci")
TFLITE, SUCCESSOR = "[tflite]", "ai-edge-litert"  # where both are installed, the successor is taken: to try the former, it must go
ENVIRONMENT = "/opt/pawlatch"  # the virtual environment, inside
# One for each glibc that the wheels are built for (bookworm has 2.36); pip takes no other than those that are named.
PLATFORMS = tuple(f"--platform={name}_aarch64" for name in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"))


class InstallError(Exception):
    """pip could not; the message holds its last lines."""


@dataclass(frozen=True)
class Desktop:
    """A virtual environment of this machine."""

    folder: Path

    def install(self, wheel: Path, *, extra: str = "") -> None:
        subprocess.run([sys.executable, "-m", "venv", self.folder], check=True)
        _pip([self.folder / "bin" / "pip", "install", "-q", f"{wheel}{extra}"])
        if extra == TFLITE:
            _pip([self.folder / "bin" / "pip", "uninstall", "-q", "-y", SUCCESSOR])

    def probe(self, job: Mapping[str, Any], work: Path) -> dict[str, Any]:
        (work / "desktop-job.json").write_text(json.dumps(job))
        script = TREE / "tests" / "device" / "probe.py"
        subprocess.run([self.folder / "bin" / "python", script, work / "desktop-job.json", work / "desktop.json"], check=True)
        return dict(json.loads((work / "desktop.json").read_text()))


@dataclass
class Device:
    """A root of a suite, installed as a board's owner would; `took_s` are emulated seconds and say nothing of a real board."""

    suite: str
    root: Path
    took_s: dict[str, float] = field(default_factory=dict)

    def install(self, wheel: Path, *, extra: str = "") -> None:
        if not self.root.exists():
            build_root(self.suite, into=self.root)
        wheels = self.root / "wheels"
        download(wheel, wheels, python=SUITES[self.suite], extra=extra)
        self._timed("venv", ["python3", "-m", "venv", "--clear", ENVIRONMENT])
        pip = [f"{ENVIRONMENT}/bin/pip", "install", "-q", "--no-index", "--find-links", "/wheels"]
        self._timed("install", [*pip, f"pawlatch{extra}"])
        self._timed("install pytest", [*pip, "pytest"])
        if extra == TFLITE:
            self._timed("uninstall", [*pip[:1], "uninstall", "-q", "-y", SUCCESSOR])

    def probe(self, job: Mapping[str, Any], *, core: Core) -> dict[str, Any]:
        """`job`'s paths are the host's; each is bound to the same path inside."""
        shutil.copy(TREE / "tests" / "device" / "probe.py", self.root / "probe.py")
        (self.root / "job.json").write_text(json.dumps(job))
        binds = {Path(path): path for path in sorted(_paths(job)) if Path(path).is_dir()}
        for path in _paths(job) - {str(bound) for bound in binds}:  # a file is bound as its folder
            binds[Path(path).parent] = str(Path(path).parent)
        run_inside(self.root, [f"{ENVIRONMENT}/bin/python", "/probe.py", "/job.json", "/result.json"], core=core, binds=binds)
        return dict(json.loads((self.root / "result.json").read_text()))

    def run_tests(self, core: Core) -> subprocess.CompletedProcess[str]:
        """The runtime's own tests, as CI runs them on the slim install."""
        tree = self.root / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        for name in TESTED:
            source = TREE / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            elif source.is_file():
                shutil.copy(source, tree / name)
        return self.run(["sh", "-c", f"cd /tree && exec {ENVIRONMENT}/bin/python -m pytest -q -rfEs -p no:cacheprovider tests/runtime"],
                        core=core, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(self, command: Sequence[str], *, core: Core, **how: Any) -> subprocess.CompletedProcess[str]:
        return run_inside(self.root, command, core=core, **how)

    def _timed(self, what: str, command: Sequence[str]) -> None:
        start_s = time.monotonic()
        done = self.run(command, core=CORES["pi4"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            raise InstallError(f"{' '.join(command)}, inside: {_last_lines(done.stdout)}")
        self.took_s[what] = round(time.monotonic() - start_s, 1)


def build_wheel(into: Path) -> Path:
    _pip([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", into, TREE])
    (wheel,) = into.glob("pawlatch-*.whl")
    return wheel


def download(wheel: Path, into: Path, *, python: str, extra: str = "") -> None:
    """Fetch a board's wheels from outside. Inside there is no network, and pip would be slow.

    pip chooses files by the tags named here, but reads `; python_version < …` of what is required with its own Python: extras whose
    requirements depend on it are fetched by a pip of that Python.
    """
    shutil.rmtree(into, ignore_errors=True)
    _pip([sys.executable, "-m", "pip", "download", "-q", "--only-binary=:all:", *PLATFORMS, "--implementation=cp",
          f"--python-version={python}", "-d", into, f"{wheel}{extra}", "pytest"])


def _pip(command: Sequence[object]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise InstallError(f"{' '.join(map(str, command[:4]))} …: {_last_lines(done.stderr)}")


def _last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-6:])


def _paths(job: Mapping[str, Any]) -> set[str]:
    models = job["models"].values()
    return {job["pictures"], *job["clips"], *(of[key] for of in models for key in ("bundle", "photos")),
            *(clip for of in models for clip in of["clips"])}
