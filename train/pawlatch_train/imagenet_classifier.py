"""A network that names ImageNet's 1,000 classes: MobileNetV2 with its top, or any classifier of TF-Hub."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import WeightsError
from pawlatch_train.families import DEFAULT_SIZE
from pawlatch_train.features import Weights, first_line
from pawlatch_train.hub import expected_hw, load_module, one_of
from pawlatch_train.imagenet_classes import CLASSES
from pawlatch_train.keras import keras, tf
from pawlatch_train.weights import imagenet_weights, load_weights

BACKGROUND = 1  # the class that TF-Hub's classifiers have before the others


@dataclass(frozen=True)
class ImagenetClassifier:
    """`size_hw` is what it takes; `run` turns float32 RGB 0..255 (n, H, W, 3) into (n, 1000) or (n, 1001) logits or
    probabilities."""

    source: str
    size_hw: tuple[int, int]
    run: Callable[[NDArray[np.float32]], NDArray[np.float32]]

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Probabilities (n, 1000) of fitted pictures (n, H, W, 3), RGB. Raises WeightsError where it has other classes."""
        return to_probabilities(self.run(images.astype(np.float32)), source=self.source)


def open_classifier(weights: str, *, width: float) -> ImagenetClassifier:
    """Open `imagenet`, a file of MobileNetV2's weights with the top, or `hub:` with a handle or the folder of a SavedModel.

    Raises:
        WeightsError: it cannot be had here, or is no such classifier.
    """
    if weights.startswith("hub:"):
        return _open_hub(weights.removeprefix("hub:"))
    path = find_top_weights(weights, width=width)
    model = build_with_top(path, width=width, size=DEFAULT_SIZE)
    size_hw = (DEFAULT_SIZE, DEFAULT_SIZE)
    return ImagenetClassifier(path.name, size_hw, lambda pixels: model(pixels / 127.5 - 1, training=False).numpy())


def to_probabilities(outputs: NDArray[np.float32], *, source: str) -> NDArray[np.float64]:
    """Probabilities (n, 1000) from what a classifier gave: softmax where they are logits, without a background.

    Raises:
        WeightsError: neither 1,000 nor 1,001 finite numbers a picture.
    """
    if outputs.ndim != 2 or outputs.shape[1] not in (CLASSES, CLASSES + BACKGROUND):
        raise WeightsError(
            f"an ImageNet classifier gives {CLASSES} or {CLASSES + BACKGROUND} scores a picture, but {source} gives the shape "
            f"{outputs.shape}; a feature vector is for train --backbone hub:"
        )
    if not np.isfinite(outputs).all():
        raise WeightsError(f"{source} gives scores that are not finite numbers; load it again")
    scores = outputs.astype(np.float64)
    is_probability = scores.min() >= 0 and np.allclose(scores.sum(1), 1, atol=1e-2)
    if not is_probability:
        scores = np.exp(scores - scores.max(1, keepdims=True))
    scores = scores[:, -CLASSES:]
    return np.asarray(scores / scores.sum(1, keepdims=True))


# --- MobileNetV2 as Keras keeps it ---


def find_top_weights(wanted: str, *, width: float) -> Path:
    """The file with the top that Keras itself would load, from its cache or downloaded into it; else the file `wanted`.

    Raises:
        WeightsError: it cannot be had here.
    """
    if wanted in ("auto", "imagenet"):
        instead = "name a file of weights or hub:FOLDER with --weights"
        return Path(imagenet_weights("mobilenet_v2", width=width, size=None, top=True, instead=instead).origin)
    if not Path(wanted).is_file():
        raise WeightsError(f"--weights must be imagenet or a file of weights with the top, but there is no file {wanted}")
    return Path(wanted)


def build_with_top(path: Path, *, width: float, size: int) -> Any:
    """MobileNetV2 from scaled pixels (n, size, size, 3) in [-1, 1] to logits (n, 1000); its last layer is `predictions`.

    Raises:
        WeightsError: the file does not fit.
    """
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=width, weights=None, classes=CLASSES, classifier_activation=None
    )
    load_weights(model, Weights("file", str(path), width, size), top=True)
    return model


# --- TF-Hub ---


def _open_hub(handle: str) -> ImagenetClassifier:
    """A classifier that takes [0, 1], as TF-Hub's image modules do, by its signature or as a callable."""
    module = load_module(handle)
    signature = module.signatures.get("serving_default")
    if signature is None and not callable(module):
        raise WeightsError(f"hub:{handle} has neither a call nor a signature; it is no classifier")
    functions = module.__call__.concrete_functions if signature is None else [signature]
    size_hw = expected_hw(functions) or (DEFAULT_SIZE, DEFAULT_SIZE)

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        scaled = tf.constant(pixels / 255)
        try:
            outputs = module(scaled) if signature is None else signature(**{_input_name(signature): scaled})
            if isinstance(outputs, dict):
                outputs = outputs[one_of(outputs, "default", "logits", "predictions")]
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise WeightsError(
                f"hub:{handle} is no classifier: it must turn (n, {size_hw[0]}, {size_hw[1]}, 3) in 0..1 into one tensor of "
                f"scores ({first_line(error)})"
            ) from error
        return np.asarray(outputs)

    return ImagenetClassifier(f"hub:{handle}", size_hw, run)


def _input_name(function: Any) -> str:
    return str(next(iter(function.structured_input_signature[1])))
