"""What is broken on purpose: `python sabotages.py NAME CONVERT_ARGUMENTS` runs the public command with one part replaced.

`SABOTAGES[name](replace)` does it through `replace(owner, attribute, value)`: `setattr` here, monkeypatch's within a test.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pawlatch import cli, image, photos
from pawlatch.classify import Classifier, Prediction
from pawlatch.image import Image
from pawlatch.photos import Photo, SetAside
from pawlatch_convert import bundle, photoset, pipeline, ranges, recipes

Replace = Callable[[Any, str, Any], None]

# ---------------------------------------------------------------------------- what photos become before the model sees them


def bgr(replace: Replace) -> None:
    """Nobody turns OpenCV's order of colours around."""
    honest = image.decode_image
    replace(image, "decode_image", lambda data, **name: honest(data, **name)[..., ::-1])


def unit_scale(replace: Replace) -> None:
    """Pixels become [0, 1] where the graph was made for [-1, 1]: what 0..255 becomes if only its upper half is used."""
    honest = image._resize
    replace(image, "_resize", lambda picture, size_hw, **how: (honest(picture, size_hw, **how) / 2 + 127.5).astype(np.uint8))


def nearest(replace: Replace) -> None:
    """Every n-th pixel, without the means of those between."""
    replace(image, "_resize", lambda picture, hw, **how: cv2.resize(picture, hw[::-1], interpolation=cv2.INTER_NEAREST))


def no_exif(replace: Replace) -> None:
    """Photos stay as the sensor lay."""
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    replace(image, "decode_image", lambda data, **name: cv2.imdecode(np.frombuffer(data, np.uint8), flags))


def on_the_device(sabotage: Callable[[Replace], None]) -> Callable[[Replace], None]:
    """The same, but for the converted files alone: the SavedModel, and calibration, see what they should."""

    def apply(replace: Replace) -> None:
        honest_read, honest_fit, honest_predict = photos.read_photos, image.fit, Classifier.predict
        seen: dict[bytes, Image] = {}  # the pixels that a photo should become -> those that it becomes here
        now: list[Path] = []

        def read_photos(of: Iterable[Photo], set_aside: list[SetAside]) -> Iterator[tuple[Photo, Image]]:
            for photo, picture in honest_read(of, set_aside):
                now[:] = [photo.path]
                yield photo, picture

        def fit(picture: Image, size_hw: tuple[int, int], **policy: Any) -> Image:
            right = honest_fit(picture, size_hw, **policy)
            kept = {name: getattr(image, name) for name in ("decode_image", "_resize")}
            sabotage(setattr)
            seen[right.tobytes()] = honest_fit(image.read_image(now[0]), size_hw, **policy)
            for name, function in kept.items():
                setattr(image, name, function)
            return right

        def predict(self: Classifier, fitted: Image) -> Prediction:
            return honest_predict(self, seen[fitted.tobytes()])

        replace(photoset, "read_photos", read_photos)
        replace(photoset, "fit", fit)
        replace(Classifier, "predict", predict)

    return apply


# --------------------------------------------------------------------------------------------------------- calibration


def widened(times: float) -> Callable[[Replace], None]:
    """Activations are taken to reach farther than they do."""

    def apply(replace: Replace) -> None:
        def estimate(*arguments: Any) -> dict[int, tuple[float, float]]:
            return {tensor: (times * low, times * high) for tensor, (low, high) in ranges.estimate(*arguments).items()}

        replace(recipes, "estimate", estimate)

    return apply


# ------------------------------------------------------------------------------------------------------ the plug is pulled


def pull_the_plug(signal_number: int = signal.SIGKILL) -> None:
    """End this process as it stands."""
    os.kill(os.getpid(), signal_number)


def before(owner: Any, name: str, signal_number: int = signal.SIGKILL, *,
           when: Callable[..., bool] = lambda *arguments: True) -> Callable[[Replace], None]:
    """End the process where a function is called."""

    def apply(replace: Replace) -> None:
        honest = getattr(owner, name)

        def function(*arguments: Any, **named: Any) -> Any:
            if when(*arguments):
                pull_the_plug(signal_number)
            return honest(*arguments, **named)

        replace(owner, name, function)

    return apply


def after(owner: Any, name: str, *, when: Callable[..., bool]) -> Callable[[Replace], None]:
    """End the process where a function has done its work."""

    def apply(replace: Replace) -> None:
        honest = getattr(owner, name)

        def function(*arguments: Any, **named: Any) -> None:
            honest(*arguments, **named)
            if when(*arguments):
                pull_the_plug()

        replace(owner, name, function)

    return apply


def is_of_the_bundle(card: Any, folder: Path) -> bool:
    """Whether a card is written where the device will read it."""
    return folder.name == "edge"


SABOTAGES: dict[str, Callable[[Replace], None]] = {
    "none": lambda replace: None,
    "bgr": bgr, "unit_scale": unit_scale, "nearest": nearest, "no_exif": no_exif,
    "device_bgr": on_the_device(bgr), "device_unit_scale": on_the_device(unit_scale),
    "device_nearest": on_the_device(nearest), "device_no_exif": on_the_device(no_exif),
    "ranges_ten_times_too_wide": widened(10), "ranges_hundred_times_too_wide": widened(100),
    "kill_after_staging": before(pipeline, "promote"),
    "kill_after_the_first_file": after(bundle, "write_atomic", when=lambda path, data: path.suffix == ".tflite"),
    "kill_before_the_commit": before(bundle.ModelCard, "write", when=is_of_the_bundle),
    "kill_after_the_commit": after(bundle.ModelCard, "write", when=is_of_the_bundle),
    "kill_before_the_sweep": before(bundle, "sweep"),
    "interrupt_before_the_commit": before(bundle.ModelCard, "write", signal.SIGINT, when=is_of_the_bundle),
}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    SABOTAGES[sys.argv[1]](setattr)
    sys.argv = ["convert", *sys.argv[2:]]
    sys.exit(cli.convert())
