"""Backbones by the name that a user gives: a family of keras.applications, a module of TF-Hub, or a model of their own."""

from __future__ import annotations

import logging
from pathlib import Path

from pawlatch.errors import WeightsError
from pawlatch_train.families import BACKBONES, DEFAULT_SIZE, build_family
from pawlatch_train.features import Backbone, BackboneError, Weights
from pawlatch_train.hub import open_hub
from pawlatch_train.loaded import open_model
from pawlatch_train.weights import STARTER_WIDTH, imagenet_weights, load_weights, starter_weights

log = logging.getLogger(__name__)

WIDEST = 4.0
TARGET_WIDTHS = {"pi5": 1.0, "pi4": 1.0, "pi-zero2": 0.35, "desktop": 1.0}


def open_backbone(
    name: str, *, weights: str, width: float | None, size: int | None, target: str, cut_at: str | None = None
) -> Backbone:
    """Find, load and lay out a backbone.

    Args:
        name: a key of `BACKBONES`; `hub:` with a handle or folder; or the path of a model that Keras can load.
        weights: auto, imagenet, starter, none, or the path of a file of weights (.h5, .npz); of a key of `BACKBONES` only.
        width: the width multiplier; None follows from the weights and the target.
        size: input side in pixels; None follows from the weights.
        target: pi5, pi4, pi-zero2 or desktop; picks the width of mobilenet_v2.
        cut_at: the layer whose output is taken, of a model only; None: the last maps.

    Raises:
        WeightsError: what was asked for cannot be had here.
        BackboneError: there is no such backbone, layer or combination.
        MissingExtraError: a module of TF-Hub without tensorflow_hub.
    """
    if name in BACKBONES:
        if cut_at is not None:
            raise BackboneError(f"--cut-at is for --backbone path/to/model; {name} is taken up to its last maps")
        return _open_family(name, weights, width, size, target)
    if weights != "auto" or width is not None:
        raise BackboneError(f"--weights and --width are for {', '.join(BACKBONES)}; {name} brings its own")
    if name.startswith("hub:"):
        if cut_at is not None:
            raise BackboneError(f"--cut-at is for --backbone path/to/model; {name} is one opaque layer")
        return open_hub(name.removeprefix("hub:"), size=size)
    if not Path(name).exists():
        raise BackboneError(f"--backbone must be {', '.join(BACKBONES)}, hub:HANDLE or a model, but there is nothing at {name}")
    return open_model(Path(name), size=size, cut_at=cut_at)


def describe(backbone: Backbone) -> str:
    """One line about what training begins with; loud where it is only the starter."""
    weights = backbone.weights
    if weights.source == "starter":
        return ("USING THE STARTER BACKBONE (MobileNetV2 0.35, trained by pawlatch on few pictures): good for a first "
                "look; ImageNet weights make a better door, see --weights")
    width = "" if weights.width is None else f" {weights.width:g}"
    where = f" ({Path(weights.origin).name})" if weights.origin else ""
    told = f"backbone: {backbone.name}{width}, weights: {weights.source}{where}"
    same = weights.trained_size == backbone.size
    return told if same else f"{told}, trained at {weights.trained_size} and used at {backbone.size} pixels"


def find_weights(name: str, wanted: str, *, width: float | None, size: int | None, target: str) -> Weights:
    """Resolve `--weights auto|imagenet|starter|none|PATH` for a backbone of `BACKBONES`.

    `width` and `size` are None where the user did not ask; then they follow from the weights and the target.

    Raises:
        WeightsError: what was asked for cannot be had here.
    """
    default = TARGET_WIDTHS[target] if name == "mobilenet_v2" else 1.0
    found_width = (width or default) if BACKBONES[name].widths else None
    if wanted == "none":
        return Weights("none", "", found_width, size or DEFAULT_SIZE)
    if wanted == "starter":
        return starter_weights(name, width=width)
    if wanted in ("auto", "imagenet"):
        has_starter = name == "mobilenet_v2"
        try:
            instead = f"use --weights {'starter' if has_starter else 'none'}"
            return imagenet_weights(name, width=found_width, size=size, instead=instead)
        except WeightsError as error:
            if wanted == "imagenet" or not has_starter or width not in (None, STARTER_WIDTH):
                raise
            log.warning("no ImageNet weights: %s", error)
            return starter_weights(name, width=width)
    if not Path(wanted).is_file():
        raise WeightsError(f"--weights must be auto, imagenet, starter, none or a file, but there is no file {wanted}")
    return Weights("file", wanted, found_width, size or DEFAULT_SIZE)


def _open_family(name: str, wanted: str, width: float | None, size: int | None, target: str) -> Backbone:
    family = BACKBONES[name]
    if width is not None and not family.widths:
        raise BackboneError(f"{name} comes in one width; leave --width away")
    if width is not None and not 0 < width <= WIDEST:
        raise BackboneError(f"--width must be above 0 and at most {WIDEST:g}, got {width:g}")
    if size is not None and (size < 32 or size % 32):
        raise BackboneError(f"the input side of {name} must be a multiple of 32, got {size}")
    weights = find_weights(name, wanted, width=width, size=size, target=target)
    size = size or (weights.trained_size if weights.source == "starter" else DEFAULT_SIZE)
    model = build_family(name, width=weights.width, size=size)
    load_weights(model, weights)
    scratch = weights.source in ("starter", "none")  # has seen little, or nothing: all of it has to learn
    return Backbone(name, model, weights, size, 0 if scratch else family.fine_tune_at)
