"""Models that Keras can load, as backbones: laid flat, scaled as their family wants it, and cut below their head."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pawlatch.errors import WeightsError
from pawlatch.quiet import quiet
from pawlatch_train.families import DEFAULT_SIZE, caffe, plus_minus_one
from pawlatch_train.features import Backbone, BackboneError, Weights, first_line, require_features
from pawlatch_train.hub import hub_layer
from pawlatch_train.keras import keras, tf
from pawlatch_train.layers import (
    SCALING,
    block_of,
    cut_points,
    flatten,
    numbered,
    output_of,
    require_cut_point,
    trainable_weights,
)

log = logging.getLogger(__name__)


def open_model(path: Path, *, size: int | None, cut_at: str | None) -> Backbone:
    """A whole model, laid flat, with the scaling it lacks, and without what comes after `cut_at`.

    Raises:
        WeightsError: Keras cannot load it.
        BackboneError: it takes no pictures, or not of this size, or cannot be cut there.
    """
    try:
        with quiet():
            loaded = keras.models.load_model(path, compile=False, custom_objects=hub_layer())
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile, tf.errors.OpError) as error:
        remedy = f"other SavedModels go to --backbone hub:{path}" if path.is_dir() else "weights alone go to --weights"
        raise WeightsError(f"{path} is no model that Keras 2 can load ({first_line(error)}); {remedy}") from error
    shape = loaded.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[3] not in (3, None):
        raise BackboneError(f"a backbone takes pictures (n, h, w, 3), but {path} takes {shape}")
    own_hw = tuple(side or size or DEFAULT_SIZE for side in shape[1:3])
    size = size or own_hw[0]
    try:
        whole = _lay_out(loaded, own_hw)
        if scale := _missing_scaling(whole):
            whole = _lay_out(whole, own_hw, scale)
        model = _cut(whole, cut_at)
        if own_hw != (size, size):
            model = _lay_out(model, (size, size))
    except BackboneError:
        raise
    except ValueError as error:
        raise BackboneError(f"{path} cannot be laid out for pictures of side {size} ({first_line(error)})") from error
    require_features(model.output, f"{path} cut at {cut_at}")
    return Backbone(f"model:{path}", model, Weights("model", str(path), None, own_hw[0]), size, _sixteenth(model, size))


def _lay_out(network: Any, size_hw: tuple[int, ...], scale: Callable[[Any], Any] = lambda pixels: pixels) -> Any:
    pixels = keras.Input((*size_hw, 3), name="image")
    return keras.Model(pixels, flatten(network, scale(pixels)), name=network.name)


def _missing_scaling(flat: Any) -> Callable[[Any], Any] | None:
    """What has to come before a model that was trained on pixels scaled by others, as those of keras.applications are."""
    names = [layer.name for layer in flat.layers]
    for layer in flat.layers:
        if isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization) or layer.name.startswith(
            (SCALING, "tf.math.", "tf.__operators__.")
        ):
            return None
        if layer.weights:
            break
    for name, scale in (("block_1_expand", plus_minus_one), ("conv_dw_1", plus_minus_one), ("block1_conv1", caffe)):
        if name in names:
            return scale
    log.warning("%s has no scaling that pawlatch knows: it is given the pixels as they are, 0..255", flat.name)
    return None


def _cut(model: Any, cut_at: str | None) -> Any:
    """Up to the layer `cut_at`, else up to the last maps, else up to what goes into the last Dense."""
    if cut_at is None:
        cut_at = _default_cut(model)
    require_cut_point(model, cut_at)
    return keras.Model(model.inputs, output_of(model, cut_at), name=model.name)


def _default_cut(model: Any) -> str:
    cuts = cut_points(model)
    maps = [name for name in cuts if output_of(model, name).shape.rank == 4]
    wide = [name for name in maps if output_of(model, name).shape[1] != 1]  # 1x1 maps are a head in disguise
    if maps:
        return (wide or maps)[-1]
    dense = [name for name in cuts if isinstance(model.get_layer(name), keras.layers.Dense)]
    before = cuts[: cuts.index(dense[-1])] if dense else cuts
    if not before:
        raise BackboneError(f"{model.name} has no layers below its head; name the one to cut at with --cut-at")
    return before[-1]


def _sixteenth(model: Any, size: int) -> int | str:
    """The first block, or layer, that makes maps of at most a sixteenth of the side."""
    for index, layer in enumerate(numbered(model)):
        shape = tf.nest.flatten(output_of(model, layer.name))[0].shape
        if shape.rank == 4 and shape[1] and shape[1] * 16 <= size and trainable_weights(layer):
            return block_of(layer.name) or index
    return 0
