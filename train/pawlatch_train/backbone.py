"""MobileNetV2 backbones and where their weights come from: the Keras cache, the download, or the starter in this package."""

from __future__ import annotations

import logging
import os
import urllib.request
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.errors import WeightsError
from pawlatch.files import write_atomic
from pawlatch_train.keras import keras

log = logging.getLogger(__name__)

WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
SIZES = (96, 128, 160, 192, 224)
STARTER_WIDTH, STARTER_SIZE = 0.35, 128
STARTER_FILE = "starter-mobilenet_v2-0.35.npz"
DOWNLOAD = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet_v2/"


@dataclass(frozen=True)
class Weights:
    """Backbone weights that were found: which, where, for which width, and at which input size they were trained."""

    source: str  # "imagenet", "starter" or "file"
    path: Path
    width: float
    trained_size: int


def find_weights(wanted: str, *, width: float | None, size: int | None, default_width: float = 1.0) -> Weights:
    """Resolve `--weights auto|imagenet|starter|PATH`.

    `width` and `size` are None where the user did not ask; then the width follows from the weights.

    Raises:
        WeightsError: what was asked for cannot be had here.
    """
    if wanted == "starter":
        return _starter(width)
    if wanted in ("auto", "imagenet"):
        try:
            return _imagenet(width or default_width, size)
        except WeightsError as error:
            if wanted == "imagenet" or width not in (None, STARTER_WIDTH):
                raise
            log.warning("no ImageNet weights: %s", error)
            return _starter(width)
    path = Path(wanted)
    if not path.is_file():
        raise WeightsError(f"--weights must be auto, imagenet, starter or a file, but there is no file {wanted}")
    return Weights("file", path, width or default_width, size or 224)


def build_backbone(weights: Weights | None, *, width: float, size: int) -> Any:
    """A keras.Model from scaled pixels (n, size, size, 3) in [-1, 1] to feature maps (n, size/32, size/32, 1280).

    `weights` None leaves it random.

    Raises:
        WeightsError: the file does not fit this backbone.
    """
    model = keras.applications.MobileNetV2(
        input_shape=(size, size, 3), alpha=width, include_top=False, weights=None
    )
    model._name = f"mobilenet_v2_{width:g}"
    if weights is None:
        return model
    try:
        if weights.path.suffix == ".npz":
            load_npz(model, weights.path)
        else:
            model.load_weights(weights.path)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsError(
            f"{weights.path.name} does not hold the weights of MobileNetV2 width {width:g} ({str(error).splitlines()[0]}); "
            "give the file of the same width without its top, or another --width"
        ) from error
    return model


def save_npz(model: Any, path: Path) -> None:
    """Keep a model's weights as float16, in the order of its layers."""
    arrays = {f"{i:03d}": value.astype(np.float16) for i, value in enumerate(model.get_weights())}
    np.savez_compressed(path, **arrays)


def load_npz(model: Any, path: Path) -> None:
    """Put back what `save_npz` kept.

    Raises:
        ValueError: the shapes differ.
    """
    with np.load(path) as arrays:
        model.set_weights([arrays[key].astype(np.float32) for key in sorted(arrays.files)])


def _starter(width: float | None) -> Weights:
    if width not in (None, STARTER_WIDTH):
        raise WeightsError(f"the starter backbone has width {STARTER_WIDTH}, got --width {width:g}; leave --width away")
    return Weights("starter", Path(str(resources.files("pawlatch_train") / STARTER_FILE)), STARTER_WIDTH, STARTER_SIZE)


def _imagenet(width: float, size: int | None) -> Weights:
    """The file Keras itself would load, from its cache, or downloaded into it; a size without a file takes the 224 one."""
    if width not in WIDTHS:
        raise WeightsError(f"ImageNet weights exist for widths {', '.join(map(str, WIDTHS))}, got {width:g}")
    trained_sizes = [size, 224] if size in SIZES and size != 224 else [224]
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    for trained_size in trained_sizes:
        for folder in (home / "models", Path.home() / ".keras" / "models"):
            path = folder / _keras_name(width, trained_size)
            if path.is_file():
                return Weights("imagenet", path, width, trained_size)
    trained_size = trained_sizes[0]
    return Weights("imagenet", _download(_keras_name(width, trained_size)), width, trained_size)


def _keras_name(width: float, size: int) -> str:
    return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{float(width)}_{size}_no_top.h5"


def _download(name: str) -> Path:
    target = Path.home() / ".keras" / "models" / name
    try:
        with urllib.request.urlopen(DOWNLOAD + name, timeout=20) as reply:
            data = reply.read()
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data)
    except OSError as error:
        raise WeightsError(
            f"{name} is not in {target.parent} and cannot be downloaded ({error}); put it there, set KERAS_HOME, or use "
            "--weights starter"
        ) from error
    return target
