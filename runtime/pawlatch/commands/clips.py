"""`pawlatch frames`: a clip of the animal as photos to train with."""

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
from pawlatch.image import Image, fit

COUNT = 40
JPEG_QUALITY = 95
SAME = 1.0  # mean difference in grey levels of two pictures at 32×32; noise makes 0.3, a dog that turns its head 3


@dataclass(frozen=True, eq=False)
class _Look:
    """What the choice needs to know of a frame."""

    frame: int
    time_s: float
    sharpness: float
    small: NDArray[np.int16]


def frames(argv: list[str]) -> int:
    """Save the sharpest frame of each stretch of a clip."""
    parser = argparse.ArgumentParser(
        prog="pawlatch frames", description="Save sharp, different frames of a clip as photos to train with.")
    parser.add_argument("clip", help="clip.mp4, a folder of pictures, or scene:demo")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="photos/LABEL", help="where the JPEGs go")
    often = parser.add_mutually_exclusive_group()
    often.add_argument("--every", type=positive, metavar="S", help="one frame from each S seconds")
    often.add_argument("--count", type=whole, default=COUNT, metavar="N", help=f"about N frames in all (default {COUNT})")
    parser.add_argument("--start", type=float, default=0.0, metavar="S", help="skip what comes before")
    parser.add_argument("--end", type=float, default=math.inf, metavar="S", help="skip what comes after")
    args = parser.parse_args(argv)
    looks = [_look(frame) for frame in clip_frames(args.clip) if args.start <= frame.time_s <= args.end]
    if not looks:
        raise CameraError(f"{args.clip} has no frame between --start {args.start:g} and --end {args.end:g}; widen them")
    chosen = _without_duplicates(_sharpest(looks, _slots(looks, every_s=args.every, count=args.count)))
    args.output.mkdir(parents=True, exist_ok=True)
    saved = sum(_save(frame, args.output, clip_name(args.clip)) for frame in _pick(args.clip, chosen))
    kept = f", {len(chosen) - saved} were there already" if saved < len(chosen) else ""
    print(f"{saved} photos saved in {args.output}{kept}")
    return 0


def _look(frame: Frame) -> _Look:
    grey = cv2.cvtColor(frame.image_bgr, cv2.COLOR_BGR2GRAY)
    small = cv2.cvtColor(fit(frame.image_bgr, (32, 32), policy="stretch"), cv2.COLOR_BGR2GRAY)
    return _Look(frame.index, frame.time_s, float(cv2.Laplacian(grey, cv2.CV_64F).var()), small.astype(np.int16))


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


def _pick(clip: str, chosen: list[_Look]) -> Iterator[Frame]:
    """Read the clip again for the chosen frames: a second pass costs less than keeping every frame."""
    wanted = {look.frame for look in chosen}
    return (frame for frame in clip_frames(clip) if frame.index in wanted)


def _save(frame: Frame, folder: Path, name: str) -> bool:
    """Write `<clip>-<ms>.jpg`; False where it is there already."""
    path = folder / f"{name}-{round(frame.time_s * 1000):06d}.jpg"
    if path.exists():
        return False
    write_atomic(path, _jpeg(frame.image_bgr))
    return True


def _jpeg(image_bgr: Image) -> bytes:
    return cv2.imencode(".jpg", image_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
