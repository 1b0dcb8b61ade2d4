"""What a backbone is: a network from pixels to features, and what it began with.

Every backbone is one flat network from raw pixels, float32 RGB (n, size, size, 3) in 0..255, to maps (n, h, w, c) or vectors
(n, d); the scaling it was trained with comes first, inside the graph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pawlatch.errors import PawlatchError


class BackboneError(PawlatchError, ValueError):
    """A backbone, layer or cut that cannot be used; the message names what could."""


@dataclass(frozen=True)
class Weights:
    """What a backbone begins with."""

    source: str  # "imagenet", "starter", "none", "file", "hub" or "model"
    origin: str  # the file or folder, or the handle on TF-Hub; empty for "none"
    width: float | None  # None where this backbone comes in one width
    trained_size: int  # input side in pixels


@dataclass(frozen=True)
class Backbone:
    """A network that turns pixels into features; see the head of this module."""

    name: str  # "mobilenet_v2", "hub:...", "model:..."
    model: Any
    weights: Weights
    size: int  # input side in pixels
    default_fine_tune_at: int | str | None  # where fine-tuning begins where nobody says


def require_features(tensor: Any, what: str) -> None:
    """Refuse what is neither maps nor vectors.

    Raises:
        BackboneError: the message says what `what` gives.
    """
    if tensor.shape.rank not in (2, 4) or None in tensor.shape[1:]:
        raise BackboneError(f"features must be maps (n, h, w, c) or vectors (n, d), but {what} gives {tuple(tensor.shape)}")


def first_line(error: BaseException) -> str:
    """What TensorFlow, Keras or h5py say first, for the brackets of a sentence of ours; the rest may be pages."""
    line = re.split(r"\n|\. ", str(error).strip())[0]
    return re.sub(r" at <.*>", "", line).rstrip(".")[:200] or type(error).__name__
