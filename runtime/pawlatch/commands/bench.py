"""`pawlatch bench`: how fast each variant is here, how long a frame takes to a decision, and which engine `run` takes."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.camera import Frame
from pawlatch.card import read_bundle
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.decide import policy_from_card
from pawlatch.door import Door
from pawlatch.errors import EngineError
from pawlatch.gate import Gate
from pawlatch.image import Image
from pawlatch.latch import RecordingLatch
from pawlatch.loop import Step, Watch
from pawlatch.model import choose
from pawlatch.replay import ClipClock
from pawlatch.timing import interleaved_ms

SIZES_HW = ((480, 640), (1080, 1920))
FPS = 15.0
POSES, PATCHES = 8, 20
AT_A_TIME = 5


def bench(argv: list[str]) -> int:
    """Print the tables; `--json` prints all of it as one object."""
    parser = argparse.ArgumentParser(prog="pawlatch bench", description="How fast each variant is here, as ratios of one run.")
    parser.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    parser.add_argument("--runs", type=whole, default=100, help="inferences of each variant (default 100)")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    bundle, card = read_bundle(args.bundle)
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


def _variant_rows(classifiers: Mapping[str, Classifier], runs: int) -> dict[str, dict[str, float]]:
    frame = next(moving_frames(SIZES_HW[0]))
    any_classifier = next(iter(classifiers.values()))
    fitted = any_classifier.fit(frame)
    calls: dict[str, Callable[[], object]] = {"fit": lambda: any_classifier.fit(frame)}
    for name, classifier in classifiers.items():
        calls[name] = lambda classifier=classifier: classifier.predict(fitted)  # type: ignore[misc]
    taken = interleaved_ms(calls, runs=runs, at_a_time=AT_A_TIME)
    return _rows(taken, float(np.median(taken["float32"])) if "float32" in taken else float("nan"))


def _frame_rows(classifier: Classifier, runs: int) -> dict[str, dict[str, float]]:
    fitted = classifier.fit(next(moving_frames(SIZES_HW[0])))
    calls: dict[str, Callable[[], object]] = {"inference": lambda: classifier.predict(fitted)}
    for height, width in SIZES_HW:
        steps = decisions(classifier, moving_frames((height, width)))
        calls[f"{width}×{height}"] = lambda steps=steps: next(steps)  # type: ignore[misc]
    taken = interleaved_ms(calls, runs=runs, at_a_time=AT_A_TIME)
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
