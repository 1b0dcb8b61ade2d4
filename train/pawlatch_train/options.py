"""What a user chose for a training, and what of it can be refused before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pawlatch.errors import ModelCardError, PhotosError
from pawlatch.photos import RESERVED, list_splits
from pawlatch_train.recipe import TrainRecipe


@dataclass(frozen=True)
class TrainOptions:
    """What the user chose; None follows from the weights, the target, or the photos."""

    unlock: tuple[str, ...] = ()
    backbone: str = "mobilenet_v2"
    weights: str = "auto"
    width: float | None = None
    image_size: int | None = None
    cut_at: str | None = None
    target: str = "pi-zero2"
    recipe: TrainRecipe = field(default_factory=TrainRecipe)
    max_false_unlock: float = 0.01
    folds: int = 0
    distill: Path | None = None
    save: tuple[str, ...] = ()
    strategy: str | None = None
    resume: bool = False
    overwrite: bool = False
    name: str | None = None


def training_labels(photos: Path) -> set[str]:
    """The labels of the photos in `photos` that training may use, by their folders' names."""
    by_split = list_splits(photos)
    return {photo.label for photo in by_split.get("train", by_split.get("", []))}


def require_possible(photos: Path, options: TrainOptions) -> None:
    """Refuse what cannot come to anything with these photos.

    Raises:
        ModelCardError: an unlock label that is none, or is reserved.
        PhotosError: folds that cannot be made.
    """
    labels = training_labels(photos)
    if unknown := [label for label in options.unlock if label not in labels]:
        raise ModelCardError(f"--unlock must name labels of {photos} ({', '.join(sorted(labels))}), got {', '.join(unknown)}")
    if reserved := [label for label in options.unlock if label in RESERVED]:
        raise ModelCardError(f"--unlock {', '.join(reserved)}: that folder stands for what must never unlock")
    if options.folds and options.folds < 3:
        raise PhotosError(f"--folds must be 3 or more (one is judged, one chooses, the others train), got {options.folds}")
    if options.folds and options.strategy:
        raise PhotosError("--folds is for few photos, which one machine trains faster; leave --strategy away")
