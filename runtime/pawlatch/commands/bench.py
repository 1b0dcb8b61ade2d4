"""`pawlatch bench`: how fast each variant is here, how long a frame takes to a decision, and which engine `run` takes."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pawlatch.benchreport import SCHEMA, board_facts, bundle_facts
from pawlatch.board import read_board, throttled_bits
from pawlatch.camera import Frame
from pawlatch.card import ModelCard, read_bundle
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.decide import policy_from_card
from pawlatch.door import Door
from pawlatch.errors import EngineError, OutputError
from pawlatch.files import write_atomic
from pawlatch.gate import Gate
from pawlatch.image import Image
from pawlatch.latch import RecordingLatch
from pawlatch.loop import Step, Watch
from pawlatch.machine import emulation, machine_facts, versions
from pawlatch.model import choose
from pawlatch.replay import ClipClock
from pawlatch.timing import interleaved_ms

SIZES_HW = ((480, 640), (1080, 1920))
FPS = 15.0
POSES, PATCHES = 8, 20
AT_A_TIME = 5
REPORTED_THREADS = (1, 2, 4)  # as far as there are cores
REPORTED_S = 60.0  # for each table, on a board that is slow


def bench(argv: list[str]) -> int:
    """Print the tables; `--json` prints all of it as one object."""
    parser = argparse.ArgumentParser(prog="pawlatch bench", description="How fast each variant is here, as ratios of one run.")
    parser.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    parser.add_argument("--runs", type=whole, default=100, help="inferences of each variant (default 100)")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--report", type=Path, nargs="?", const=Path("-"), metavar="FILE",
                        help="measure with 1, 2 and 4 threads, and write what docs/boards.md collects: the board, the versions "
                             "and the times, and nothing of whose they are (without FILE to the terminal)")
    args = parser.parse_args(argv)
    bundle, card = read_bundle(args.bundle)
    if args.report is not None:
        if args.json or args.threads != 1:
            parser.error("--report is JSON and measures with 1, 2 and 4 threads; leave --json and --threads out")
        return _report(bundle, card, args.runs, args.report)
    choice = choose(bundle, card, threads=args.threads, fresh=True) if card.deploy else None
    classifiers, absent = _opened(bundle, list(card.files), args.threads)
    rows = _variant_rows(classifiers, args.runs)
    frames = _frame_rows(classifiers[choice.variant], args.runs) if choice and choice.variant in classifiers else {}
    if args.json:
        print(json.dumps({"machine": platform.machine(), "threads": args.threads, "runs": args.runs, "rows": rows,
                          "frames": frames, "engine": choice and vars(choice), "absent": absent}))
        return 0
    print(f"{platform.machine()}, {args.threads} thread(s), {args.runs} runs of each in turn; fit is 640×480 to the input")
    _print_table(rows, "of float32")
    for name, reason in absent.items():
        print(f"{name:<14} {reason}")
    if choice is not None:
        print(f"\nengine = auto takes {choice.variant}: {choice.reason}")
        print("a decoded frame with an animal to the door's decision (gate, fit, inference, policy, door):")
        _print_table(frames, "of inference")
    return 0


def _report(bundle: Path, card: ModelCard, runs: int, path: Path) -> int:
    """Measure, and write the report to `path`, or print it.

    Raises:
        ModelCardError: the card deploys nothing: it would be a report of no door's model.
        OutputError: `path` cannot be written to; told before anything is measured.
    """
    to_file = str(path) != "-"
    if to_file and (path.is_dir() or not os.access(path.absolute().parent, os.W_OK)):
        raise OutputError(f"the report goes into a file in a folder that can be written to, got {path}; name another")
    before = read_board()
    choice = choose(bundle, card)
    tables = {}
    for threads in (each for each in REPORTED_THREADS if each <= (os.cpu_count() or 1)):
        classifiers, absent = _opened(bundle, list(card.files), threads)
        if choice.variant in absent:
            raise EngineError(absent[choice.variant])
        tables[str(threads)] = {"rows": _variant_rows(classifiers, runs, longest_s=REPORTED_S),
                                "frames": _frame_rows(classifiers[choice.variant], runs, longest_s=REPORTED_S)}
    cold_start_s, peak_mb = cold_start(bundle, choice.variant)
    signs = emulation()
    text = json.dumps({
        "schema": SCHEMA, "versions": versions(), "machine": machine_facts(), "emulation": signs, "is_emulated": bool(signs),
        "bundle": bundle_facts(card, choice.variant), "board": board_facts(before, read_board()),
        "throttled_bits": None if (bits := throttled_bits()) is None else f"{bits:#x}", "runs": runs, "threads": tables,
        "cold_start_s": cold_start_s, "peak_mb": peak_mb,
    }, indent=1, ensure_ascii=False, allow_nan=False)
    if not to_file:
        print(text)
        return 0
    write_atomic(path, text + "\n")
    print(f"written: {path}; it names the board, versions and times, and nobody")
    if signs:
        print(f"it is emulated, so its times say nothing of a board: {'; '.join(signs)}")
    return 0


def cold_start(bundle: Path, variant: str, *, repeat: int = 3) -> tuple[float, float]:
    """Seconds from the start of `pawlatch run` to its end after one decision, and the most megabytes it had: medians.

    The camera is a folder with one picture; a first frame is always classified.

    Raises:
        EngineError: it failed.
    """
    with tempfile.TemporaryDirectory() as temporary:
        cv2.imwrite(f"{temporary}/0.png", next(islice(moving_frames(SIZES_HW[0]), 1, None)))
        command = [sys.executable, "-P", "-c", _RUN, "run", str(bundle), "--variant", variant, "--camera", temporary, "--fast"]
        spent = [_spent(command) for _ in range(repeat + 1)][1:]  # the first one fills the disk's cache
    return float(np.median([wall_s for wall_s, _ in spent])), float(np.median([peak_mb for _, peak_mb in spent]))


# wait4(2) would give the memory of this process, from which the other is made.
_RUN = """
import re
from pathlib import Path
from pawlatch.cli import main
status = main()
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
raise SystemExit(status)
"""


def _spent(command: Sequence[str]) -> tuple[float, float]:
    start_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall_s = time.monotonic() - start_s
    if done.returncode:
        raise EngineError(f"`pawlatch run` ended with status {done.returncode}; pawlatch doctor tells why")
    return wall_s, int(done.stdout.split()[-1]) / 1024


def moving_frames(size_hw: tuple[int, int]) -> Iterator[Image]:
    """A wall, then for ever a patched square that swings before it, a third as high: BGR, uint8 (H, W, 3), few pictures."""
    height, width = size_hw
    side, rng = height // 3, np.random.default_rng(0)
    light = np.linspace(60, 160, width, dtype=np.uint8)[:, np.newaxis]
    wall = light + rng.integers(0, 4, (height, width, 3), np.uint8)
    patch = -(-side // PATCHES)
    coat = rng.integers(0, 140, (PATCHES, PATCHES, 3), np.uint8).repeat(patch, 0).repeat(patch, 1)[:side, :side]
    coat += rng.integers(0, 30, coat.shape, np.uint8)
    poses = [wall.copy() for _ in range(POSES)]
    for pose, image in enumerate(poses):
        left = width // 4 + pose * side * 2 // POSES  # so far that the gate does not take it for part of the wall
        image[height // 2 : height // 2 + side, left : left + side] = coat
    return chain([wall], cycle([*poses, *poses[-2:0:-1]]))


def decisions(classifier: Classifier, images: Iterator[Image], *, gate: Gate | None = None) -> Iterator[Step]:
    """Each image's way through the door's own loop, at FPS of its clock; only the latch is none."""
    clock = ClipClock()
    with Door(RecordingLatch(clock=clock), clock=clock) as door:
        policy = policy_from_card(classifier.card, classifier.variant)
        watch = Watch(classifier, policy, door, clock=clock, on_visit=lambda visit: None, gate=gate)
        yield from watch.steps(clock.follow(Frame(index / FPS, image, index) for index, image in enumerate(images)))


def _opened(bundle: Path, variants: Sequence[str], threads: int) -> tuple[dict[str, Classifier], dict[str, str]]:
    """What runs here, and why the rest does not: a device need not have ONNX Runtime."""
    classifiers, absent = {}, {}
    for name in variants:
        try:
            classifiers[name] = Classifier(bundle, variant=name, threads=threads)
        except EngineError as error:
            absent[name] = str(error)
    if not classifiers:
        raise EngineError(f"none of the variants of {bundle} runs here: {'; '.join(absent.values())}")
    return classifiers, absent


def _variant_rows(
    classifiers: Mapping[str, Classifier], runs: int, *, longest_s: float = float("inf"),
) -> dict[str, dict[str, float]]:
    frame = next(moving_frames(SIZES_HW[0]))
    any_classifier = next(iter(classifiers.values()))
    fitted = any_classifier.fit(frame)
    calls: dict[str, Callable[[], object]] = {"fit": lambda: any_classifier.fit(frame)}
    for name, classifier in classifiers.items():
        calls[name] = lambda classifier=classifier: classifier.predict(fitted)  # type: ignore[misc]
    taken = interleaved_ms(calls, runs=runs, at_a_time=AT_A_TIME, longest_s=longest_s)
    return _rows(taken, float(np.median(taken["float32"])) if "float32" in taken else float("nan"))


def _frame_rows(classifier: Classifier, runs: int, *, longest_s: float = float("inf")) -> dict[str, dict[str, float]]:
    fitted = classifier.fit(next(moving_frames(SIZES_HW[0])))
    calls: dict[str, Callable[[], object]] = {"inference": lambda: classifier.predict(fitted)}
    for height, width in SIZES_HW:
        steps = decisions(classifier, moving_frames((height, width)))
        calls[f"{width}×{height}"] = lambda steps=steps: next(steps)  # type: ignore[misc]
    taken = interleaved_ms(calls, runs=runs, at_a_time=AT_A_TIME, longest_s=longest_s)
    return _rows(taken, float(np.median(taken["inference"])))


def _rows(taken: Mapping[str, Sequence[float]], reference_ms: float) -> dict[str, dict[str, float]]:
    return {
        name: {"p50_ms": p50, "p95_ms": float(np.percentile(ms, 95)), "ratio": p50 / reference_ms}
        for name, ms in taken.items()
        for p50 in (float(np.median(ms)),)
    }


def _print_table(rows: Mapping[str, Mapping[str, Any]], of: str) -> None:
    print(f"{'':<14}{'p50 ms':>9}{'p95 ms':>9}{of:>14}")
    for name, row in rows.items():
        print(f"{name:<14}{row['p50_ms']:>9.2f}{row['p95_ms']:>9.2f}{row['ratio']:>14.2f}")
