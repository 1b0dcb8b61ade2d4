"""What pawlatch makes of pictures, bundles and clips on this machine, as JSON. Runs alike on the desktop and in the root.

    python probe.py JOB.json RESULT.json

Needs an installed pawlatch and nothing of the repository. JOB names `pictures` (a folder), `clips`, and `models`, each with `bundle`,
`photos` (a folder for each label) and `clips`. The commands are run as a user would type them.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.camera import clip_frames
from pawlatch.card import read_bundle
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError
from pawlatch.gate import Gate
from pawlatch.image import FIT_POLICIES, Image, fit, read_image
from pawlatch.photos import list_splits

SIZES_HW = ((224, 224), (96, 160), (33, 57))
DELEGATE = "Created TensorFlow Lite XNNPACK delegate for CPU"
LIBRARIES = ("pawlatch", "numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime")


def main(job_path: str, result_path: str) -> int:
    job = json.loads(Path(job_path).read_text())
    result: dict[str, Any] = {"place": _place(), "decoded": {}, "fitted": {}, "frames": {}, "gate": {}, "models": {}}
    for path in sorted(Path(job["pictures"]).iterdir()):
        image = read_image(path)
        result["decoded"][path.name] = _sha256(image)
        result["fitted"] |= {f"{path.name} {name}": _sha256(fitted) for name, fitted in _all_fits(image)}
    for clip in job["clips"]:
        result["frames"][Path(clip).name], result["gate"][Path(clip).name] = _watched(clip)
    said: list[str] = []
    for name, of in job["models"].items():
        bundle, card = read_bundle(Path(of["bundle"]))
        photos = {f"{photo.label}/{photo.path.name}": photo.path for photo in _judged(Path(of["photos"]))}
        images = {key: read_image(path) for key, path in photos.items()}
        result["decoded"] |= {f"{name} {key}": _sha256(image) for key, image in images.items()}
        variants = [variant for variant, file in card.files.items() if file.format == "tflite"]
        result["models"][name] = {}
        for variant in variants:
            try:
                classifier = Classifier(bundle, variant=variant, threads=1)
            except EngineError as error:  # TFLite's former runtime lacks some operators
                result["models"][name][variant] = {"refused": str(error)}
                continue
            pixels = {key: classifier.fit(image) for key, image in images.items()}
            result["fitted"] |= {f"{name} {key}": _sha256(fitted) for key, fitted in pixels.items()}
            evaluated, error = _pawlatch("evaluate", bundle, of["photos"], "--variant", variant)
            said.append(error)
            told: dict[str, Any] = {"photos": {key: _judge(classifier, fitted) for key, fitted in pixels.items()},
                                    "evaluate": evaluated, "visits": {}}
            for clip in of["clips"] if variant in ("int8", "float32") else []:
                replayed, error = _pawlatch("replay", bundle, clip, "--variant", variant)
                said.append(error)
                told["visits"][Path(clip).name] = replayed["clips"][0]["visits"]
            result["models"][name][variant] = told
    result["xnnpack"] = bool(said) and all(DELEGATE in error for error in said)
    Path(result_path).write_text(json.dumps(result, indent=1))
    return 0


def _place() -> dict[str, Any]:
    found = {of.metadata["Name"]: of.version for of in metadata.distributions()}
    return {"machine": platform.machine(), "python": platform.python_version(),
            "versions": {name: found[name] for name in LIBRARIES if name in found}}


def _all_fits(image: Image) -> Iterator[tuple[str, Image]]:
    """Each policy at each size, of all of the picture and of a box of odd place and size; as a camera's frame too."""
    height, width = image.shape[:2]
    box = (height // 7, width // 5, height - height // 9, width - width // 11)
    for size_hw in SIZES_HW:
        for policy in FIT_POLICIES:
            what = f"{policy} {size_hw[0]}×{size_hw[1]}"
            yield what, fit(image, size_hw, policy=policy)
            yield f"{what}, box", fit(image, size_hw, policy=policy, box_yxyx=box)
    yield "frame", fit(image, SIZES_HW[0], bgr_to_rgb=True)


def _watched(clip: str) -> tuple[str, str]:
    """Hashes of a clip's pixels, and of what the gate says of each frame: where, or why not."""
    pixels, gate, said = hashlib.sha256(), Gate(), []
    for frame in clip_frames(clip):
        pixels.update(np.ascontiguousarray(frame.image_bgr).tobytes())
        seen = gate(frame)
        said.append(f"{seen.moved} {seen.box_yxyx} {seen.infrared} {seen.camera} {seen.refusal}")
    return pixels.hexdigest(), hashlib.sha256("\n".join(said).encode()).hexdigest()


def _judged(folder: Path) -> list[Any]:
    splits = list_splits(folder)
    return next(splits[name] for name in ("test", "valid", "", "train") if name in splits)


def _judge(classifier: Classifier, fitted_rgb: Image) -> dict[str, Any]:
    prediction, card = classifier.predict(fitted_rgb), classifier.card
    opens = bool(card.unlock) and prediction.score_of(card.unlock) >= card.threshold(classifier.variant)
    return {"scores": prediction.scores.tolist(), "label": prediction.label, "opens": opens}


def _pawlatch(*arguments: object) -> tuple[Any, str]:
    """What a command printed as JSON, and what it (and its libraries) said beside that."""
    command = [Path(sys.executable).with_name("pawlatch"), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pawlatch {' '.join(map(str, arguments))} ended with status {done.returncode}: {done.stderr}")
    return json.loads(done.stdout), done.stderr


def _sha256(image: Image) -> str:
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
