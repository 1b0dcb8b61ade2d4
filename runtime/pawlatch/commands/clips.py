"""`pawlatch frames`: a clip of the animal as photos to train with, cut as the door will cut what it sees."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.camera import Frame, clip_frames, clip_name
from pawlatch.commands.arguments import positive, whole
from pawlatch.errors import CameraError
from pawlatch.files import write_atomic
from pawlatch.framing import Box, square
from pawlatch.gate import Gate
from pawlatch.image import Image, fit
from pawlatch.photos import EMPTY

COUNT = 40
EMPTY_BOXES = 12  # cut from each picture of a place where nothing moves
JPEG_QUALITY = 95
SAME = 1.0  # mean difference in grey levels of two pictures at 32×32; noise makes 0.3, a dog that turns its head 3


@dataclass(frozen=True, eq=False)
class _Look:
    """What the choice needs to know of a frame; sharpness and the small picture are those of the box, where there is one."""

    frame: int
    time_s: float
    worth: bool
    box_yxyx: Box | None
    sharpness: float
    small: NDArray[np.int16]


def frames(argv: list[str]) -> int:
    """Save the sharpest frame of each stretch of a clip."""
    parser = argparse.ArgumentParser(
        prog="pawlatch frames",
        description="Save sharp, different frames of a clip as photos to train with: the box around what moves, as the door "
                    f"will see it. Of a clip in which nothing moves, whole pictures, and for {EMPTY} parts of them too.")
    parser.add_argument("clip", help="clip.mp4, a folder of pictures, or scene:demo")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="photos/LABEL", help="where the JPEGs go")
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--every", type=positive, metavar="S", help="one frame from each S seconds")
    often.add_argument("--count", type=whole, default=COUNT, metavar="N", help=f"about N frames in all (default {COUNT})")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip what comes before")
    parser.add_argument("--whole", action="store_true", help="save whole pictures, not the box around what moves")
    parser.add_argument("--end", type=float, default=math.inf, metavar="S", help="skip what comes after")
    args = parser.parse_args(argv)
    looks = [look for look in _looks(args.clip) if args.start <= look.time_s <= args.end]
    if not looks:
        raise CameraError(f"{args.clip} has no frame between --start {args.start:g} and --end {args.end:g}; widen them")
    moving = [look for look in looks if look.box_yxyx] or [look for look in looks if look.worth]
    still, looks = not moving, moving or looks
    chosen = _without_duplicates(_sharpest(looks, _slots(looks, every_s=args.every, count=args.count)))
    boxes = 0 if args.whole or not still or args.output.name != EMPTY else min(EMPTY_BOXES, args.count // len(chosen))
    args.output.mkdir(parents=True, exist_ok=True)
    saved = [_write(path, image) for path, image in _pictures(args.clip, chosen, args.output, boxes, whole=args.whole)]
    kept = f", {len(saved) - sum(saved)} were there already" if not all(saved) else ""
    print(f"{sum(saved)} photos saved in {args.output}{kept}")
    return 0


def _looks(clip: str) -> Iterator[_Look]:
    """Each frame as the gate of a door sees it. The very first is worth no more than others here."""
    gate = Gate()
    for frame in clip_frames(clip):
        seen = gate(frame)
        box = seen.box_yxyx if seen.worth else None
        image = _cut(frame.image_bgr, box)
        grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        small = cv2.cvtColor(fit(image, (32, 32), policy="stretch"), cv2.COLOR_BGR2GRAY)
        sharpness = float(cv2.Laplacian(grey, cv2.CV_64F).var())
        yield _Look(frame.index, frame.time_s, seen.worth and frame.index > 0, box, sharpness, small.astype(np.int16))


def _slots(looks: list[_Look], *, every_s: float | None, count: int) -> list[int]:
    """Each frame's stretch of the clip: of `every_s` seconds, or one of `count` equal parts."""
    if every_s is None:
        return [index * count // len(looks) for index in range(len(looks))]
    return [int((look.time_s - looks[0].time_s) / every_s) for look in looks]


def _sharpest(looks: list[_Look], slots: list[int]) -> list[_Look]:
    """The frame with the largest variance of the Laplacian in each slot."""
    best: dict[int, _Look] = {}
    for look, slot in zip(looks, slots, strict=True):
        if slot not in best or look.sharpness > best[slot].sharpness:
            best[slot] = look
    return list(best.values())


def _without_duplicates(looks: list[_Look]) -> list[_Look]:
    kept: list[_Look] = []
    for look in looks:
        if all(np.abs(look.small - other.small).mean() >= SAME for other in kept):
            kept.append(look)
    return kept


def _pictures(clip: str, chosen: list[_Look], folder: Path, boxes: int, *,
              whole: bool) -> Iterator[tuple[Path, Image]]:
    """Read the clip again for the chosen frames: a second pass costs less than keeping every frame."""
    wanted = {look.frame: None if whole else look.box_yxyx for look in chosen}
    for frame in clip_frames(clip):
        if frame.index not in wanted:
            continue
        name = f"{clip_name(clip)}-{round(frame.time_s * 1000):06d}"
        yield folder / f"{name}.jpg", _cut(frame.image_bgr, wanted[frame.index])
        for k, box in enumerate(_any_boxes(frame, boxes), start=1):
            yield folder / f"{name}-{k}.jpg", _cut(frame.image_bgr, box)


def _any_boxes(frame: Frame, count: int) -> Iterator[Box]:
    """Boxes as a false alarm would cut them from the empty place: of any size, anywhere; the same for the same frame."""
    rng = np.random.default_rng(frame.index)
    height, width = frame.image_bgr.shape[:2]
    for _ in range(count):
        side = round(min(height, width) * float(np.exp(rng.uniform(np.log(0.15), 0))))
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        yield square((y, x, y + side, x + side), (height, width), margin=0)


def _cut(image: Image, box_yxyx: Box | None) -> Image:
    if box_yxyx is None:
        return image
    top, left, bottom, right = box_yxyx
    return image[top:bottom, left:right]


def _write(path: Path, image_bgr: Image) -> bool:
    """Write a JPEG; False where it is there already."""
    if path.exists():
        return False
    write_atomic(path, cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes())
    return True
