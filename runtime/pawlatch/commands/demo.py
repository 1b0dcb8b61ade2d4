"""`pawlatch demo`: the whole way, from photos to a door that opens for one animal, in one command.

It runs the very commands a person would type (`train`, `convert`), then the camera loop on a clip: the drawn porch, or,
with --photos, the user's own held-out photos. Nothing here decides; it composes and shows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np

from pawlatch import cli, overlay, scene
from pawlatch.camera import Frame, open_camera
from pawlatch.card import ModelCard, read_card
from pawlatch.classify import Classifier
from pawlatch.decide import policy_from_card
from pawlatch.door import Door
from pawlatch.errors import OutputError, PawlatchError, PhotosError
from pawlatch.files import new_folder, require_absent, write_atomic
from pawlatch.image import Image, fit, read_image
from pawlatch.latch import RecordingLatch
from pawlatch.loop import Step, Watch
from pawlatch.overlay import ClipWriter
from pawlatch.photos import EMPTY, OTHER, list_splits
from pawlatch.replay import ClipClock
from pawlatch.report import VisitRow, render_page, render_visits
from pawlatch.visit import Visit

OWN_NAME = "biscuit"  # the drawn dog that may enter
CAST = {scene.OWN: OWN_NAME, scene.OTHER: OTHER, scene.CAT: "cat", scene.EMPTY: EMPTY}
DRAWN_PHOTOS = {scene.OWN: 80, scene.OTHER: 100, scene.CAT: 60, scene.EMPTY: 40}
CLIP_FPS = 10.0
SHOWN_S, GAP_S = 3.0, 4.0  # a held-out photo in the clip, and the pause that ends its visit
SHOWN_PHOTOS = 8


@dataclass(frozen=True)
class Segment:
    """Who is in front of the camera from `start_s` to `end_s`, in truth."""

    came: str
    start_s: float
    end_s: float
    may_enter: bool


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="pawlatch demo", description="From photos to a door that opens for one animal, in one command."
    )
    parser.add_argument("--photos", type=Path, help="your own photos/<label>/*; default: a drawn set")
    parser.add_argument("--unlock", help="with --photos: the label that may enter")
    parser.add_argument("-o", "--output", type=Path, default=Path("pawlatch-demo"))
    parser.add_argument("--weights", help="auto, imagenet, starter or a file; default: starter, and auto with --photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fast", action="store_true", help="do not wait for the clip's own time")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier demo left in the output folder")
    args = parser.parse_args(argv)
    unlock = _chosen_label(args.photos, args.unlock)
    require_absent(args.output, overwrite=args.overwrite)
    start = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    photos = args.photos or _draw_photos(args.output / "photos", seed=args.seed)
    model = args.output / "model"
    weights = args.weights or ("auto" if args.photos else "starter")
    _pawlatch("train", str(photos), "-o", str(model), "--unlock", unlock, "--weights", weights,
              "--seed", str(args.seed), "--overwrite")
    parity = _pawlatch("convert", str(model))

    card = read_card(model)
    if args.photos:
        segments, frames = _photo_clip(model, card)
    else:
        segments, frames = _drawn_clip(args.seed, paced=not args.fast)
    _say(f"the door watches {len(segments)} visits")
    rows = _watch(model, frames, segments, args.output / "visits.webm")
    right, summary = _verdict(rows, segments)
    commands = _next_commands(model, own_photos=args.photos is not None)
    _write_report(args.output, summary, rows, parity, commands)
    print(f"\n{render_visits(rows)}\n\n{'' if right else 'RED: '}the door {summary}")
    print(f"annotated clip: {args.output / 'visits.webm'}\nreport:         {args.output / 'report.html'}")
    print(f"done in {time.monotonic() - start:.0f} s; with photos of your own animal:\n")
    print("\n".join(f"  {line}" for line in commands))
    return 0 if right else 1


def _chosen_label(photos: Path | None, unlock: str | None) -> str:
    if photos is None:
        return OWN_NAME
    labels = sorted({photo.label for split in list_splits(photos).values() for photo in split})
    if unlock not in labels:
        raise PhotosError(f"name the animal that may enter with --unlock, one of {', '.join(labels)}; got {unlock}")
    return unlock


def _draw_photos(folder: Path, *, seed: int) -> Path:
    """The drawn photo set: own dog, other dogs, a cat, an empty porch; day, dusk and infra-red night."""
    counts = ", ".join(f"{count} {CAST[who]}" for who, count in DRAWN_PHOTOS.items())
    _say(f"drawing {sum(DRAWN_PHOTOS.values())} photos: {counts}")
    with new_folder(folder, overwrite=True) as drawn:
        for index, (who, count) in enumerate(DRAWN_PHOTOS.items()):
            rng = np.random.default_rng([seed, index])
            (drawn / CAST[who]).mkdir()
            for i in range(count):
                picture = scene.draw(rng, who, light=scene.LIGHTS[i % 3], size_hw=(360, 480))
                if not cv2.imwrite(str(drawn / CAST[who] / f"{i:03d}.jpg"), picture[..., ::-1]):
                    raise OutputError(f"cannot write {drawn}; make room or name another place with -o")
    return folder


def _drawn_clip(seed: int, *, paced: bool) -> tuple[list[Segment], Iterator[Frame]]:
    uri = f"scene:demo?seed={seed}&light=mixed"
    visits = scene.Scene.parse(uri.removeprefix("scene:")).visits
    names = {scene.OWN: OWN_NAME, scene.OTHER: "another dog", scene.CAT: "a cat"}
    segments = [Segment(names[visit.who], visit.start_s, visit.end_s, visit.who == scene.OWN) for visit in visits]
    began_s = time.monotonic()
    return segments, open_camera(uri, paced=paced, clock=lambda: time.monotonic() - began_s).frames()


def _photo_clip(model: Path, card: ModelCard) -> tuple[list[Segment], Iterator[Frame]]:
    """Held-out photos as visits to a drawn porch: each drifts before the camera for a while."""
    held_out = list_splits(model / "assets.extra" / "heldout")[""]
    random.Random(0).shuffle(held_out)
    own = [photo for photo in held_out if photo.label in card.unlock]
    others = [photo for photo in held_out if photo.label not in card.unlock]
    shown = [photo for pair in zip_longest(own, others) for photo in pair if photo is not None][:SHOWN_PHOTOS]
    segments = [
        Segment(photo.label, GAP_S + i * (SHOWN_S + GAP_S), (i + 1) * (SHOWN_S + GAP_S), photo.label in card.unlock)
        for i, photo in enumerate(shown)
    ]

    rng = np.random.default_rng(0)
    porch = scene.draw(rng, scene.EMPTY, light="day", size_hw=(480, 480))[..., ::-1].astype(np.int16)

    def empty() -> Iterator[Image]:
        for _ in range(round(GAP_S * CLIP_FPS)):  # without a camera's noise it would count as frozen
            yield np.clip(porch + rng.integers(-2, 3, porch.shape), 0, 255).astype(np.uint8)

    def images() -> Iterator[Image]:
        for photo in shown:
            yield from empty()
            still = np.ascontiguousarray(fit(read_image(photo.path), (480, 480), policy=card.input.fit)[..., ::-1])
            for i in range(round(SHOWN_S * CLIP_FPS)):
                margin = round(1.2 * i)  # a slow zoom: a still picture is no motion
                inner = (margin, margin, 480 - margin, 480 - margin)
                yield fit(still, (480, 480), policy="stretch", box_yxyx=inner)
        yield from empty()

    return segments, (Frame(index / CLIP_FPS, image, index) for index, image in enumerate(images()))


def _watch(model: Path, frames: Iterator[Frame], segments: Sequence[Segment], clip: Path) -> list[VisitRow]:
    """The camera loop, with the recording latch; every frame is annotated into the clip."""
    classifier = Classifier(model)
    policy = policy_from_card(classifier.card, classifier.variant)
    clock = ClipClock()
    visits: list[Visit] = []
    latch = RecordingLatch(clock=clock)
    pictures: dict[int, tuple[float, Image]] = {}  # by segment: how telling, and the annotated frame
    with ClipWriter(clip, fps=CLIP_FPS) as writer, Door(latch, clock=clock) as door:
        watch = Watch(classifier, policy, door, clock=clock, on_visit=visits.append)
        for step in watch.steps(clock.follow(frames)):
            picture = overlay.draw(step, policy=policy)
            writer.write(picture, step.frame.time_s)
            _keep_telling(pictures, step, picture, segments)
    _say(f"the latch: {latch}")
    return [_row(visit, segments, pictures) for visit in visits]


def _keep_telling(pictures: dict[int, tuple[float, Image]], step: Step, picture: Image, segments: Sequence[Segment]) -> None:
    """Of each visit keep the frame in which the door opened, else the one in which the model was surest of an animal."""
    index = _segment_at(step.frame.time_s, segments)
    if index is None or step.prediction is None or step.prediction.label == EMPTY:
        return
    telling = 2.0 if step.opened else step.prediction.score
    if index not in pictures or telling > pictures[index][0]:
        pictures[index] = telling, picture


def _segment_at(time_s: float, segments: Sequence[Segment]) -> int | None:
    return next((i for i, segment in enumerate(segments) if segment.start_s <= time_s < segment.end_s), None)


def _row(visit: Visit, segments: Sequence[Segment], pictures: dict[int, tuple[float, Image]]) -> VisitRow:
    middle_s = (visit.start_s + visit.end_s) / 2  # of one that opened, when it did: a visit may outlast who it was for
    index = _segment_at(middle_s if visit.time_to_unlock_s is None else visit.start_s + visit.time_to_unlock_s, segments)
    return VisitRow(
        came="nobody" if index is None else segments[index].came,
        start_s=visit.start_s, label=visit.label, score=visit.score, unlocked=visit.unlocked, reason=visit.reason,
        time_to_unlock_s=visit.time_to_unlock_s, picture_bgr=pictures[index][1] if index in pictures else None,
    )


def _verdict(rows: Sequence[VisitRow], segments: Sequence[Segment]) -> tuple[bool, str]:
    """Whether the door did right in every visit, and the sentence that says so."""
    opened = [any(row.unlocked and _segment_of(row, segments) is segment for row in rows) for segment in segments]
    own = [did for did, segment in zip(opened, segments, strict=True) if segment.may_enter]
    strangers = [did for did, segment in zip(opened, segments, strict=True) if not segment.may_enter]
    elsewhen = sum(row.unlocked and _segment_of(row, segments) is None for row in rows)
    right = all(own) and not any(strangers) and not elsewhen
    return right, (
        f"opened for the own animal in {sum(own)} of {len(own)} visits, for strangers in {sum(strangers)} of {len(strangers)}"
        + (f", and {elsewhen} times for nobody" if elsewhen else "")
    )


def _segment_of(row: VisitRow, segments: Sequence[Segment]) -> Segment | None:
    index = _segment_at(row.start_s + (row.time_to_unlock_s or 0.0), segments)
    return None if index is None else segments[index]


def _next_commands(model: Path, *, own_photos: bool) -> list[str]:
    """What to type next, as it works in this shell."""
    here = _programs()
    edge = shlex.quote(str(model / "edge"))
    if own_photos:
        return [
            f"{here}pawlatch replay {edge} clips/*.mp4         # what the door would have done",
            f"{here}pawlatch run {edge} --camera 0 --latch log # a dry run on a camera",
        ]
    return [
        f"{here}pawlatch frames my-dog.mp4 -o photos/rex      # clips as photos; add photos/_other and photos/_empty",
        f"{here}pawlatch train photos/ -o rex/ --unlock rex",
        f"{here}convert --int8 rex/",
        f"{here}pawlatch run rex/edge --camera 0 --latch log  # a dry run on a camera",
        f"{here}pawlatch demo --photos photos/ --unlock rex -o rex-demo",
    ]


def _programs() -> str:
    """The folder of our programs with its slash, where the shell would not find them by itself."""
    program = Path(sys.argv[0])
    found = shutil.which("pawlatch")
    is_ours = program.name == "pawlatch" and (found is None or not program.samefile(found))
    return f"{shlex.quote(str(program.parent))}/" if is_ours else ""


def _write_report(output: Path, summary: str, rows: Sequence[VisitRow], parity: str, commands: Sequence[str]) -> None:
    model = output / "model"
    page = render_page(
        title="pawlatch: who came to the door", summary=f"The door {summary}.", rows=rows, clip="visits.webm",
        parity=parity,
        pictures=[("training and validation", model / "curves.png"), ("held-out photos", model / "confusion.png")],
        commands=commands,
    )
    write_atomic(output / "report.html", page)


def _say(line: str) -> None:
    print(f"\n== {line}", file=sys.stderr, flush=True)


def _pawlatch(*arguments: str) -> str:
    """Run a pawlatch command as a person would type it, and return what it printed."""
    _say(f"pawlatch {shlex.join(arguments)}")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = cli.main(list(arguments))
    print(printed.getvalue(), end="", flush=True)
    if status != 0:
        raise PawlatchError(f"`pawlatch {arguments[0]}` did not succeed; its message is above")
    return printed.getvalue()
