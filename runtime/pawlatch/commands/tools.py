"""`pawlatch bench` and `pawlatch doctor`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pawlatch import __version__
from pawlatch.card import read_bundle
from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.errors import PawlatchError
from pawlatch.image import Image

PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "onnxruntime", "tensorflow", "tf_keras", "tf2onnx", "onnx")


def bench(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="pawlatch bench", description="How fast each variant is here, as ratios of one run.")
    parser.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    parser.add_argument("--runs", type=whole, default=100, help="inferences of each variant (default 100)")
    parser.add_argument("--threads", type=whole, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    bundle, card = read_bundle(args.bundle)
    classifiers = {name: Classifier(bundle, variant=name, threads=args.threads) for name in card.files}
    camera_frame = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    latencies_ms = interleaved_ms(
        {"fit": lambda: next(iter(classifiers.values())).fit(camera_frame)}
        | {name: _inference(classifier, camera_frame) for name, classifier in classifiers.items()},
        runs=args.runs,
    )
    reference = float(np.median(latencies_ms["float32"])) if "float32" in latencies_ms else float("nan")
    rows = {
        name: {"p50_ms": p50, "p95_ms": float(np.percentile(ms, 95)), "ratio": p50 / reference}
        for name, ms in latencies_ms.items()
        for p50 in (float(np.median(ms)),)
    }
    if args.json:
        print(json.dumps({"machine": platform.machine(), "threads": args.threads, "runs": args.runs, "rows": rows}))
        return 0
    print(f"{platform.machine()}, {args.threads} thread(s), {args.runs} runs of each in turn; fit is 640×480 to the input")
    print(f"{'':<14}{'p50 ms':>9}{'p95 ms':>9}{'of float32':>12}")
    for name, row in rows.items():
        print(f"{name:<14}{row['p50_ms']:>9.2f}{row['p95_ms']:>9.2f}{row['ratio']:>12.2f}")
    return 0


def interleaved_ms(calls: dict[str, Callable[[], object]], *, runs: int) -> dict[str, list[float]]:
    """Milliseconds of each call, taken in turn, so that a noisy moment falls on all of them alike."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return taken


def doctor(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pawlatch doctor", description="What is installed, and whether a bundle is whole and works."
    )
    parser.add_argument("bundle", type=Path, nargs="?", help="the folder model/edge (or model/)")
    args = parser.parse_args(argv)
    print(f"pawlatch {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        print(f"  {package:<24} {version}")
    return 0 if args.bundle is None else _examine(args.bundle)


def _examine(folder: Path) -> int:
    """Load every variant, check its hash, and let it see a grey picture; status 1 where one fails."""
    bundle, card = read_bundle(folder)
    print(f"{bundle}: {card.name}, labels {', '.join(card.labels)}; unlocks for {', '.join(card.unlock) or 'nothing'}")
    failed = 0
    for name in card.files:
        try:
            classifier = Classifier(bundle, variant=name)
            classifier(np.full((*card.input.size_hw, 3), 128, np.uint8))
        except PawlatchError as error:
            failed += 1
            print(f"  {name:<14} FAILED: {error}")
        else:
            print(f"  {name:<14} ok{', deployed' if name == card.deploy else ''}")
    if failed:
        print(f"{failed} of {len(card.files)} variants do not work here", file=sys.stderr)
    return 1 if failed else 0


def _inference(classifier: Classifier, frame: Image) -> Callable[[], object]:
    fitted = classifier.fit(frame)
    return lambda: classifier.predict(fitted)
