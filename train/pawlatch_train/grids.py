"""Pictures that carry label names: photos with titles, the confusion matrix.

Drawn with OpenCV's own font, which holds Hangul; matplotlib's does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.files import write_atomic
from pawlatch.image import Image
from pawlatch.text import Colour, put_text, text_width
from pawlatch_train.judged import Judged

GREEN, RED = (31, 111, 74), (190, 36, 24)  # RGB, as everything here until it is written
INK, GREY, PAPER = (34, 38, 43), (110, 114, 120), (255, 255, 255)
SIDE, GAP, TEXT, NOTE = 200, 12, 15, 12  # pixels
COLUMNS = 5
ELLIPSIS = "…"


def draw_predictions(judged: Judged, path: Path, *, most: int = 25, seed: int = 0) -> None:
    """A seeded choice over all labels: "Leo 0.97" in green where right, "Leo 0.55 (is Eve)" in red where wrong."""
    _draw_photos([_tile(judged, i) for i in judged.sample(most, seed=seed)], path)


def draw_mistakes(judged: Judged, path: Path, *, most: int = 12) -> None:
    """The mistakes made with the highest scores, with the photos' paths."""
    _draw_photos([_tile(judged, i, note=judged.names[i]) for i in judged.worst(most)], path)


def draw_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...], path: Path) -> None:
    """The confusion matrix (n, n), rows truth, columns prediction. Many labels get small cells, without numbers."""
    cell = int(np.clip(1000 // len(labels), 12, 72))
    size, gap, head = min(18, cell - 1), 1 if cell < 24 else 3, 48
    side, margin = cell * len(labels), max(text_width(label, size) for label in labels) + 24
    legend = "rows: truth   columns: prediction"
    width = max(margin + side, text_width(legend, TEXT)) + 24
    picture = _paper(head + margin + side, width)
    put_text(picture, legend, (12, 26), GREY, TEXT)
    left, top = margin, head + margin - 16
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    for row, label in enumerate(labels):
        put_text(picture, label, (12, top + row * cell + (cell + size) // 2 - 2), INK, size)
        _put_upright(picture, label, (left + row * cell + (cell - size) // 2 - 3, top - 8), size)
        for column, share in enumerate(shares[row]):
            x, y = left + column * cell, top + row * cell
            ink = GREEN if row == column else RED
            strength = share if not share else 0.12 + 0.88 * share  # a single one in a hundred is seen
            colour = tuple(255 - (255 - channel) * strength for channel in ink) if share else (244, 243, 240)
            cv2.rectangle(picture, (x, y), (x + cell - gap - 1, y + cell - gap - 1), colour, cv2.FILLED)
            if cell >= 28 and confusion[row, column]:
                number = str(int(confusion[row, column]))
                px = min(size, size * (cell - gap - 4) // max(1, text_width(number, size)))
                at = (x + (cell - gap - text_width(number, px)) // 2, y + (cell - gap + px) // 2 - 2)
                put_text(picture, number, at, PAPER if strength > 0.5 else INK, px)
    write_png(picture, path)


def write_png(picture_rgb: Image, path: Path) -> None:
    """Write (H, W, 3) uint8 RGB, whole or not at all."""
    write_atomic(path, cv2.imencode(".png", np.ascontiguousarray(picture_rgb[..., ::-1]))[1].tobytes())


@dataclass(frozen=True, eq=False)
class _Tile:
    image: Image
    title: tuple[str, ...]  # one line where it fits
    colour: Colour
    note: str


def _tile(judged: Judged, i: int, *, note: str = "") -> _Tile:
    said = f"{judged.labels[judged.predicted[i]]} {judged.confidence[i]:.2f}"
    title = (said,) if judged.right[i] else (said, f"(is {judged.labels[judged.targets[i]]})")
    return _Tile(judged.images[i], _wrap(title), GREEN if judged.right[i] else RED, note)


def _wrap(parts: tuple[str, ...]) -> tuple[str, ...]:
    whole = " ".join(parts)
    return (whole,) if text_width(whole, TEXT) <= SIDE else parts


def _draw_photos(tiles: Sequence[_Tile], path: Path) -> None:
    line = TEXT + 5
    head = line * max(len(tile.title) for tile in tiles) + 4
    tall = head + SIDE + (NOTE + 8 if any(tile.note for tile in tiles) else 0) + GAP
    columns = min(COLUMNS, len(tiles))
    picture = _paper(-(-len(tiles) // columns) * tall + GAP, columns * (SIDE + GAP) + GAP)
    for i, tile in enumerate(tiles):
        x, y = GAP + i % columns * (SIDE + GAP), GAP + i // columns * tall
        for row, text in enumerate(tile.title, -len(tile.title)):  # the last line stands on the photo
            at = (x, y + head + row * line + TEXT - 2)
            put_text(picture, _cut(text, TEXT), at, tile.colour, TEXT)
        picture[y + head : y + head + SIDE, x : x + SIDE] = _square(tile.image)
        put_text(picture, _cut(tile.note, NOTE, keep_end=True), (x, y + head + SIDE + NOTE + 4), GREY, NOTE)
    write_png(picture, path)


def _square(image: Image) -> Image:
    """At most `SIDE` pixels a side, on paper where it is not square."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    shrunk = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = _paper(SIDE, SIDE)
    square[: size[1], : size[0]] = shrunk
    return square


def _cut(text: str, px: int, *, keep_end: bool = False) -> str:
    """What of a text fits over a photo; of a path the end tells more."""
    if text_width(text, px) <= SIDE:
        return text
    while text and text_width(shown := ELLIPSIS + text if keep_end else text + ELLIPSIS, px) > SIDE:
        text = text[1:] if keep_end else text[:-1]
    return shown


def _put_upright(picture: Image, text: str, foot_xy: tuple[int, int], size: int) -> None:
    """Write a text upwards, its beginning at `foot_xy`."""
    strip = _paper(size + 6, text_width(text, size) + 4)
    put_text(strip, text, (0, size), INK, size)
    upright = np.rot90(strip)
    left, bottom = foot_xy
    area = picture[bottom - upright.shape[0] : bottom, left : left + upright.shape[1]]
    np.minimum(area, upright, out=area)  # strips of small cells overlap


def _paper(height: int, width: int) -> Image:
    return np.full((height, width, 3), PAPER, np.uint8)
