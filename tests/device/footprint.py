"""What pawlatch and all that it requires take on the disk, by library, and what of it a door can do without.

    python tests/device/footprint.py /opt/pawlatch/lib/python3.11/site-packages [--large 2]

Reads the records that pip left, so it may be another machine's folder (an arm64 root's). `--large` names single files from so many MB on.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MB = 1_000_000
NAME = re.compile(r"[A-Za-z0-9._-]+")
ACCELERATOR = "libLiteRtWebGpuAccelerator.so"  # no interpreter on a CPU maps it
IMPORTED = frozenset({"pawlatch", "numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime"})  # test_footprint holds it so


@dataclass(frozen=True)
class Library:
    name: str
    version: str
    files: dict[Path, int]  # bytes

    @property
    def size(self) -> int:
        return sum(self.files.values())

    def row(self, large: int) -> str:
        named = [f"{path.name} {size / MB:.1f}" for path, size in sorted(self.files.items(), key=lambda item: -item[1]) if size >= large]
        return f"| {self.name} {self.version} | {self.size / MB:.1f} | {self.bytecode / MB:.1f} | {', '.join(named)} |"

    @property
    def bytecode(self) -> int:
        return sum(size for path, size in self.files.items() if path.suffix == ".pyc")


def required(site: Path, name: str = "pawlatch") -> list[Library]:
    """The installed `name` and what it requires without extras, largest first."""
    found = {_normal(of.metadata["Name"]): of for of in metadata.distributions(path=[str(site)])}
    todo, libraries = [_normal(name)], {}
    while todo:
        one = todo.pop()
        if one in libraries or one not in found:  # absent: a marker leaves it out here
            continue
        libraries[one] = Library(one, found[one].version, dict(_sizes(found[one], site)))
        todo += [_normal(NAME.match(line)[0]) for line in found[one].requires or [] if "extra ==" not in line]
    return sorted(libraries.values(), key=lambda library: -library.size)


def spare(libraries: Sequence[Library]) -> dict[str, int]:
    """Bytes that a door can do without, by what; nothing is counted twice."""
    taken = {"the accelerator for WebGPU": 0, "libraries that nothing imports": 0, "NumPy's own tests": 0, "other bytecode": 0}
    for library in libraries:
        for path, size in library.files.items():
            if path.name == ACCELERATOR:
                taken["the accelerator for WebGPU"] += size
            elif library.name not in IMPORTED:
                taken["libraries that nothing imports"] += size
            elif library.name == "numpy" and "tests" in path.parts:
                taken["NumPy's own tests"] += size
            elif path.suffix == ".pyc":
                taken["other bytecode"] += size
    return taken


def _sizes(distribution: metadata.Distribution, site: Path) -> Iterator[tuple[Path, int]]:
    for file in distribution.files or []:
        path = (site / file).resolve()
        if path.is_file():
            yield path, path.stat().st_size


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path, help="a site-packages folder")
    parser.add_argument("--large", type=float, metavar="MB", default=5)
    args = parser.parse_args()
    libraries = required(args.site)
    if not libraries:
        raise SystemExit(f"pawlatch is not installed in {args.site}")
    print("| library | MB | of it bytecode | large files |\n| --- | --- | --- | --- |")
    for library in libraries:
        print(library.row(int(args.large * MB)))
    print(f"| all | {sum(of.size for of in libraries) / MB:.1f} | {sum(of.bytecode for of in libraries) / MB:.1f} | |")
    print("\n| can be left out | MB |\n| --- | --- |")
    for what, size in spare(libraries).items():
        print(f"| {what} | {size / MB:.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
