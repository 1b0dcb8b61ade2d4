"""Pictures of every kind that pawlatch reads, and what the tiny bundle is shown: drawn here, so that anyone can run the proof."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pawlatch.image import Image

COLOURS_BGR = {"own": (40, 40, 200), "other": (200, 40, 40), "_empty": (120, 120, 120)}
PHOTOS = 12  # of each label
FPS = 10
ORIENTATIONS = range(1, 9)
SIZES_HW = ((16, 17), (33, 251), (251, 33), (225, 223), (448, 449), (481, 641), (1080, 1919), (2463, 3285))  # odd, and large reductions
FORMATS = {
    "420.jpg": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420],
    "422.jpg": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422],
    "444.jpg": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "progressive.jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "poor.jpg": [cv2.IMWRITE_JPEG_QUALITY, 15],
    "lossy.webp": [cv2.IMWRITE_WEBP_QUALITY, 80],
    "lossless.webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
    "8.png": [], "bmp.bmp": [], "tiff.tiff": [],
}


def draw_formats(folder: Path) -> None:
    """Write each format in an odd size, JPEG in every EXIF turn, and PNG in sizes that make every kind of reduction."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(6)
    picture = _picture(rng, (335, 447))
    for name, options in FORMATS.items():
        _write(folder / name, picture, options)
    _write(folder / "grey.jpg", cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY))
    _write(folder / "16.png", picture.astype(np.uint16) * 257 + rng.integers(0, 200, picture.shape, np.uint16))
    jpeg = (folder / "420.jpg").read_bytes()
    for turn in ORIENTATIONS:
        (folder / f"turn{turn}.jpg").write_bytes(jpeg[:2] + _exif(turn) + jpeg[2:])
    for height, width in SIZES_HW:
        _write(folder / f"{height}x{width}.png", _picture(rng, (height, width)))


def draw_photos(folder: Path) -> None:
    """Photos for the tiny bundle: squares of each label's colour on noise, large and small."""
    rng = np.random.default_rng(7)
    for label, colour in COLOURS_BGR.items():
        (folder / label).mkdir(parents=True)
        for number in range(PHOTOS):
            image = rng.integers(105, 136, (181, 243, 3), np.uint8)
            side = 60 + 8 * number
            top, left = (int(rng.integers(limit - side + 1)) for limit in image.shape[:2])
            if label != "_empty":
                image[top : top + side, left : left + side] = colour
            _write(folder / label / f"{number:02d}.jpg", image)


def draw_clip(path: Path) -> None:
    """A porch of four seconds with nobody, the own animal for three, nobody, a stranger for three, nobody."""
    rng = np.random.default_rng(8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
    for seconds, who in ((1, None), (3, "own"), (4, None), (3, "other"), (4, None)):
        for step in range(seconds * FPS):
            image = np.full((120, 160, 3), 120, np.uint8)
            image[:, ::20] = 90
            if who is not None:
                left = 10 + 4 * (step % 20)
                image[40:100, left : left + 50] = COLOURS_BGR[who]
            writer.write(np.clip(image + rng.integers(-2, 3, image.shape), 0, 255).astype(np.uint8))
    writer.release()


def _picture(rng: np.random.Generator, size_hw: tuple[int, int]) -> Image:
    """Soft shapes under fine noise, BGR: what rounding errors show in."""
    soft = cv2.resize(rng.integers(0, 256, (9, 12, 3), np.uint8), size_hw[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(soft.astype(np.int16) + rng.integers(-25, 26, soft.shape), 0, 255).astype(np.uint8)


def _write(path: Path, image: np.ndarray, options: list[int] | None = None) -> None:
    encoded, data = cv2.imencode(path.suffix, image, options or [])
    if not encoded:
        raise ValueError(f"OpenCV cannot write {path.name}")
    path.write_bytes(data.tobytes())


def _exif(orientation: int) -> bytes:
    """An APP1 segment with nothing but the orientation."""
    body = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation]) + b"\0\0\0\0\0\0"
    return b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
