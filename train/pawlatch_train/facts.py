"""What can be said of one photo before any training: size, light, sharpness, colour, date, and a fingerprint."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image, fit
from pawlatch.photos import Photo
from pawlatch_train.duplicates import perceptual_hash

TINY, DARK, BLURRED, GREY = "tiny", "dark", "blurred", "grey"
FLAGS = (TINY, DARK, BLURRED, GREY)

TINY_SIDE_PX = 96  # the smallest input of any backbone
DARK_LEVEL = 60.0
BLURRED_BELOW = 0.22
GREY_BELOW = 2.5

THUMBNAIL_PX = 96
BORDER_CELLS = 12  # a side; the two outermost rings of them are the border

_LOOK_PX = 192  # longest side of the copy whose sharpness is measured: about what a model sees
_NOISE_LEVELS = 2
_SQUARE_PX = 64  # side of the copy that everything else is measured on


@dataclass(frozen=True, eq=False)
class PhotoFacts:
    """One readable photo.

    Attributes:
        split: "train", "valid", "test", or "" where the user made no splits.
        brightness: the grey level, 0 to 255, that 98 % of the pixels stay under.
        sharpness: 0 (blurred) to 1 (sharp), see `sharpness`.
        colourfulness: 0 (grey) to about 110 (vivid), see `colourfulness`.
        hash: see `perceptual_hash`.
        sha256: hex, of the file.
        taken: EXIF DateTimeOriginal, the camera's local time.
        border: the colours of the outermost cells, uint8, for guessing the label from the background alone.
        thumbnail: a JPEG of at most 96 px a side.
        flags: out of FLAGS.
    """

    photo: Photo
    split: str
    size_hw: tuple[int, int]
    brightness: float
    sharpness: float
    colourfulness: float
    hash: bytes
    sha256: str
    taken: datetime | None
    border: NDArray[np.uint8]
    thumbnail: bytes
    flags: tuple[str, ...]


def measure(photo: Photo, split: str, data: bytes, image_rgb: Image) -> PhotoFacts:
    """The facts of a photo from its file's bytes and its pixels (H, W, 3), uint8, RGB."""
    look = _shrink(image_rgb, _LOOK_PX)
    square = fit(look, (_SQUARE_PX, _SQUARE_PX), policy="stretch")
    levels = np.sort(cv2.cvtColor(square[::2, ::2], cv2.COLOR_RGB2GRAY), axis=None)
    brightness = float(levels[int(0.98 * levels.size)])
    sharp, colour = sharpness(cv2.cvtColor(look, cv2.COLOR_RGB2GRAY)), colourfulness(square)
    measured = {
        TINY: min(image_rgb.shape[:2]) < TINY_SIDE_PX,
        DARK: brightness < DARK_LEVEL,
        BLURRED: sharp < BLURRED_BELOW and brightness >= DARK_LEVEL,  # in the dark nothing is sharp
        GREY: colour < GREY_BELOW,
    }
    thumbnail = cv2.imencode(".jpg", _shrink(look, THUMBNAIL_PX)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return PhotoFacts(
        photo, split, (image_rgb.shape[0], image_rgb.shape[1]), brightness, sharp, colour, perceptual_hash(square),
        hashlib.sha256(data).hexdigest(), taken(data), _border(square), thumbnail.tobytes(),
        tuple(flag for flag in FLAGS if measured[flag]),
    )  # fmt: skip


def sharpness(grey: NDArray[Any]) -> float:
    """1 minus the blur effect of (H, W) grey levels, uint8: how much blurring a picture further still takes away from it.

    With D the absolute differences of neighbours (less two levels, which JPEG makes up), B those of the picture blurred
    over 9 pixels, it is Σ max(0, D − B) / Σ D, along the axis where it is less (motion blurs along one). It depends little
    on what is seen: 0.5 to 0.8 on sharp photos, under 0.3 once a blur of 2 pixels of 192 is laid over them.

    Source: F. Crété, T. Dolmière, P. Ladret, M. Nicolas, "The blur effect: perception and estimation with a new
    no-reference perceptual blur metric", SPIE 6492 (2007).
    """
    kept = []
    for axis in (0, 1):
        soft = cv2.blur(grey, (1, 9) if axis == 0 else (9, 1))
        before, after = (cv2.absdiff(*_neighbours(picture, axis)) for picture in (grey, soft))
        before = cv2.subtract(before, np.full_like(before, _NOISE_LEVELS))  # stops at 0
        kept.append(float(cv2.subtract(before, after).sum() / max(1, before.sum())))
    return min(kept)


def colourfulness(image_rgb: Image) -> float:
    """The measure M of D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images", SPIE 5007 (2003), but of
    the spread of colours alone, √(σ²(R − G) + σ²((R + G)/2 − B)): infra-red pictures often have a tinge all over.
    """
    red, green, blue = (image_rgb[..., channel].astype(np.float32) for channel in range(3))
    return float(np.hypot((red - green).std(), ((red + green) / 2 - blue).std()))


def taken(data: bytes) -> datetime | None:
    """EXIF DateTimeOriginal of a JPEG, or None where there is none (or nonsense).

    Source: CIPA DC-008, Exif 3.0: tag 0x8769 of the first directory leads to the one with 0x9003.
    """
    start = data.find(b"Exif\0\0", 0, 4096) + 6
    tiff = data[start : start + (1 << 16)]
    if tiff[:4] not in (b"II*\0", b"MM\0*"):
        return None
    order: Literal["little", "big"] = "little" if tiff[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(tiff[at : at + size], order)

    def value_at(directory: int, tag: int) -> int:
        """Where the value, or the offset of it, of a tag stands; 0 if the directory lacks it."""
        entries = range(directory + 2, directory + 2 + 12 * number(directory, 2), 12)
        return next((at + 8 for at in entries if number(at, 2) == tag), 0)

    pointer = value_at(number(4, 4), 0x8769)
    date = value_at(number(pointer, 4), 0x9003) if pointer else 0
    text = tiff[number(date, 4) :][:19] if date else b""
    try:
        return datetime.strptime(text.decode("ascii"), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None


def _neighbours(picture: NDArray[Any], axis: int) -> tuple[NDArray[Any], NDArray[Any]]:
    return (picture[1:], picture[:-1]) if axis == 0 else (picture[:, 1:], picture[:, :-1])


def _shrink(image: Image, side: int) -> Image:
    """Bring the longest side down to `side`: as `fit`, but with OpenCV's fast interpolation, whose last bits may differ."""
    while max(image.shape[:2]) >= 2 * side and min(image.shape[:2]) > 1:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * height, : 2 * width]
        image = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    scale = min(1.0, side / max(image.shape[:2]))
    width, height = (max(1, round(scale * length)) for length in (image.shape[1], image.shape[0]))
    return np.asarray(cv2.resize(image, (width, height)), np.uint8)


def _border(image: Image) -> NDArray[np.uint8]:
    cells = fit(image, (BORDER_CELLS, BORDER_CELLS), policy="stretch")
    outer = np.ones((BORDER_CELLS, BORDER_CELLS), bool)
    outer[2:-2, 2:-2] = False
    return cells[outer].ravel()
