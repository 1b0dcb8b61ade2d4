"""`convert`: a SavedModel to files for a small board, each with a verdict."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pawlatch.commands.arguments import whole
from pawlatch_convert.parity import Gate
from pawlatch_convert.pipeline import convert_model
from pawlatch_convert.recipes import RECIPES, REFERENCE
from pawlatch_convert.table import render_table


def main(argv: list[str]) -> int:
    """Run `convert`.

    Returns:
        1 if a variant that a flag named is red, else 0: red is never deployed, but only what was asked for is missed.

    Raises:
        PawlatchError: bad input; the caller prints it and exits with 2.
    """
    options = _parser().parse_args(argv)
    named = [name for name in RECIPES if name != REFERENCE and getattr(options, name)]
    result = convert_model(
        options.model, recipes=named or tuple(RECIPES), photos=options.photos, out=options.out,
        max_drop=options.max_drop, min_agreement=options.min_agreement, threads=options.threads,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) if options.json else render_table(result))
    return 0 if all(entry.is_green for entry in result.variants if entry.variant in named) else 1


def _parser() -> argparse.ArgumentParser:
    gate = Gate()
    parser = argparse.ArgumentParser(
        prog="convert", description="Convert a trained model for a small board, and prove that it still decides alike.",
        epilog="Without a variant named, all are made. Exit status: 0 green, 1 a variant named is red, 2 bad input.",
    )
    parser.add_argument("model", type=Path, help="the folder that train wrote: a SavedModel with its pawlatch.json")
    for recipe in RECIPES.values():
        if recipe.name != REFERENCE:
            parser.add_argument(recipe.flag, dest=recipe.name, action="store_true", help=recipe.help)
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="the bundle (default: edge/ in the model folder)")
    parser.add_argument("--photos", type=Path, metavar="DIR",
                        help="labelled photos to calibrate with and judge by, in place of those that train kept")
    parser.add_argument("--max-drop", type=_share, default=gate.max_drop, metavar="SHARE",
                        help="of top-1 accuracy that a variant may lose (default: %(default)s)")
    parser.add_argument("--min-agreement", type=_share, default=gate.min_agreement, metavar="SHARE",
                        help="of photos that must keep their label (default: %(default)s)")
    parser.add_argument("--threads", type=whole, default=2, metavar="N",
                        help="of the engines that are measured (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the parity as JSON instead of the table")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share from 0 to 1, got {text}")
    return value
