"""What each rung of the ladder gives on a model, also where the bare recipe would have been good enough.

    python tests/bench/ladder.py model/ [model/ ...] [--selective]

Models are folders that `train` wrote. Prints, for the bare file and each rung, top-1's difference to the SavedModel's, agreement,
agreement where the float margin is over 0.2, the mean difference of scores, KL divergence, and how long making it took.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from time import perf_counter

from pawlatch.card import read_card
from pawlatch.classify import Classifier
from pawlatch.photos import SetAside
from pawlatch_convert.bundle import stage
from pawlatch_convert.compare import compare
from pawlatch_convert.ladder import Ladder
from pawlatch_convert.measure import run_variant, score_photos
from pawlatch_convert.photoset import find_photos
from pawlatch_convert.pipeline import fitted_photos, workspace
from pawlatch_convert.recipes import RECIPES, Converter, guarded
from pawlatch_convert.savedmodel import SavedModel

INT8 = RECIPES["int8"]


def main(folder: Path, *, selective: bool) -> None:
    """All rungs of one model."""
    card, set_aside = read_card(folder), list[SetAside]()
    model = SavedModel(folder, card)
    calibration, samples = fitted_photos(find_photos(folder, None, card), card, set_aside)
    pixels = [sample.pixels for sample in samples]
    scored = score_photos(model, {}, samples)
    with workspace() as scratch:
        converter = Converter(model, calibration, scratch)
        made = [("bare", lambda: converter.convert(INT8))]
        ladder = Ladder(converter.float_tflite, calibration)
        for i, (name, make) in enumerate(_all(made, ladder, selective)):
            start = perf_counter()
            data = guarded(name, make)
            seconds = perf_counter() - start
            place = scratch / f"{i}"
            place.mkdir()
            replace(card, files={"int8": stage(place, INT8, data)}).write(place)
            found = compare(scored, run_variant(Classifier(place, variant="int8"), pixels), card)
            print(f"{folder.name:16s} {name:12s} {100 * found.difference:+5.1f} points, agree {100 * found.agreement:5.1f}% "
                  f"({found.n_relabelled} of {found.n_photos} flip), sure {100 * (found.sure_agreement or 0):5.1f}%, "
                  f"mean |Δ| {found.mean_delta:.5f}, KL {found.mean_kl:.5f}, {len(data) / 1e6:.2f} MB, {seconds:.0f} s", flush=True)


def _all(made, ladder, selective):
    yield from made
    for rung in ladder.rungs(may_be_mixed=lambda: selective):
        yield rung.name, rung.make


if __name__ == "__main__":
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        raise SystemExit(__doc__)
    for each in folders:
        main(each, selective="--selective" in sys.argv)
