"""`convert`: a model to files for a small board, each with a verdict."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from pawlatch.bundle import roll_back
from pawlatch.commands.arguments import whole
from pawlatch.errors import ModelCardError
from pawlatch.image import FIT_POLICIES
from pawlatch_convert.parity import Gate, ParityResult
from pawlatch_convert.pipeline import BUDGET_S, ConvertOptions, convert_model
from pawlatch_convert.recipes import RECIPES, REFERENCE
from pawlatch_convert.scaling import AUTO, SCALE_NAMES
from pawlatch_convert.sources import bundle_folder, read_labels
from pawlatch_convert.speed import TARGETS
from pawlatch_convert.table import render_table
from pawlatch_convert.verify import verify_bundle, verify_file


def main(argv: list[str]) -> int:
    """Run `convert`.

    Returns:
        1 if a variant that a flag named, or that was to be verified, is red, else 0: red is never deployed, but only what was
        asked for is missed.

    Raises:
        PawlatchError: bad input; the caller prints it and exits with 2.
    """
    parser = _parser()
    arguments = parser.parse_args(argv)
    named = tuple(name for name in RECIPES if name != REFERENCE and getattr(arguments, name))
    model, file = _model_and_file(parser, arguments)
    if arguments.rollback:
        card = roll_back(arguments.out or bundle_folder(model))
        print(f"the previous bundle is back: {card.name}, {', '.join(card.files)}; deployed: {card.deploy}")
        return 0
    options = _options(arguments, named)
    if file is not None:
        result = verify_file(file, model, options, progress=_tell)
    elif arguments.verify:
        result = verify_bundle(model, options, progress=_tell)
        named = named or tuple(entry.variant for entry in result.variants)
    else:
        result = convert_model(model, options, progress=_tell)
    print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) if arguments.json else render_table(result))
    return 0 if _is_green(result, named if file is None else None) else 1


def _is_green(result: ParityResult, named: tuple[str, ...] | None) -> bool:
    return all(entry.is_green for entry in result.variants if named is None or entry.variant in named)


def _model_and_file(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> tuple[Path, Path | None]:
    """The model, and with --verify perhaps a file before it."""
    paths: list[Path] = arguments.paths
    if len(paths) == 2 and arguments.verify:
        return paths[1], paths[0]
    if len(paths) != 1:
        parser.error(f"expected one model{', and before it perhaps a file' if arguments.verify else ''}, got {len(paths)}")
    if arguments.qat != (arguments.train_photos is not None):
        raise ModelCardError("--qat and --train-photos DIR go together: fine-tuning needs photos, and only it does; name both")
    return paths[0], None


def _options(arguments: argparse.Namespace, named: tuple[str, ...]) -> ConvertOptions:
    side = arguments.image_size
    return ConvertOptions(
        recipes=named or tuple(RECIPES), photos=arguments.photos,
        labels=read_labels(arguments.labels) if arguments.labels else None, scale=arguments.scale, fit=arguments.fit,
        size_hw=(side, side) if side else None, unlock=tuple(arguments.unlock.split(",")) if arguments.unlock else (),
        out=arguments.out, target=arguments.target, threads=arguments.threads,
        gate=replace(Gate(), max_drop=arguments.max_drop, min_agreement=arguments.min_agreement),
        ladder=not arguments.no_ladder, budget_s=arguments.budget_s, tuning_photos=arguments.train_photos,
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    gate = Gate()
    parser = argparse.ArgumentParser(
        prog="convert", description="Convert a trained model for a small board, and prove that it still decides alike.",
        epilog="Without a variant named, all are made. Exit status: 0 green, 1 a variant named is red, 2 bad input.",
    )
    parser.add_argument("paths", type=Path, nargs="+", metavar="model",
                        help="the folder that train wrote, or a SavedModel, .keras or .h5 of another origin")
    for recipe in RECIPES.values():
        if recipe.name != REFERENCE:
            parser.add_argument(recipe.flag, dest=recipe.name, action="store_true", help=recipe.help)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="the bundle (default: edge/ in the model folder)")
    parser.add_argument("--photos", type=Path, metavar="DIR",
                        help="labelled photos to calibrate with and judge by, in place of those that train kept")
    parser.add_argument("--target", choices=tuple(TARGETS), default="pi-zero2",
                        help="what the deployed variant is chosen for (default: %(default)s)")
    parser.add_argument("--verify", action="store_true",
                        help="prove a finished bundle again, or, with FILE before the model, a file converted elsewhere")
    parser.add_argument("--rollback", action="store_true", help="make the bundle's previous card its card again")
    parser.add_argument("--json", action="store_true", help="print the parity as JSON instead of the table")
    judging = parser.add_argument_group("the verdict")
    judging.add_argument("--max-drop", type=_share, default=gate.max_drop, metavar="SHARE",
                         help="of top-1 accuracy that a variant may lose (default: %(default)s)")
    judging.add_argument("--min-agreement", type=_share, default=gate.min_agreement, metavar="SHARE",
                         help="of photos that must keep their label (default: %(default)s)")
    judging.add_argument("--threads", type=whole, default=2, metavar="N",
                         help="of the engines that are compared (default: %(default)s)")
    ladder = parser.add_argument_group("where int8 falls short")
    ladder.add_argument("--no-ladder", action="store_true", help="the bare recipe alone")
    ladder.add_argument("--budget-s", type=float, default=BUDGET_S, metavar="S",
                        help="begin no rung that would end later (default: %(default)s)")
    ladder.add_argument("--qat", action="store_true", help="quantization-aware fine-tuning as the last rung")
    ladder.add_argument("--train-photos", type=Path, metavar="DIR", help="the photos for --qat")
    foreign = parser.add_argument_group("a model that train did not write")
    foreign.add_argument("--labels", metavar="A,B|FILE", help="in the order of its outputs (default: the photos' folders)")
    foreign.add_argument("--scale", choices=SCALE_NAMES, default=AUTO,
                         help="the range of pixels it takes (default: measured on the photos)")
    foreign.add_argument("--fit", choices=FIT_POLICIES, help="how a picture becomes square (default: center_crop)")
    foreign.add_argument("--image-size", type=whole, metavar="SIDE", help="where it takes pictures of any size")
    foreign.add_argument("--unlock", metavar="LABEL[,LABEL]", help="labels that a door may open for")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value
