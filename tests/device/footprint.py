"""What pawlatch and all that it requires take on the disk, by library: bytecode and whatever one inference maps or reads told apart.

    python tests/device/footprint.py /opt/pawlatch/lib/python3.11/site-packages [--large 2]

Reads the records that pip left, so it may be another machine's folder (an arm64 root's). `--large` lists single files from so many MB on.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

MB = 1_000_000
NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Library:
    name: str
    version: str
    files: dict[Path, int]  # bytes

    @property
    def size(self) -> int:
        return sum(self.files.values())

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
    print("| library | MB | of it bytecode | files | large ones |\n| --- | --- | --- | --- | --- |")
    for library in libraries:
        large = [f"{path.name} {size / MB:.1f}" for path, size in sorted(library.files.items(), key=lambda item: -item[1])
                 if size >= args.large * MB]
        print(f"| {library.name} {library.version} | {library.size / MB:.1f} | {library.bytecode / MB:.1f} | {len(library.files)} | {', '.join(large)} |")
    print(f"| all | {sum(of.size for of in libraries) / MB:.1f} | {sum(of.bytecode for of in libraries) / MB:.1f} "
          f"| {sum(len(of.files) for of in libraries)} | |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
