"""Photos on disk to arrays in memory: who trains, who chooses, who is held out."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import PhotosError
from pawlatch.image import FitPolicy, Image, fit
from pawlatch.photos import EMPTY, Photo, SetAside, list_splits, read_photos

HELD_OUT_SHARE = 0.15
CHOOSE_SHARE = 0.15
MIN_TO_CHOOSE = 6  # a label with fewer photos trains with all it has


@dataclass(frozen=True)
class Splits:
    """`fit` fits weights, `choose` picks epochs and the threshold, `held_out` is only ever measured on."""

    fit: list[Photo]
    choose: list[Photo]
    held_out: list[Photo]


@dataclass(frozen=True)
class Pixels:
    """Decoded photos of one split: `images` (n, H, W, 3) uint8 RGB, `targets` (n,) int64."""

    photos: list[Photo]
    images: NDArray[np.uint8]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Dataset:
    """Everything the training sees of the user's folder."""

    labels: tuple[str, ...]
    fit: Pixels
    choose: Pixels
    held_out: Pixels
    set_aside: list[SetAside]
    sha256: str  # of labels and fitted pixels


def split_photos(folder: Path, *, seed: int) -> Splits:
    """Use the user's own splits where there are any, else a stratified, seeded one.

    Without a `test` folder, `valid` is what is held out, and part of `train` does the choosing.

    Raises:
        PhotosError: fewer than two labels, or a label with too few photos to train and to hold one out.
    """
    by_split = list_splits(folder)
    rng = np.random.default_rng(seed)
    _check_labels(folder, by_split)
    if "test" in by_split and "valid" in by_split:
        return Splits(by_split["train"], by_split["valid"], by_split["test"])
    if "test" in by_split or "valid" in by_split:
        rest, choose = _draw(by_split["train"], CHOOSE_SHARE, rng, keep=MIN_TO_CHOOSE)
        return Splits(rest, choose, by_split.get("test", by_split.get("valid", [])))
    rest, held_out = _draw(by_split.get("train", by_split.get("", [])), HELD_OUT_SHARE, rng, keep=2)
    rest, choose = _draw(rest, CHOOSE_SHARE, rng, keep=MIN_TO_CHOOSE)
    return Splits(rest, choose, held_out)


def load_dataset(folder: Path, *, size_hw: tuple[int, int], policy: FitPolicy, seed: int,
                 progress: Callable[[str], None]) -> Dataset:
    """Decode and fit every photo once; what cannot be read is set aside by name.

    Raises:
        PhotosError: as `split_photos`, also when too little is left of a label once bad files are set aside.
    """
    splits = split_photos(folder, seed=seed)
    labels = tuple(sorted({photo.label for photo in splits.fit}))
    set_aside: list[SetAside] = []
    digest = hashlib.sha256()
    parts = []
    for name, photos in (("training", splits.fit), ("choosing", splits.choose), ("held-out", splits.held_out)):
        parts.append(_load(photos, labels, size_hw, policy, set_aside, digest))
        progress(f"read {len(parts[-1].photos)} {name} photos")
    for part, needed_for in ((parts[0], "train on"), (parts[2], "hold out")):
        missing = set(labels) - {photo.label for photo in part.photos}
        if missing:
            first = f"; the first set aside: {set_aside[0].reason}" if set_aside else ""
            raise PhotosError(f"no readable photo is left to {needed_for} for {', '.join(sorted(missing))}{first}")
    fit_pixels, choose, held_out = parts
    return Dataset(labels, fit_pixels, choose, held_out, set_aside, digest.hexdigest())


def class_weights(targets: NDArray[np.int64], classes: int) -> dict[int, float]:
    """Weights that make every label count alike: n / (classes * n_label)."""
    counts = np.bincount(targets, minlength=classes)
    return {i: float(len(targets) / (classes * count)) for i, count in enumerate(counts) if count}


def balanced(pixels: Pixels, *, most: int, seed: int) -> list[int]:
    """Indices of up to `most` photos, as many of each label as the rarest allows (but at least a fair share of each)."""
    rng = np.random.default_rng(seed)
    labels = np.unique(pixels.targets)
    each = max(1, most // len(labels))
    chosen = [rng.permutation(np.flatnonzero(pixels.targets == label))[:each] for label in labels]
    return sorted(int(i) for i in np.concatenate(chosen))


def _load(photos: list[Photo], labels: tuple[str, ...], size_hw: tuple[int, int], policy: FitPolicy,
          set_aside: list[SetAside], digest: hashlib._Hash) -> Pixels:
    kept: list[Photo] = []
    images: list[Image] = []
    for photo, image in read_photos(photos, set_aside):
        kept.append(photo)
        images.append(fit(image, size_hw, policy=policy))
        digest.update(photo.label.encode() + images[-1].tobytes())
    stacked = np.stack(images) if images else np.empty((0, *size_hw, 3), np.uint8)
    return Pixels(kept, stacked, np.array([labels.index(photo.label) for photo in kept], np.int64))


def _draw(photos: list[Photo], share: float, rng: np.random.Generator, *, keep: int) -> tuple[list[Photo], list[Photo]]:
    """Take `share` of each label away, at least one photo, and none from a label of fewer than `keep`."""
    rest: list[Photo] = []
    drawn: list[Photo] = []
    for label in sorted({photo.label for photo in photos}):
        mine = [photo for photo in photos if photo.label == label]
        count = max(1, round(share * len(mine))) if len(mine) >= keep else 0
        chosen = set(rng.permutation(len(mine))[:count].tolist())
        for i, photo in enumerate(mine):
            (drawn if i in chosen else rest).append(photo)
    return rest, drawn


def _check_labels(folder: Path, by_split: dict[str, list[Photo]]) -> None:
    training = by_split.get("train", by_split.get("", []))
    counts = Counter(photo.label for photo in training)
    if len(counts) < 2:
        named = ", ".join(counts) or "none"
        raise PhotosError(
            f"training needs photos of at least two labels, but {folder} has {named}; add a folder of others beside it, "
            f"for example {folder}/_other/ with other animals or {folder}/{EMPTY}/ with the place alone"
        )
    least = 2 if by_split.keys() <= {"", "train"} else 1
    if poor := [f"{label} ({count})" for label, count in sorted(counts.items()) if count < least]:
        raise PhotosError(
            f"each label needs at least {least} photos, one of them to hold out; too few: {', '.join(poor)}; 20 to 100 a label "
            "make a good door"
        )
    for name in ("valid", "test"):
        strange = {photo.label for photo in by_split.get(name, [])} - counts.keys()
        if strange:
            raise PhotosError(f"{folder}/{name} has labels that {folder}/train lacks: {', '.join(sorted(strange))}")
