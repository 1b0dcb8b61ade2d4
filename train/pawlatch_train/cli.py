"""`pawlatch train photos/ -o model/`"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pawlatch.commands.arguments import whole
from pawlatch.image import FIT_POLICIES

if TYPE_CHECKING:
    from pawlatch_train.train import Trained


def main(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from pawlatch_train.model import Recipe  # TensorFlow comes in here, after --help and usage errors
    from pawlatch_train.train import TrainOptions, train_model

    recipe = Recipe(seed=args.seed, head_epochs=args.epochs, fine_tune_epochs=args.fine_tune_epochs)
    options = TrainOptions(
        unlock=tuple(label for label in (args.unlock or "").split(",") if label),
        weights=args.weights, width=args.width, image_size=args.image_size, fit=args.fit, target=args.target,
        overwrite=args.overwrite, name=args.name, recipe=recipe,
    )
    start = time.monotonic()
    trained = train_model(args.photos, args.output, options, progress=lambda line: print(line, file=sys.stderr, flush=True))
    print(summary(trained))
    print(f"trained in {time.monotonic() - start:.0f} s; next: convert --int8 {args.output}")
    return 0


def summary(trained: Trained) -> str:
    """What a person wants to know after training."""
    card, confusion = trained.card, trained.confusion
    total, right = int(confusion.sum()), int(confusion.trace())
    low, high = trained.interval_95
    lines = [
        f"{trained.folder}: {len(card.labels)} labels, held-out accuracy {right}/{total} = {right / total:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f})",
        "held-out photos, rows truth, columns prediction:",
        "  " + " " * 14 + "".join(f"{label[:10]:>12}" for label in card.labels),
    ]
    for label, row in zip(card.labels, confusion, strict=True):
        lines.append(f"  {label[:14]:<14}" + "".join(f"{int(count):>12}" for count in row))
    if trained.set_aside:
        lines.append(f"{len(trained.set_aside)} files were set aside:")
        lines += [f"  {item.path}: {item.reason}" for item in trained.set_aside[:10]]
    if not card.unlock:
        lines.append("no --unlock label: a door with this model cannot be armed")
        return "\n".join(lines)
    door = card.provenance["metrics"]["single_photo_door"]
    lines.append(
        f"unlocks for {', '.join(card.unlock)} from a score of {card.threshold('saved_model'):.3f}; on single held-out photos "
        f"{door['false_unlocks']} false unlocks of {door['strangers']} "
        f"(95 %: at most {door['false_unlock_interval_95'][1]:.1%}), "
        f"{door['lock_outs']} lock-outs of {door['own']}"
    )
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train", description="Turn a folder of photos into a fine-tuned MobileNetV2 SavedModel.",
        epilog="photos/<label>/* or photos/{train,valid,test}/<label>/*; _other/ holds strangers, _empty/ the place alone",
    )
    parser.add_argument("photos", type=Path, help="folder with a folder of photos for each label")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the model folder to write")
    parser.add_argument("--unlock", metavar="LABEL[,LABEL]", help="labels the door opens for; none: it cannot be armed")
    parser.add_argument("--weights", default="auto", help="auto (default), imagenet, starter, or a file of weights")
    parser.add_argument("--target", choices=("pi5", "pi4", "pi-zero2", "desktop"), default="desktop", help="picks the width")
    parser.add_argument("--width", type=float, help="MobileNetV2's width multiplier (default: by weights and target)")
    parser.add_argument("--image-size", type=_side, help="input side in pixels, a multiple of 32 (default: 224; starter: 128)")
    parser.add_argument("--fit", choices=FIT_POLICIES, default="center_crop", help="how a picture becomes square")
    parser.add_argument("--epochs", type=whole, default=40, help="most epochs of the frozen stage (default 40)")
    parser.add_argument("--fine-tune-epochs", type=_count, help="epochs of fine-tuning (default: by the number of photos)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", help="the model's name (default: what it unlocks for)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output folder that exists")
    return parser


def _count(text: str) -> int:
    return 0 if text == "0" else whole(text)


def _side(text: str) -> int:
    side = int(text)
    if side < 64 or side % 32:
        raise argparse.ArgumentTypeError(f"the input side must be a multiple of 32 from 64 up, got {text}")
    return side
