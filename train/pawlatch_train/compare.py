"""`train --compare field=a,b`: one training for each value, and all their curves in one picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pawlatch.files import new_folder, write_atomic
from pawlatch_train.history import History, comparison_table
from pawlatch_train.options import TrainOptions
from pawlatch_train.outcome import Trained
from pawlatch_train.plots import draw_comparison
from pawlatch_train.recipe import RecipeError
from pawlatch_train.train import train_model


def compare(photos: Path, output: Path, options: TrainOptions, *, field: str, values: Sequence[Any],
            progress: Callable[[str], None]) -> str:
    """Train on the same photos and splits with each value of a recipe's field.

    `output` gets a model folder for each, `comparison.png` and `comparison.txt`, all at once or not at all.

    Returns:
        The table: a line a value.

    Raises:
        RecipeError: a value that the field cannot have, or --resume; before anything is trained.
        PhotosError, WeightsError, OutputError: as `train_model`.
    """
    if options.resume:
        raise RecipeError("--compare trains all or nothing, and cannot go on with what was killed; leave --resume away")
    recipes = {_shown(value): options.recipe.with_values({field: value}) for value in values}
    histories: dict[str, History] = {}
    held_out: dict[str, float] = {}
    with new_folder(output, overwrite=options.overwrite) as folder:
        for name, recipe in recipes.items():
            progress(f"== {field} = {name}")
            run = dataclasses.replace(options, recipe=recipe, name=options.name or f"{field}-{name}", overwrite=False)
            trained: Trained = train_model(photos, folder / f"{field}-{name}".replace("/", "_"), run, progress=progress)
            histories[name], held_out[name] = trained.history, trained.judged.share_right().value
        draw_comparison(histories, folder / "comparison.png", field=field)
        table = comparison_table(histories, held_out, field=field)
        write_atomic(folder / "comparison.txt", table + "\n")
    return f"{table}\ncurves: {output / 'comparison.png'}"


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
