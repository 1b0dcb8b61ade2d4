"""Modules of TF-Hub: getting them, and a feature vector as a backbone of one opaque layer."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pawlatch.card import CARD_NAME
from pawlatch.errors import MissingExtraError, WeightsError
from pawlatch.quiet import quiet
from pawlatch_train.families import DEFAULT_SIZE, unit
from pawlatch_train.features import Backbone, BackboneError, Weights, first_line, require_features
from pawlatch_train.keras import keras, tf
from pawlatch_train.weights import TIMEOUT_S


def open_hub(handle: str, *, size: int | None) -> Backbone:
    """Rescaling to [0, 1], which TF-Hub's image modules want, and the module as one layer, in inference mode throughout.

    Raises:
        WeightsError: it cannot be had here.
        BackboneError: it is no feature vector, or takes another size.
        MissingExtraError: there is no tensorflow_hub.
    """
    if (Path(handle) / CARD_NAME).is_file():
        raise BackboneError(f"{handle} is a model of pawlatch train, which takes 0..255; give it as --backbone {handle}")
    module = load_module(handle)
    expected = _expected_side(module)
    if size is not None and expected not in (None, size):
        raise BackboneError(f"{handle} takes pictures of side {expected}, got --image-size {size}; leave --image-size away")
    size = size or expected or DEFAULT_SIZE
    pixels = keras.Input((size, size, 3), name="image")
    try:
        with quiet():
            layer = _module_layer(module, handle, size)
            features = layer(unit(pixels), training=False)
    except (ValueError, TypeError, AttributeError, KeyError, tf.errors.OpError) as error:
        raise BackboneError(
            f"{handle} is no feature vector: it must turn (n, {size}, {size}, 3) in 0..1 into one tensor of features "
            f"({first_line(error)})"
        ) from error
    require_features(features, handle)
    weights = Weights("hub", handle, None, expected or size)
    return Backbone(f"hub:{handle}", keras.Model(pixels, features, name="hub"), weights, size, layer.name)


def load_module(handle: str) -> Any:
    """The module at a handle of TF-Hub, or in the folder of a SavedModel.

    Raises:
        WeightsError: it cannot be had here.
        MissingExtraError: there is no tensorflow_hub.
    """
    hub = _tensorflow_hub()
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_S)  # tensorflow_hub sets none of its own
    try:
        with quiet():
            return hub.load(handle)
    except (OSError, ValueError, RuntimeError, http.client.HTTPException, tf.errors.OpError) as error:
        raise WeightsError(
            f"{handle} cannot be had from TF-Hub ({first_line(error)}); give a folder with a TF2 SavedModel, or set "
            "TFHUB_CACHE_DIR to where it was downloaded before"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def hub_layer() -> dict[str, Any]:
    """What Keras has to know to load a model that was trained on a module; nothing where there is no tensorflow_hub."""
    try:
        return {"KerasLayer": _tensorflow_hub().KerasLayer}
    except MissingExtraError:
        return {}


def expected_hw(functions: Iterable[Any]) -> tuple[int, int] | None:
    """The input size that concrete functions insist on."""
    for spec in tf.nest.flatten([function.structured_input_signature for function in functions]):
        if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4 and spec.shape[1] and spec.shape[2]:
            return int(spec.shape[1]), int(spec.shape[2])
    return None


def one_of(outputs: dict[str, Any], *preferred: str) -> str:
    """The name of the output that is meant: the first of `preferred` that there is, or the only one.

    Raises:
        ValueError: there are several, none of them preferred.
    """
    for key in preferred:
        if key in outputs:
            return key
    if len(outputs) > 1:
        raise ValueError(f"it gives {', '.join(sorted(outputs))}")
    return next(iter(outputs))


def _tensorflow_hub() -> Any:
    try:
        with quiet():
            import tensorflow_hub as hub
    except ImportError as error:
        raise MissingExtraError(
            f'hub:HANDLE needs tensorflow_hub ({error.name} is missing); type: pip install "pawlatch[train]"'
        ) from error
    return hub


def _expected_side(module: Any) -> int | None:
    size_hw = expected_hw(module.__call__.concrete_functions if callable(module) else module.signatures.values())
    return size_hw[0] if size_hw else None


def _module_layer(module: Any, handle: str, size: int) -> Any:
    """The module as a layer that knows its output shape and its variables."""
    hub, pixels = _tensorflow_hub(), tf.zeros((1, size, size, 3))
    if callable(module):
        layer = hub.KerasLayer(module, name="module")
        result = layer(pixels, training=False)
        if isinstance(result, dict):
            layer._output_key = _features_of(result)
            result = result[layer._output_key]
        known = {id(weight) for weight in layer.weights}
        for function in module.__call__.concrete_functions:  # a plain tf.Module tells nobody what it learns
            for variable in function.variables:
                if id(variable) not in known:
                    layer._add_existing_weight(variable)
                    known.add(id(variable))
        layer._handle = handle if "://" in handle else str(Path(handle).absolute())
    else:
        if not module.signatures:
            raise ValueError("it has neither a call nor a signature")
        signature = "serving_default" if "serving_default" in module.signatures else next(iter(module.signatures))
        key = _features_of(module.signatures[signature].structured_outputs)
        layer = hub.KerasLayer(handle, signature=signature, output_key=key, name="module")
        result = layer(pixels)
    layer._output_shape = result.shape[1:]
    return layer


def _features_of(outputs: dict[str, Any]) -> str:
    return one_of(outputs, "default", "feature_vector", "embedding")
