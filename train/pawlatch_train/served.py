"""The SavedModel as it lies on disk, held against the model in memory; and the other formats that Keras writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import PawlatchError
from pawlatch.quiet import quiet
from pawlatch_train.features import Backbone, BackboneError
from pawlatch_train.hub import hub_layer
from pawlatch_train.keras import keras, tf
from pawlatch_train.network import OUTPUTS, Network

BATCH = 32
FORMATS = {"keras": "model.keras", "h5": "model.h5", "weights": "model.weights.h5"}


class Served:
    """A SavedModel that was just written to `folder`, and `expected`, the function that was written."""

    def __init__(self, folder: Path, expected: Callable[..., dict[str, Any]]) -> None:
        self._loaded = tf.saved_model.load(str(folder))  # holds the variables for as long as we live
        self._signature, self._expected = self._loaded.signatures["serving_default"], expected

    def __call__(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Scores (n, labels) and embeddings (n, d) of fitted pixels (n, H, W, 3), which equal the trained model's to the bit.

        Raises:
            PawlatchError: they do not.
        """
        scores, embeddings = [], []
        for start in range(0, len(images), BATCH):
            batch = tf.constant(images[start : start + BATCH], tf.float32)
            reloaded, expected = self._signature(image=batch), self._expected(image=batch)
            if any(not np.array_equal(reloaded[key], expected[key]) for key in expected):
                raise PawlatchError("the reloaded SavedModel gives other outputs than the trained model; please report this")
            scores.append(reloaded[OUTPUTS.class_scores].numpy())
            embeddings.append(reloaded[OUTPUTS.embedding].numpy())
        return np.concatenate(scores), np.concatenate(embeddings)


def require_savable(backbone: Backbone, formats: Sequence[str]) -> None:
    """Refuse formats that Keras would write and could not load again: it has to build the network from its configuration.

    Raises:
        BackboneError: a module of TF-Hub that does not say what its variables are.
    """
    if not {"keras", "h5"} & set(formats) or backbone.weights.source != "hub":
        return
    with quiet():
        anew = keras.Model.from_config(backbone.model.get_config(), custom_objects=hub_layer())
    if len(anew.weights) != len(backbone.model.weights):
        raise BackboneError(f"{backbone.name} does not list its variables, which --save keras and h5 need to load again; "
                            "use --save weights, or the SavedModel alone")


def save_formats(network: Network, folder: Path, formats: Sequence[str]) -> None:
    """Write what Keras itself loads, beside the SavedModel."""
    for name in formats:
        if name == "weights":
            network.whole.save_weights(folder / FORMATS[name])
        else:
            network.whole.save(folder / FORMATS[name])
