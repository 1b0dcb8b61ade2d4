"""`python -m tests.device.machine`: build the disk, boot it, do to it what happens to a door, and write down what the pin did.

    sudo python -m tests.device.machine --report machine.md                     # -M virt
    sudo python -m tests.device.machine --model model/edge,photos/              # your model, your photos before the camera
    sudo python -m tests.device.machine --kind raspi3b --report machine.md      # slower, the pin read from outside

Exit status 1: something did not hold; 2: this machine cannot do it.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from tests.device.machine.image import Cast, build_disk
from tests.device.machine.kernel import fetch_kernel
from tests.device.machine.table import table
from tests.device.machine.trial import SLOW, Trials
from tests.device.roots import CACHE, SUITES, HostError

from pawlatch.errors import PawlatchError


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A whole machine under QEMU: systemd, camera, pin, faults, power cuts.")
    parser.add_argument("--kind", choices=SLOW, default="virt", help="raspi3b: the chip's own pin, read from outside; slower (default: virt)")
    parser.add_argument("--model", metavar="BUNDLE,PHOTOS", help="what decides, and who comes: photos in a folder for each label (test/ or valid/ of "
                        "them, where there is one); default: the tests' own model and coloured squares")
    parser.add_argument("--suite", choices=SUITES, default="bookworm")
    parser.add_argument("--report", type=Path, metavar="FILE.md", help="where the table goes, beside the standard output")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep disk and consoles in this new folder")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the emulator, and what is unpacked, goes too
    try:
        with tempfile.TemporaryDirectory(dir=_roomy()) as temporary:
            return _try(args, args.keep or Path(temporary) / "work")
    except (HostError, PawlatchError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _try(args: argparse.Namespace, work: Path) -> int:
    bundle, _, photos = (args.model or "").partition(",")
    cast = Cast.read(Path(bundle), Path(photos)) if args.model else Cast()
    kernel = fetch_kernel()
    disk = build_disk(kernel, work, suite=args.suite, cast=cast)
    print(f"disk: {disk.packages}; {disk.model}", flush=True)
    checks = Trials(kernel, disk, work, kind=args.kind, say=lambda line: print(line, flush=True)).all()
    emulator = subprocess.run(["qemu-system-aarch64", "--version"], check=True, capture_output=True, text=True).stdout.split()[3]
    text = table(checks, title=f"{date.today().isoformat()}, -M {args.kind} of QEMU {emulator}, Debian {args.suite}, "
                               f"Linux {kernel.release}; {disk.packages}; {disk.model}:")
    print(f"\n{text}")
    if args.report is not None:
        args.report.write_text(text)
    return 0 if all(check.ok for check in checks) else 1


def _roomy() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    return CACHE


if __name__ == "__main__":
    sys.exit(main())
