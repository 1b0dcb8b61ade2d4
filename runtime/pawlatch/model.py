"""Which file of a bundle runs here: the one that the card deploys, or the same precision in the faster engine.

LiteRT's and ONNX Runtime's integer kernels take turns at being faster from processor to processor, so it is measured: once
for each machine, pair of files and installed versions, in a process of its own (a door that runs on LiteRT never has ONNX
Runtime in its memory), and remembered in a small file.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from pawlatch.card import ModelCard, read_bundle
from pawlatch.classify import Classifier
from pawlatch.errors import ConfigError, ModelCardError, PawlatchError
from pawlatch.files import write_atomic
from pawlatch.timing import interleaved_ms

logger = logging.getLogger(__name__)

EngineName = Literal["auto", "litert", "onnx"]

ONNX = "onnx_"  # how the names of ONNX variants begin; what follows is their precision
PACKAGES = {"litert": ("ai_edge_litert", "tflite_runtime"), "onnx": ("onnxruntime",)}  # one of them runs the engine's files
WORTH = 0.9  # the other engine must need less than this share of the time: else the choice would follow the noise
RUNS, AT_A_TIME, LONGEST_S = 60, 5, 2.0
TIMEOUT_S = 12.0  # systemd's watchdog waits for 15; what takes longer is too slow or too busy a machine to tell
CACHE_NAME = "engines.json"
KEPT = 16  # choices that are remembered


@dataclass(frozen=True)
class ModelOptions:
    """The model that judges what the camera sees."""

    bundle: Path = Path("model/edge")  # the folder that `convert` wrote
    variant: str | None = None  # one of its files by name; none: the one that the card deploys, in the engine below
    engine: EngineName = "auto"  # litert, onnx, or auto: the faster of them here (extra `onnx`); never another precision
    threads: int = 2  # of one inference; 1 to 64

    def __post_init__(self) -> None:
        if self.engine not in get_args(EngineName):
            raise ConfigError(f"engine must be one of {', '.join(get_args(EngineName))}, got {self.engine!r}")
        if not 1 <= self.threads <= 64:
            raise ConfigError(f"threads must be 1 to 64, got {self.threads}")
        if self.variant is not None and self.engine != "auto":
            raise ConfigError(f"a variant has its engine, but both are named ({self.variant}, {self.engine}); leave one out")


@dataclass(frozen=True)
class Choice:
    """The variant that runs here, and why; `latency_ms` holds the median of each that was measured."""

    variant: str
    reason: str
    latency_ms: Mapping[str, float]


def open_model(options: ModelOptions, *, threads: int | None = None) -> Classifier:
    """The classifier of the bundle's file that is to run here, in `threads` or as many as `options` say.

    Fewer threads change nothing of the choice: a board that is short of power or hot has no time to measure engines.

    Raises:
        ModelCardError: the bundle is not whole, deploys nothing, or holds no such file.
        EngineError: the file's engine is not installed or cannot load it.
    """
    threads = options.threads if threads is None else threads
    if options.variant is not None:
        return Classifier(options.bundle, variant=options.variant, threads=threads)
    bundle, card = read_bundle(options.bundle)
    choice = choose(bundle, card, engine=options.engine, threads=options.threads)
    logger.info("%s: %s", choice.variant, choice.reason)
    return Classifier(bundle, variant=choice.variant, threads=threads)


def choose(bundle: Path, card: ModelCard, *, engine: EngineName = "auto", threads: int = 2, fresh: bool = False) -> Choice:
    """What runs here of the precision that the card deploys.

    Where either engine could run it, and nothing is remembered, or a `fresh` measurement is wanted, this takes two seconds.

    Raises:
        ModelCardError: the card deploys nothing, or has no file of that precision for the named `engine`.
    """
    if card.deploy is None:
        raise ModelCardError(f"no variant of {bundle} was promoted; name one of {', '.join(card.files)}")
    deployed, other = card.deploy, _counterpart(card.deploy)
    if engine not in ("auto", _engine_of(deployed)):
        if other in card.files:
            return Choice(other, f"{deployed} with the engine that was named", {})
        raise ModelCardError(f"{bundle} has no {deployed} for {engine}, only {', '.join(card.files)}; leave engine = auto")
    if engine != "auto" or other not in card.files:
        return Choice(deployed, "what the card deploys", {})
    if not any(map(find_spec, PACKAGES[_engine_of(other)])):
        return Choice(deployed, f"what the card deploys; {PACKAGES[_engine_of(other)][0]} is not installed", {})
    return _faster(deployed, other, _latency_ms(bundle, card, (deployed, other), threads, fresh=fresh))


def _faster(deployed: str, other: str, latency_ms: Mapping[str, float]) -> Choice:
    if not latency_ms:
        return Choice(deployed, "what the card deploys; it could not be timed against the other engine", {})
    facts = ", ".join(f"{name} {latency_ms[name]:.3g} ms" for name in (deployed, other))
    if latency_ms[other] < WORTH * latency_ms[deployed]:
        return Choice(other, f"the faster engine here ({facts})", latency_ms)
    return Choice(deployed, f"what the card deploys; {other} is not clearly faster here ({facts})", latency_ms)


def _counterpart(variant: str) -> str:
    """The name of the other engine's file of the same precision."""
    return variant.removeprefix(ONNX) if variant.startswith(ONNX) else ONNX + variant


def _engine_of(variant: str) -> str:
    return "onnx" if variant.startswith(ONNX) else "litert"


# -------------------------------------------------------------------------------------------------- what is remembered


def cache_folder() -> Path:
    """Where what can be found out again is remembered: the unit's cache directory under systemd, else the user's."""
    if unit := os.environ.get("CACHE_DIRECTORY"):
        return Path(unit.split(":")[0])
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path's raises without a home
    return Path(cache) / "pawlatch"


def _latency_ms(bundle: Path, card: ModelCard, pair: Sequence[str], threads: int, *, fresh: bool) -> dict[str, float]:
    """Remembered or measured; empty where it cannot be measured, or where the result could not be kept for the next start."""
    path = cache_folder() / CACHE_NAME
    files = [f"{name}={card.files[name].sha256[:16]}" for name in pair]
    key = " ".join([*_machine(), f"threads={threads}", *files, *_versions()])
    known = _read(path)
    if key in known and not fresh:
        return known.pop(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(known, indent=1))
        known = {**known, key: _measured(bundle, pair, threads)}
        write_atomic(path, json.dumps(dict(list(known.items())[-KEPT:]), indent=1))
    except OSError as error:
        logger.warning("which engine is faster is not measured, since it cannot be kept: %s", error)
        return {}
    return known[key]


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {key: {name: float(ms) for name, ms in latency_ms.items()} for key, latency_ms in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):  # none yet, or none of ours
        return {}


def _machine() -> list[str]:
    """The processor, or the board: a memory card may move to another."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.is_file() else []
    models = {line.partition(":")[2].strip() for line in lines if line.lower().startswith("model")}
    return [platform.machine(), f"cores={os.cpu_count()}", *sorted(models)]


def _versions() -> list[str]:
    """By the names of the packages' folders: importlib.metadata takes longer to import than all of this to run."""
    found = {name: spec.origin for names in PACKAGES.values() for name in names if (spec := find_spec(name)) and spec.origin}
    return [folder.name for name, origin in found.items() for folder in sorted(Path(origin).parents[1].glob(f"{name}-*"))]


# ------------------------------------------------------------------------------------------------- in a process of its own


def _measured(bundle: Path, variants: Sequence[str], threads: int) -> dict[str, float]:
    """The median latency of each; empty where that process fails, so that it is not tried at every start."""
    import subprocess  # takes longer to import than this module does, and is needed once

    command = [sys.executable, "-P", "-m", __name__, str(bundle), str(threads), *variants]  # -P: nothing from this folder
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        logger.warning("the engines could not be compared: %s", error)
        return {}
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines() or [f"status {done.returncode}"]
        logger.warning("the engines could not be compared: %s", said[-1])
        return {}
    return {name: float(ms) for name, ms in json.loads(done.stdout).items()}


def _main(bundle: str, threads: str, *variants: str) -> int:
    try:
        classifiers = {name: Classifier(bundle, variant=name, threads=int(threads)) for name in variants}
        pixels = np.random.default_rng(0).integers(0, 256, (*next(iter(classifiers.values())).card.input.size_hw, 3), np.uint8)
        calls = {name: lambda classifier=classifier: classifier.predict(pixels) for name, classifier in classifiers.items()}
        taken = interleaved_ms(calls, runs=RUNS, at_a_time=AT_A_TIME, longest_s=LONGEST_S)
    except PawlatchError as error:
        sys.stdout.write(str(error))
        return 1
    json.dump({name: float(np.median(ms)) for name, ms in taken.items()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
