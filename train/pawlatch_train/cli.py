"""`pawlatch train photos/ -o model/`"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from pathlib import Path
from typing import Any

from pawlatch.commands.arguments import whole
from pawlatch_train.options import TrainOptions
from pawlatch_train.recipe import RecipeError, TrainRecipe, choices_of, help_of, parse_value, read_recipe

DEFAULT_TARGET = "pi-zero2"  # a narrow network runs on every board, and on some hundred photos it decides as well
ALIASES = {"head_epochs": ("--epochs",)}


def main(argv: list[str]) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if (args.unlock or "").startswith("imagenet:") and args.photos is None:
        return _imagenet_door(args)
    if args.layers:
        return _layers(args)
    if args.photos is None:
        parser.error("name the folder of photos, or --unlock imagenet:GROUP for a door without any")
    if args.check:
        from pawlatch_train.check_page import main as check

        return check(args.photos, args.html)
    if args.output is None:
        parser.error("name the model folder to write with -o")
    from pawlatch_train.train import train_model  # TensorFlow comes in here, after --help and usage errors

    if args.compare:
        from pawlatch_train.compare import compare

        field, values = _compared(args.compare)
        print(compare(args.photos, args.output, _options(args), field=field, values=values, progress=_tell))
        return 0
    start = time.monotonic()
    trained = train_model(args.photos, args.output, _options(args), progress=_tell)
    if trained.is_chief:
        print(trained.summary())
        print(f"trained in {time.monotonic() - start:.0f} s; report: {args.output / 'report.html'}")
        print(f"next: convert --int8 {args.output}")
    return 0


def _options(args: argparse.Namespace) -> TrainOptions:
    return TrainOptions(
        unlock=tuple(label for label in (args.unlock or "").split(",") if label),
        backbone=args.backbone, weights=args.weights, width=args.width, image_size=args.image_size, cut_at=args.cut_at,
        target=args.target or DEFAULT_TARGET, recipe=_recipe(args), max_false_unlock=args.max_false_unlock, folds=args.folds,
        distill=args.distill, save=tuple(args.save or ()), strategy=args.strategy, resume=args.resume,
        overwrite=args.overwrite, name=args.name,
    )


def _recipe(args: argparse.Namespace) -> TrainRecipe:
    """Flags before the file, the file before the defaults."""
    values = read_recipe(args.recipe) if args.recipe else {}
    typed = {field.name: getattr(args, field.name) for field in dataclasses.fields(TrainRecipe)}
    values |= {name: parse_value(name, text) for name, text in typed.items() if text is not None}
    return TrainRecipe().with_values(values)


def _compared(text: str) -> tuple[str, list[Any]]:
    """`optimizer=sgd,adam` as the field and its values; where the values are lists themselves, they are divided by `;`."""
    field, _, values = text.partition("=")
    parts = [part for part in values.split(";" if ";" in values else ",") if part]
    if len(parts) < 2:
        raise RecipeError(f"--compare takes a field of the recipe and two or more values, as optimizer=sgd,adam; got {text!r}")
    return field, [parse_value(field, part) for part in parts]


def _imagenet_door(args: argparse.Namespace) -> int:
    if args.output is None:
        raise RecipeError("name the model folder to write with -o")
    from pawlatch_train.backbones import TARGET_WIDTHS
    from pawlatch_train.imagenet import imagenet_door

    print(imagenet_door(args.unlock.removeprefix("imagenet:"), args.output, weights=args.weights, name=args.name,
                        width=args.width or (args.target and TARGET_WIDTHS[args.target]), size=args.image_size,
                        overwrite=args.overwrite, progress=_tell))
    return 0


def _layers(args: argparse.Namespace) -> int:
    from pawlatch_train.backbones import open_backbone
    from pawlatch_train.layers import list_layers, trainable_from

    recipe = _recipe(args)
    backbone = open_backbone(args.backbone, weights=args.weights, width=args.width, size=args.image_size,
                             target=args.target or DEFAULT_TARGET, cut_at=args.cut_at)
    at = backbone.default_fine_tune_at if recipe.fine_tune_at is None else recipe.fine_tune_at
    frozen = recipe.freezes_batch_norm(backbone.weights.source)
    trainable = trainable_from(backbone.model, at, freeze=recipe.freeze, batch_norm_frozen=frozen)
    print(list_layers(backbone.model, trainable))
    return 0


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train", description="Turn a folder of photos into a fine-tuned SavedModel with its card and report.",
        epilog="photos/<label>/* or photos/{train,valid,test}/<label>/*; _other/ holds strangers, _empty/ the place alone",
    )
    parser.add_argument("photos", type=Path, nargs="?", help="folder with a folder of photos for each label")
    parser.add_argument("-o", "--output", type=Path, help="the model folder to write")
    parser.add_argument("--unlock", metavar="LABEL[,LABEL]",
                        help="labels the door opens for; none: it cannot be armed; imagenet:dog, without photos: any dog")
    parser.add_argument("--name", help="the model's name (default: what it unlocks for)")
    parser.add_argument("--overwrite", action="store_true", help="replace an output folder that exists")
    parser.add_argument("--resume", action="store_true", help="go on where a killed run of the same command ended")

    look = parser.add_argument_group("look before you train")
    look.add_argument("--check", action="store_true", help="only report on the photos")
    look.add_argument("--html", type=Path, help="with --check: write the report with thumbnails here")
    look.add_argument("--layers", action="store_true",
                      help="only list the backbone's layers and what fine-tuning would train")

    backbone = parser.add_argument_group("backbone")
    backbone.add_argument("--backbone", default="mobilenet_v2", help="mobilenet_v2 (default), mobilenet_v3_small, "
                          "mobilenet_v3_large, efficientnet_b0, vgg16, hub:HANDLE_OR_FOLDER, or the path of a model")
    backbone.add_argument("--weights", default="auto", help="auto (default), imagenet, starter, none, or a file of weights")
    backbone.add_argument("--target", choices=("pi5", "pi4", "pi-zero2", "desktop"),
                          help=f"where it is to run, which picks the width (default {DEFAULT_TARGET}: it runs everywhere)")
    backbone.add_argument("--width", type=float, help="width multiplier (default: by weights and target)")
    backbone.add_argument("--image-size", type=_side, metavar="SIDE",
                          help="input side in pixels, a multiple of 32 (default: 224; starter: 128)")
    backbone.add_argument("--cut-at", metavar="LAYER", help="with a model as backbone: the layer whose output is taken")

    trust = parser.add_argument_group("what it promises")
    trust.add_argument("--max-false-unlock", type=_rate, default=0.01, metavar="RATE",
                       help="share of strangers' photos that may unlock (default 1%%)")
    trust.add_argument("--folds", type=int, default=0, metavar="K",
                       help="cross-validate; the final model is trained on all photos")

    more = parser.add_argument_group("more")
    more.add_argument("--compare", metavar="FIELD=A,B",
                      help="train once for each value of a recipe's field and draw all curves in one plot")
    more.add_argument("--distill", type=Path, metavar="TEACHER", help="a model folder whose scores teach this one")
    more.add_argument("--save", action="append", choices=("keras", "h5", "weights"),
                      help="save this format beside the SavedModel")
    more.add_argument("--strategy", choices=("mirrored", "multiworker", "parameter-server", "tpu"),
                      help="train on several GPUs or machines (docs/many-machines.md)")

    recipe = parser.add_argument_group("recipe", "each field of TrainRecipe; what is not given follows from the photos")
    recipe.add_argument("--recipe", type=Path, metavar="FILE", help="a TOML file of fields, as a model keeps in recipe.toml")
    for field in dataclasses.fields(TrainRecipe):
        allowed = choices_of(field.name)
        default = "" if field.default is None else f" (default {_shown(field.default)})"
        recipe.add_argument(
            f"--{field.name.replace('_', '-')}", *ALIASES.get(field.name, ()), dest=field.name, choices=allowed,
            metavar=None if allowed else "VALUE", help=f"{help_of(field.name)}{default}".replace("%", "%%"),
        )
    return parser


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value == () else f"{value}"


def _rate(text: str) -> float:
    """A share as 0.01 or 1%."""
    try:
        rate = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        rate = -1.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"a rate must be above 0 and below 1, as 0.01 or 1%, got {text}")
    return rate


def _side(text: str) -> int:
    side = whole(text)
    if side < 64 or side % 32:
        raise argparse.ArgumentTypeError(f"the input side must be a multiple of 32 from 64 up, got {text}")
    return side
