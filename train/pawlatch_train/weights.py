"""Where the weights of a family come from, and how they get into it."""

from __future__ import annotations

import http.client
import logging
import os
import urllib.request
import zipfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.errors import WeightsError
from pawlatch.files import write_atomic
from pawlatch_train.families import BACKBONES, DEFAULT_SIZE, IMAGENET_STD, normalizations, set_variance
from pawlatch_train.features import Weights, first_line
from pawlatch_train.keras import keras
from pawlatch_train.layers import SCALING, output_of

log = logging.getLogger(__name__)

STARTER_WIDTH, STARTER_SIZE = 0.35, 128
STARTER_FILE = "starter-mobilenet_v2-0.35.npz"
TIMEOUT_S = 20.0
HDF5 = b"\x89HDF\r\n\x1a\n"


# --- finding ---


def starter_weights(name: str, *, width: float | None) -> Weights:
    """Those that pawlatch brings, for the one backbone that has them; `width` is None where the user did not ask.

    Raises:
        WeightsError: this backbone has none.
    """
    if name != "mobilenet_v2":
        raise WeightsError(f"the starter is a mobilenet_v2, and there is none for {name}; use --weights none or a file")
    if width not in (None, STARTER_WIDTH):
        raise WeightsError(f"the starter backbone has width {STARTER_WIDTH}, got --width {width:g}; leave --width away")
    return Weights("starter", str(resources.files("pawlatch_train") / STARTER_FILE), STARTER_WIDTH, STARTER_SIZE)


def imagenet_weights(name: str, *, width: float | None, size: int | None, top: bool = False, instead: str) -> Weights:
    """The file Keras itself would load, from its cache, or downloaded into it; a size without a file takes the 224 one.

    Args:
        top: with the layer that names ImageNet's classes.
        instead: what to do where it cannot be had; the end of a sentence.

    Raises:
        WeightsError: it cannot be had here.
    """
    family = BACKBONES[name]
    if width is not None and width not in family.widths:
        raise WeightsError(f"ImageNet weights of {name} exist for widths {', '.join(map(str, family.widths))}, got {width:g}")
    file = family.imagenet_file.replace("_no_top", "") if top else family.imagenet_file
    sizes = {file.format(width=width, size=trained): trained for trained in (size, DEFAULT_SIZE) if trained in family.sizes}
    path = _kept_by_keras(family.url, list(sizes), instead=instead)
    return Weights("imagenet", str(path), width, sizes[path.name])


def _kept_by_keras(url: str, files: Sequence[str], *, instead: str) -> Path:
    """The first of `files` in Keras's cache; where there is none, the first of all, downloaded into it."""
    own = Path.home() / ".keras"
    for file in files:
        for home in (Path(os.environ.get("KERAS_HOME", own)), own):
            if (home / "models" / file).is_file():
                return home / "models" / file
    return _download(url, own / "models" / files[0], instead=instead)


def _download(url: str, target: Path, *, instead: str) -> Path:
    log.info("downloading %s", url + target.name)
    try:
        with urllib.request.urlopen(url + target.name, timeout=TIMEOUT_S) as reply:
            data = reply.read()
        if not data.startswith(HDF5):
            raise OSError("what came is not HDF5")
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data)
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(
            f"{target.name} is not in {target.parent} and cannot be downloaded ({error}); put it there, set KERAS_HOME, or "
            f"{instead}"
        ) from error
    return target


# --- loading ---


def load_weights(model: Any, weights: Weights, *, top: bool = False) -> None:
    """Put `weights` into a model of `build_family`, or into one of the same with its top; of "none" there are none.

    Raises:
        WeightsError: the file does not fit this backbone.
    """
    if weights.source == "none":
        return
    path = Path(weights.origin)
    core = _without_scaling(model)
    try:
        if path.suffix == ".npz":
            load_npz(core, path)
        elif path.read_bytes()[: len(HDF5)] == HDF5:
            core.load_weights(path)
        else:
            raise OSError("neither HDF5 nor .npz")
    except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = first_line(error) if isinstance(error, OSError) else "its layers are others, or of other shapes"
        raise WeightsError(
            f"{path.name} does not hold the weights of {model.name} ({reason}); "
            f"give the file of the same backbone and width {'with' if top else 'without'} its top"
        ) from error
    _square_deviations(core)


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


def _without_scaling(model: Any) -> Any:
    """The network that files of weights are made for: without a layer of ours that has weights."""
    scaling = [layer.name for layer in model.layers if layer.name.startswith(SCALING) and layer.weights]
    return keras.Model(output_of(model, scaling[0]), model.output) if scaling else model


def _square_deviations(model: Any) -> None:
    """EfficientNet's ImageNet file has deviations where its layer wants variances, which keras.applications mends by a second
    factor (https://github.com/tensorflow/tensorflow/issues/49930); one factor does."""
    for layer in normalizations(model):
        if np.allclose(layer.get_weights()[1], IMAGENET_STD, atol=1e-3):
            set_variance(layer, np.square(IMAGENET_STD))
