"""Folders of labelled photos: `photos/<label>/*`, or `photos/{train,valid,test}/<label>/*`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pawlatch.errors import ImageError, PhotosError
from pawlatch.image import Image, read_image

SPLITS = ("train", "valid", "test")
OTHER = "_other"  # strangers: animals that must stay outside
EMPTY = "_empty"  # the place with no animal in it
RESERVED = (OTHER, EMPTY)  # labels that never unlock
EXPECTED = "expected.json"  # in a model's assets.extra/: each label's score of each held-out photo when it was trained

NOT_PHOTOS = {".txt", ".md", ".json", ".csv", ".xml", ".html", ".db", ".ini", ".mp4", ".mov", ".webm"}


@dataclass(frozen=True)
class Photo:
    """A labelled still."""

    path: Path
    label: str


@dataclass(frozen=True)
class SetAside:
    """A file that could not be used, and why."""

    path: Path
    reason: str


def list_splits(folder: Path) -> dict[str, list[Photo]]:
    """Photos by split; the key is "" where the user made no splits. Labels are NFC (macOS writes Korean names in NFD).

    Raises:
        PhotosError: no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise PhotosError(f"expected a folder of photos, but {folder} is none; give photos/ with a folder for each label")
    splits = {name: _list_labels(folder / name) for name in SPLITS if (folder / name).is_dir()}
    found = {name: photos for name, photos in splits.items() if photos} or {"": _list_labels(folder)}
    if not any(found.values()):
        raise PhotosError(f"{folder} holds no photos; put them in a folder for each label, as {folder}/<label>/*.jpg")
    return found


def read_photos(photos: Iterable[Photo], set_aside: list[SetAside]) -> Iterator[tuple[Photo, Image]]:
    """Yield each photo with its pixels; what cannot be read is appended to `set_aside` and passed over."""
    for photo in photos:
        try:
            yield photo, read_image(photo.path)
        except ImageError as error:
            set_aside.append(SetAside(photo.path, str(error)))


def _list_labels(folder: Path) -> list[Photo]:
    return [
        Photo(path, unicodedata.normalize("NFC", labelled.name))
        for labelled in sorted(folder.iterdir())
        if labelled.is_dir() and not labelled.name.startswith(".")
        for path in sorted(labelled.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in NOT_PHOTOS
    ]
