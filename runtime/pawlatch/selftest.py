"""Does this machine see and decide as the one that converted the model? The bundle brings a few photos and the answers.

`edge/selftest/` holds photos, and a JSON with the SHA-256 of their fitted pixels and each variant's scores; the card vouches
for it by its hash. Another OpenCV, another LiteRT, another processor or a damaged copy show here, and not at the door.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch import __version__
from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ImageError, OutputError
from pawlatch.files import write_atomic
from pawlatch.image import Image, decode_image

logger = logging.getLogger(__name__)

FOLDER = "selftest"  # in the bundle, and the card's key for the JSON's SHA-256, in `parity`
TOLERANCE = 1e-3  # of a float score: sums may be taken in another order
_ENGINES = {"tflite": ("ai_edge_litert", "tflite_runtime"), "onnx": ("onnxruntime",)}


@dataclass(frozen=True)
class SelfTestReport:
    """What was found. `photos` is 0 where the bundle brings none; `max_delta` is the largest |difference| of a score."""

    variant: str
    photos: int = 0
    problems: tuple[str, ...] = ()
    max_delta: float = 0.0
    is_cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against this model on this machine."""
        return not self.problems

    def __str__(self) -> str:
        if self.problems:
            return f"the self-test of {self.variant} failed: {'; '.join(self.problems)}"
        if not self.photos:
            return "no self-test in this bundle; convert again to add one"
        when = ", when it was last run" if self.is_cached else ""
        return f"the self-test of {self.variant} passed: {self.photos} photos, scores within {self.max_delta:.2g}{when}"


def selftest(classifier: Classifier) -> SelfTestReport:
    """Run a model on its bundle's photos, and hold pixels and scores against what was measured when it was converted.

    Pixels must be the same, byte for byte; scores too, where every operator of the file is integer. Other scores may differ
    by TOLERANCE while the label and the door's decision stay.
    """
    digest = classifier.card.parity.get(FOLDER)
    if digest is None:
        return SelfTestReport(classifier.variant)
    try:
        expected = read_expected(classifier.bundle, digest)
        photos, answers = expected["photos"], expected["variants"][classifier.variant]
        if len(answers["scores"]) != len(photos):
            raise ValueError(f"it has {len(photos)} photos and answers for {len(answers['scores'])}")
        deltas, problems = [0.0], []
        for photo, scores in zip(photos, answers["scores"], strict=True):
            problem, delta = _examined(classifier, photo, np.array(scores, np.float32), exact=answers["exact"])
            problems += [problem] if problem else []
            deltas.append(delta)
    except EngineError as error:
        return SelfTestReport(classifier.variant, problems=(str(error),))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return SelfTestReport(classifier.variant, problems=(f"{_detail(error)}; copy the bundle again or convert again",))
    if problems:
        problems.append(_versions(expected["made_with"], classifier))
    return SelfTestReport(classifier.variant, len(photos), tuple(problems), max(deltas))


def selftest_once(classifier: Classifier, *, state: Path) -> SelfTestReport:
    """As `selftest`, but not run again while `state` says that it passed with this card, variant and these libraries.

    Nothing is raised where `state` cannot be read or written: then it is run each time.
    """
    key = _key(classifier)
    if (passed := _passed(state, key, classifier.variant)) is not None:
        return passed
    report = selftest(classifier)
    if report.ok and report.photos:
        try:
            write_atomic(state, json.dumps({"key": key, "photos": report.photos, "max_delta": report.max_delta}) + "\n")
        except OutputError as error:
            logger.info("the self-test will run at each start: %s", error)
    return report


def name_of(digest: str) -> str:
    """The JSON's name in the folder: by its content, so that the previous card's stays beside it."""
    return f"selftest-{digest[:8]}.json"


def read_expected(bundle: Path, digest: str) -> dict[str, Any]:
    """The self-test that a card names.

    Raises:
        OSError, ValueError: it is missing, or not what the card vouches for.
    """
    path = bundle / FOLDER / name_of(digest)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(f"{path} is not the file its card vouches for")
    expected: dict[str, Any] = json.loads(data)
    return expected


def pixels_sha256(fitted_rgb: Image) -> str:
    """Hex SHA-256 of fitted pixels, uint8 (H, W, 3)."""
    return hashlib.sha256(np.ascontiguousarray(fitted_rgb).tobytes()).hexdigest()


def versions(card: ModelCard, variant: str) -> dict[str, str]:
    """What computes here: OpenCV, the engine that runs the variant (once it is loaded), and the processor's family."""
    name = next((name for name in _ENGINES[card.files[variant].format] if name in sys.modules), "no engine")
    engine = getattr(sys.modules.get(name), "__version__", "?")
    return {"opencv": cv2.__version__, name: engine, "machine": platform.machine()}


def _examined(classifier: Classifier, photo: dict[str, Any], expected: NDArray[np.float32], *,
              exact: bool) -> tuple[str, float]:
    """What is wrong with one photo ("" if nothing), and how far its scores lie from those expected."""
    path = classifier.bundle / FOLDER / photo["file"]
    try:
        fitted = classifier.fit(decode_image(path.read_bytes(), name=str(path)))
    except ImageError as error:
        return str(error), 0.0
    scores = classifier.predict(fitted).scores
    if scores.shape != expected.shape:
        return f"{path.name} gets {scores.size} scores instead of {expected.size}", 1.0
    delta = float(np.abs(scores - expected).max())
    if pixels_sha256(fitted) != photo["pixels_sha256"]:
        return f"{path.name} ({photo['label']}) becomes other pixels here, its scores differ by up to {delta:.2g}", delta
    if exact and not np.array_equal(scores, expected):
        return f"{path.name} ({photo['label']}) gets scores that differ by up to {delta:.2g}, from integers alone", delta
    if not delta <= TOLERANCE or _decision(classifier, scores) != _decision(classifier, expected):
        return f"{path.name} ({photo['label']}) gets scores that differ by up to {delta:.2g}; {TOLERANCE:g} may be", delta
    return "", delta


def _detail(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename} cannot be read ({error.strerror})"
    return f"it holds nothing of {error}" if isinstance(error, KeyError) else str(error)


def _decision(classifier: Classifier, scores: NDArray[np.float32]) -> tuple[int, bool]:
    """The best label, and whether a frame with these scores speaks for opening."""
    card, variant = classifier.card, classifier.variant
    if not card.unlock or card.operating_points.keys().isdisjoint({variant, SAVED_MODEL}):
        return int(scores.argmax()), False
    unlock = sum(float(scores[card.labels.index(label)]) for label in card.unlock)
    return int(scores.argmax()), unlock >= card.threshold(variant)


def _versions(made_with: dict[str, str], classifier: Classifier) -> str:
    told = [", ".join(f"{name} {version}" for name, version in them.items())
            for them in (made_with, versions(classifier.card, classifier.variant))]
    return f"converted with {told[0]}; here run {told[1]}"


def _key(classifier: Classifier) -> str:
    """What a green self-test holds for: the model's file, the answers, what decides, the libraries and the machine."""
    card, variant = classifier.card, classifier.variant
    here = versions(card, variant)
    parts = [card.files[variant].sha256, card.parity.get(FOLDER), card.labels, card.unlock, card.input,
             card.operating_points.get(variant), card.operating_points.get(SAVED_MODEL), __version__, *here.items()]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _passed(state: Path, key: str, variant: str) -> SelfTestReport | None:
    try:
        noted = json.loads(state.read_bytes())
        if noted["key"] != key:
            return None
        return SelfTestReport(variant, int(noted["photos"]), max_delta=float(noted["max_delta"]), is_cached=True)
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged: then it is run
        return None
