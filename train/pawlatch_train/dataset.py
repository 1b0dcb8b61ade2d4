"""Photos on disk to arrays on disk: decoded, checked and fitted once; and who trains, who chooses, who is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import OutputError, PhotosError
from pawlatch.image import FitPolicy, Image, fit
from pawlatch.photos import Photo
from pawlatch_train.check import PhotoCheck, check_photos
from pawlatch_train.splits import Splits, split
from pawlatch_train.store import ArrayFile


@dataclass(frozen=True)
class Dataset:
    """Everything that training sees of the user's folder. Photos go by their index into `check.facts`."""

    labels: tuple[str, ...]
    check: PhotoCheck
    splits: Splits
    pixels: ArrayFile  # fitted, uint8 (n, H, W, 3) RGB
    large: ArrayFile | None  # the same at a teacher's size, where there is one
    targets: NDArray[np.int64]  # (n,)
    sha256: str  # of labels and fitted pixels

    def photo(self, index: int) -> Photo:
        """The photo of an index."""
        return self.check.facts[index].photo

    def images(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Fitted pixels (n, H, W, 3), uint8 RGB."""
        return self.pixels.take(indices)

    def name(self, index: int) -> str:
        """A photo's path within the folder."""
        return self.photo(index).path.relative_to(self.check.folder).as_posix()


def load_dataset(folder: Path, *, size: int, policy: FitPolicy, seed: int, work: Path, large_size: int | None = None,
                 progress: Callable[[str], None] = lambda line: None) -> Dataset:
    """Decode, check and fit every photo once, into files under `work`; what cannot be read is set aside by name.

    Raises:
        PhotosError: fewer than two labels, or too few photos of one.
        OutputError: the disk is full.
    """
    digest = hashlib.sha256()
    stores = {side: _fresh_store(work / f"pixels-{side}", side) for side in (size, large_size or size)}

    def keep(index: int, photo: Photo, image: Image) -> None:
        for side, store in stores.items():
            fitted = fit(image, (side, side), policy=policy)
            store.append(fitted[np.newaxis])
            if side == size:
                digest.update(photo.label.encode() + fitted.tobytes())

    try:
        check = check_photos(folder, on_photo=keep, progress=progress)
    except OSError as error:
        if isinstance(error, PhotosError | OutputError):
            raise
        raise OutputError(f"cannot write to {work} ({error.strerror}); make room, or name another place with -o") from error
    splits = split(check, seed=seed)
    labels = tuple(sorted({check.facts[index].photo.label for index in splits.fit}))
    targets = np.array([labels.index(fact.photo.label) for fact in check.facts], np.int64)
    return Dataset(labels, check, splits, stores[size], stores[large_size] if large_size else None, targets, digest.hexdigest())


def class_weights(targets: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """One weight a photo that makes every label count alike: n / (classes · n_label)."""
    counts = np.bincount(targets, minlength=classes)
    return np.asarray(len(targets) / (classes * np.maximum(1, counts))[targets], np.float32)


def balanced(data: Dataset, indices: Sequence[int], *, most: int, seed: int) -> list[int]:
    """Up to `most` of the photos, a fair share of each label."""
    rng = np.random.default_rng(seed)
    candidates = np.asarray(indices)
    labels = np.unique(data.targets[candidates])
    each = max(1, most // len(labels))
    chosen = [rng.permutation(candidates[data.targets[candidates] == label])[:each] for label in labels]
    return sorted(int(index) for index in np.concatenate(chosen))


def _fresh_store(path: Path, side: int) -> ArrayFile:
    path.unlink(missing_ok=True)
    return ArrayFile(path, (side, side, 3), np.uint8)
