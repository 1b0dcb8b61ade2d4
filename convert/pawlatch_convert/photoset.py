"""The photos that a conversion needs: some to calibrate with, others to be judged by."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from pawlatch.card import ModelCard
from pawlatch.errors import ModelCardError, PhotosError
from pawlatch.image import Image, fit
from pawlatch.photos import EXPECTED, Photo, SetAside, list_splits, read_photos

MAX_CALIBRATION = 200  # ranges of activations no longer move beyond this many photos
_SEED = 0


@dataclass(frozen=True, eq=False)
class Sample:
    """A photo as the model sees it: `pixels` uint8 (H, W, 3), RGB."""

    photo: Photo
    pixels: Image
    is_heldout: bool

    @property
    def name(self) -> str:
        """What a person finds it by: `label/file.jpg`."""
        return f"{self.photo.label}/{self.photo.path.name}"


@dataclass(frozen=True)
class PhotoSet:
    """Photos by what they are for. Accuracy comes from `heldout` alone, agreement from all three."""

    calibration: tuple[Photo, ...]
    heldout: tuple[Photo, ...]
    others: tuple[Photo, ...] = ()

    def fitted(self, photos: Iterable[Photo], card: ModelCard, set_aside: list[SetAside]) -> Iterator[Sample]:
        """Decode and fit one photo after the other; what cannot be read is appended to `set_aside`."""
        heldout = set(self.heldout)
        for photo, image in read_photos(photos, set_aside):
            yield Sample(photo, fit(image, card.input.size_hw, policy=card.input.fit), photo in heldout)


def find_photos(model: Path, photos: Path | None, card: ModelCard) -> PhotoSet:
    """The photos that train left in `model/assets.extra/`, or those of the folder `photos` in their place.

    Raises:
        PhotosError: there are none, or none of the held-out ones has a label of the card.
    """
    found = _from_folder(photos) if photos else _from_assets(model)
    if not any(photo.label in card.labels for photo in found.heldout):
        raise PhotosError(
            f"held-out photos must lie in folders named after the card's labels ({', '.join(card.labels)}), got "
            f"{', '.join(sorted({photo.label for photo in found.heldout}))}; rename the folders"
        )
    return found


def expected_scores(model: Path) -> dict[str, dict[str, float]]:
    """Each label's score of the held-out photos when the SavedModel was trained, by `Sample.name`; nothing of foreign models.

    Raises:
        ModelCardError: the file is damaged.
    """
    path = model / "assets.extra" / EXPECTED
    if not path.is_file():
        return {}
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): {str(label): float(score) for label, score in row.items()} for name, row in read.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelCardError(f"{path} must hold the scores that training noted, but does not ({error}); train again") from error


def balanced(photos: Sequence[Photo], most: int, *, seed: int = _SEED) -> list[Photo]:
    """Up to `most` photos, the labels in turn, so that a rare label counts as a common one does.

    Shuffled within each label by `seed`; with the same seed a larger `most` only appends.
    """
    in_turn = chain.from_iterable(zip_longest(*_shuffled_by_label(photos, seed)))
    return [photo for photo in in_turn if photo is not None][:most]


def calibration_photos(found: PhotoSet, *, most: int = MAX_CALIBRATION) -> tuple[Photo, ...]:
    """Up to `most` photos to calibrate with, none of them held out: `found.calibration` first, then others; balanced."""
    return (*found.calibration, *balanced(found.others, len(found.others)))[:most]


def _from_assets(model: Path) -> PhotoSet:
    folders = [model / "assets.extra" / name for name in ("calibration", "heldout")]
    for folder in folders:
        if not folder.is_dir():
            raise PhotosError(
                f"a conversion is calibrated and judged on photos, but {folder} is missing; add --photos DIR with a "
                "folder of photos for each label"
            )
    calibration, heldout = (list(chain.from_iterable(list_splits(folder).values())) for folder in folders)
    return _arranged(calibration, heldout)


def _from_folder(folder: Path) -> PhotoSet:
    splits = list_splits(folder)
    heldout = splits.get("test") or splits.get("valid")
    if heldout and "train" in splits:
        others = splits["valid"] if "valid" in splits and heldout is not splits["valid"] else []
        return _arranged(splits["train"], heldout, others)
    by_label = _shuffled_by_label(list(chain.from_iterable(splits.values())), _SEED)
    calibration = [photo for photos in by_label for photo in photos[::2]]
    heldout = [photo for photos in by_label for photo in photos[1::2]]
    if not heldout:
        raise PhotosError(f"half of the photos calibrate and half judge, but {folder} has one a label; add another")
    return _arranged(calibration, heldout)


def _arranged(pool: list[Photo], heldout: list[Photo], others: Sequence[Photo] = ()) -> PhotoSet:
    """Draw the calibration photos from `pool`; what is left of it joins `others`."""
    drawn = balanced(pool, len(pool))
    return PhotoSet(tuple(drawn[:MAX_CALIBRATION]), tuple(heldout), (*drawn[MAX_CALIBRATION:], *others))


def _shuffled_by_label(photos: Iterable[Photo], seed: int) -> list[list[Photo]]:
    by_label: dict[str, list[Photo]] = defaultdict(list)
    for photo in photos:
        by_label[photo.label].append(photo)
    for same in by_label.values():
        random.Random(seed).shuffle(same)
    return list(by_label.values())
