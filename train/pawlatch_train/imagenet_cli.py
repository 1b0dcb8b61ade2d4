"""`pawlatch classify --imagenet photo.jpg|folder/`: what ImageNet calls it."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pawlatch.commands.arguments import whole
from pawlatch.errors import ImageError, OutputError, PhotosError
from pawlatch.files import write_atomic
from pawlatch.image import FIT_POLICIES, FitPolicy, Image, fit, read_image
from pawlatch.photos import NOT_PHOTOS
from pawlatch.text import put_text, text_width
from pawlatch_train.imagenet_classes import CLASSES, class_names

if TYPE_CHECKING:
    from pawlatch_train.imagenet_classifier import ImagenetClassifier

GRID_NAME = "imagenet.png"
GRID_MOST = 400  # pictures: what a person can still look through
SIDE, GAP, TEXT = 180, 12, 15  # pixels
INK, GREY, PAPER = (34, 38, 43), (110, 114, 120), 255
BATCH = 32


@dataclass(frozen=True, eq=False)
class _Named:
    """A picture's names, best first, with its thumbnail (SIDE, SIDE, 3), RGB."""

    path: Path
    ranked: list[tuple[str, float]]
    thumbnail: Image


def main(argv: list[str]) -> int:
    """Name the pictures; exit status 2 where one that was named cannot be read."""
    args = _parser().parse_args(argv)
    grid = args.output or (Path(GRID_NAME) if any(path.is_dir() for path in args.photos) else None)
    if grid is not None and grid.exists() and not args.overwrite:
        raise OutputError(f"{grid} exists already and is not touched; name another with -o, or add --overwrite")
    paths = [path for given in args.photos for path in _pictures(given, besides=grid)]
    from pawlatch_train.imagenet_classifier import open_classifier  # TensorFlow comes in here, after usage errors

    classifier = open_classifier(args.weights, width=args.width)
    bad: list[Path] = []
    tiles: list[_Named] = []
    found = 0
    for named in _name(classifier, _readable(paths, bad, size_hw=classifier.size_hw, policy=args.fit), top=args.top):
        found += 1
        print(_json(named) if args.json else _line(named), flush=True)
        if grid is not None and len(tiles) < GRID_MOST:
            tiles.append(named)
    if grid is not None and tiles:
        write_atomic(grid, cv2.imencode(".png", draw_grid(tiles)[..., ::-1])[1].tobytes())
        shown = f" (the first {len(tiles)} of {found})" if found > len(tiles) else ""
        print(f"{grid}: {len(tiles)} pictures with their names{shown}", file=sys.stderr)
    if not found and not set(bad) & set(args.photos):
        raise PhotosError(f"none of the {len(bad)} files can be read as a picture; see the lines above")
    return 2 if set(bad) & set(args.photos) else 0


def draw_grid(tiles: list[_Named]) -> Image:
    """The thumbnails with the best name and its percentage under each; RGB uint8, about as wide as high."""
    columns = min(len(tiles), math.ceil(math.sqrt(len(tiles) * (SIDE + 3 * TEXT) / SIDE)))
    cell_hw = (SIDE + 3 * TEXT + GAP, SIDE + GAP)
    rows = -(-len(tiles) // columns)
    picture = np.full((rows * cell_hw[0] + GAP, columns * cell_hw[1] + GAP, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = GAP + i // columns * cell_hw[0], GAP + i % columns * cell_hw[1]
        picture[y : y + SIDE, x : x + SIDE] = tile.thumbnail
        name, score = tile.ranked[0]
        put_text(picture, _short(name), (x, y + SIDE + TEXT + 3), INK, TEXT, weight=700)
        put_text(picture, f"{score:.1%}", (x, y + SIDE + 2 * TEXT + 6), GREY, TEXT)
    return picture


def _short(text: str) -> str:
    """What fits under a thumbnail."""
    if text_width(text, TEXT, weight=700) <= SIDE:
        return text
    while text_width(text + "…", TEXT, weight=700) > SIDE:
        text = text[:-1]
    return text + "…"


def _pictures(given: Path, *, besides: Path | None) -> list[Path]:
    """The file itself, or what a folder holds, at any depth; a grid of before is none of it."""
    if not given.is_dir():
        return [given]
    ours = besides.resolve() if besides else None
    found = [
        path for path in sorted(given.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.suffix.lower() not in NOT_PHOTOS and path.resolve() != ours
    ]
    if not found:
        raise PhotosError(f"{given} holds no pictures; name a folder of photos, or a photo")
    return found


def _readable(paths: Iterable[Path], bad: list[Path], *, size_hw: tuple[int, int],
              policy: FitPolicy) -> Iterator[tuple[Path, Image, Image]]:
    """Each picture as the network sees it and as a thumbnail; what cannot be read is told of and appended to `bad`."""
    for path in paths:
        try:
            image = read_image(path)
        except ImageError as error:
            bad.append(path)
            print(f"pawlatch: set aside: {error}", file=sys.stderr)
            continue
        yield path, fit(image, size_hw, policy=policy), fit(image, (SIDE, SIDE))


def _name(classifier: ImagenetClassifier, pictures: Iterator[tuple[Path, Image, Image]], *, top: int) -> Iterator[_Named]:
    names = class_names()
    while batch := list(islice(pictures, BATCH)):
        for (path, _, thumbnail), scores in zip(batch, classifier(np.stack([fitted for _, fitted, _ in batch])), strict=True):
            best = np.argsort(-scores, kind="stable")[:top]
            yield _Named(path, [(names[i], float(scores[i])) for i in best], thumbnail)


def _line(named: _Named) -> str:
    return f"{named.path}: " + "  ".join(f"{name} {score:.1%}" for name, score in named.ranked)


def _json(named: _Named) -> str:
    scores = {name: round(score, 6) for name, score in named.ranked}
    return json.dumps({"photo": str(named.path), "label": named.ranked[0][0], "scores": scores}, ensure_ascii=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pawlatch classify --imagenet", description=f"Which of ImageNet's {CLASSES} classes each picture shows."
    )
    parser.add_argument("photos", type=Path, nargs="+", metavar="PATH", help="photos, or folders, of which a grid is drawn")
    parser.add_argument("--top", type=whole, default=3, help="names for each picture (default 3)")
    parser.add_argument("--weights", default="imagenet",
                        help="imagenet (default), a file of MobileNetV2's weights with the top, or hub:HANDLE or hub:FOLDER")
    parser.add_argument("--width", type=float, default=1.0, help="MobileNetV2's width multiplier (default 1.0)")
    parser.add_argument("--fit", choices=FIT_POLICIES, default="stretch", help="how a picture becomes square (default stretch)")
    parser.add_argument("-o", "--output", type=Path, metavar="PNG", help=f"the grid (default for a folder: {GRID_NAME})")
    parser.add_argument("--overwrite", action="store_true", help="replace a grid that exists")
    parser.add_argument("--json", action="store_true", help="machine-readable output, a line for each picture")
    return parser
