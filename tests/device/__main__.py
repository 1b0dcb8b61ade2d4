"""pawlatch on a Raspberry Pi's processor, emulated, against this desktop.

    sudo python -m tests.device                                       # the tiny bundle and drawn pictures
    sudo python -m tests.device --model cats=model/edge,photos/ --clip clip.mp4
    sudo python -m tests.device --tests once                          # the runtime's own tests too

Builds the wheel of this tree, installs it with its base dependencies alone here and into arm64 roots of Debian bookworm (Python 3.11)
and trixie (3.13), and runs there, with the core of a Pi 4, a Pi 5 and a Zero 2 W: `pawlatch --help`, `evaluate`, `replay`. Fitted pixels,
scores and verdicts of `int8` must be the desktop's, bit for bit; other variants must decide alike, with scores within 1e-3.

Needs Linux, root, and: apt-get install qemu-user-static mmdebstrap arch-test. The first time takes about ten minutes for the roots.
Exit status: 0 all holds, 1 something differs or a test fails, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.device.compare import Outcome, compare
from tests.device.pictures import draw_clip, draw_formats, draw_photos
from tests.device.places import ENVIRONMENT, TFLITE, TREE, Desktop, Device, InstallError, build_wheel
from tests.device.roots import CORES, SUITES, HostError, check_host


def main(argv: Sequence[str] | None = None) -> int:
    args = _arguments(argv)
    try:
        check_host()
        with ExitStack() as stack:
            work = args.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pawlatch-device-")))
            return _prove(args, work)
    except (HostError, InstallError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.device", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--suite", choices=SUITES, action="append", help="default: both")
    parser.add_argument("--core", choices=CORES, action="append", help="default: all")
    parser.add_argument("--model", action="append", default=[], metavar="NAME=BUNDLE,PHOTOS",
                        help="a bundle and labelled photos (their test or valid split) to compare, beside the tiny one")
    parser.add_argument("--clip", action="append", default=[], type=Path, help="a clip for every --model")
    parser.add_argument("--tests", choices=("none", "once", "all"), default="none",
                        help="tests/runtime: on the first core of each suite (half an hour each), or on all (default: none)")
    parser.add_argument("--tflite", action="store_true", help="the tflite extra's runtime and NumPy 1 instead of LiteRT, on both sides; bookworm alone")
    parser.add_argument("--work", type=Path, help="keep roots and results here, and take them from here (default: a temporary folder)")
    parser.add_argument("-o", "--output", type=Path, help="write DIR/result.json and DIR/result.md")
    args = parser.parse_args(argv)
    args.suite, args.core = args.suite or list(SUITES), args.core or list(CORES)
    if args.tflite:
        args.suite = ["bookworm"]
    return args


def _prove(args: argparse.Namespace, work: Path) -> int:
    work.mkdir(parents=True, exist_ok=True)
    extra = TFLITE if args.tflite else ""
    wheel = build_wheel(_fresh(work / "dist"))
    desktop = Desktop(_fresh(work / "desktop"))
    desktop.install(wheel, extra=extra)
    job = _job(args, work)
    here = desktop.probe(job, work)
    runs = []
    for suite in args.suite:
        device = Device(suite, work / f"{suite}{extra}")
        device.install(wheel, extra=extra)
        for number, name in enumerate(args.core):
            core = CORES[name]
            device.run([f"{ENVIRONMENT}/bin/pawlatch", "--help"], core=core, stdout=sys.stderr)
            there = device.probe(job, core=core)
            (work / f"{suite}{extra}-{name}.json").write_text(json.dumps(there))
            run = {"suite": suite, "core": name, "place": there["place"], "took_s": device.took_s, "outcome": compare(here, there)}
            if args.tests == "all" or (args.tests == "once" and number == 0):
                tests = device.run_tests(core)
                run["tests"] = {"status": tests.returncode, "said": tests.stdout.splitlines()[-1:]}
                (work / f"{suite}-{name}-tests.log").write_text(tests.stdout)
            print(_told(run), flush=True)
            runs.append(run)
    if args.output:
        _write(args.output, here, runs)
    return 0 if all(run["outcome"].ok and not run.get("tests", {}).get("status") for run in runs) else 1


def _job(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """What is compared. The pictures are encoded here alone: the device reads the same bytes."""
    drawn = _fresh(work / "drawn")
    draw_formats(drawn / "pictures")
    draw_photos(drawn / "photos")
    (drawn / "clip").mkdir()
    draw_clip(drawn / "clip" / "squares.mp4")
    own = [str(drawn / "clip" / "squares.mp4")]
    clips = [str(clip.resolve()) for clip in args.clip]
    models = {"tiny": {"bundle": str(TREE / "tests" / "fixtures" / "tiny"), "photos": str(drawn / "photos"), "clips": own}}
    for named in args.model:
        name, _, folders = named.partition("=")
        bundle, _, photos = folders.partition(",")
        if not (Path(bundle).is_dir() and Path(photos).is_dir()):
            raise HostError(f"--model takes NAME=BUNDLE,PHOTOS, two folders; got {named}")
        models[name] = {"bundle": str(Path(bundle).resolve()), "photos": str(Path(photos).resolve()), "clips": clips}
    return {"pictures": str(drawn / "pictures"), "clips": own + clips, "models": models}


def _told(run: dict[str, Any]) -> str:
    place, outcome = run["place"], run["outcome"]
    lines = [f"== {run['suite']}, Python {place['python']}, {CORES[run['core']].qemu}: {'equal' if outcome.ok else 'RED'}", *table(outcome)]
    lines += [f"RED: {problem}" for problem in outcome.problems[:20]]
    if "tests" in run:
        lines += [f"tests/runtime: status {run['tests']['status']}: {' '.join(run['tests']['said'])}"]
    return "\n".join(lines)


def table(outcome: Outcome) -> list[str]:
    lines = ["| compared | n | bit for bit equal | largest difference of a score | decided otherwise |", "| --- | --- | --- | --- | --- |"]
    for row in outcome.rows:
        delta = "" if row.max_delta is None else f"{row.max_delta:.2g}"
        lines.append(f"| {row.what} | {row.n} | {row.equal} | {delta} | {row.otherwise} |")
    return lines


def _write(folder: Path, here: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    today = datetime.date.today().isoformat()
    told = [{**run, "outcome": asdict(run["outcome"])} for run in runs]
    (folder / "result.json").write_text(json.dumps({"date": today, "desktop": here["place"], "runs": told}, indent=1) + "\n")
    versions = ", ".join(f"{name} {version}" for name, version in here["place"]["versions"].items())
    head = f"{today}, desktop {here['place']['machine']}, Python {here['place']['python']}: {versions}"
    (folder / "result.md").write_text("\n\n".join([head, *map(_told, runs)]) + "\n")


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
