"""What the device gets: promoted files beside a card that vouches for them. The card's rename is the only commit."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pawlatch.card import SAVED_MODEL, ModelCard, VariantFile, read_card, verified_file
from pawlatch.errors import ModelCardError
from pawlatch.files import new_folder, sha256, write_atomic
from pawlatch_convert.parity import ParityResult, VariantResult
from pawlatch_convert.recipes import RECIPES, REFERENCE, Recipe

PARITY_NAME = "parity.json"
_OURS = re.compile(rf"({'|'.join(RECIPES)})-[0-9a-f]{{8}}\.(tflite|onnx)")
_log = logging.getLogger(__name__)


def stage(folder: Path, recipe: Recipe, data: bytes) -> VariantFile:
    """Write a converted file under the name that its content gives it."""
    temporary = folder / f"{recipe.name}.part"
    temporary.write_bytes(data)
    digest = sha256(temporary)
    name = f"{recipe.name}-{digest[:8]}.{recipe.format}"
    temporary.rename(folder / name)
    return VariantFile(name, recipe.format, recipe.precision, len(data), digest)


def kept_variants(edge: Path, card: ModelCard, converted: Collection[str]) -> ModelCard:
    """The train card with those variants in `edge` that are of the same model and were not converted again."""
    try:
        previous = read_card(edge)
    except ModelCardError:
        return card
    if not card.provenance or (previous.provenance, previous.labels, previous.input) != (
        card.provenance, card.labels, card.input,
    ):
        return card
    kept = [name for name in previous.files if name not in converted and _is_whole(edge, previous, name)]
    return replace(
        card,
        files={name: previous.files[name] for name in kept},
        parity={name: previous.parity[name] for name in kept if name in previous.parity},
    )


def bundle_card(kept: ModelCard, results: tuple[VariantResult, ...]) -> ModelCard:
    """The bundle's card: what is kept, plus every green variant."""
    green = {result.variant: result.file for result in results if result.is_green and result.file is not None}
    files = {name: {**kept.files, **green}[name] for name in RECIPES if name in kept.files or name in green}
    points = dict(kept.operating_points)
    if SAVED_MODEL in points:
        points |= dict.fromkeys(files, points[SAVED_MODEL])
    return replace(
        kept,
        files=files,
        operating_points=points,
        parity={**kept.parity, **{result.variant: _summary(result) for result in results if result.variant in green}},
        deploy=next((name for name in ("int8", REFERENCE, *files) if name in files), None),
    )


def promote(edge: Path, staged: Path, card: ModelCard, result: ParityResult) -> None:
    """Put the card's new files from `staged` into `edge`, commit the card, and sweep out what it no longer names.

    Raises:
        OutputError: the disk refuses; then `edge` is as it was.
    """
    waiting = edge / f"{PARITY_NAME}.new"
    with _undone_on_failure(edge):
        for entry in card.files.values():
            if (staged / entry.name).is_file():
                write_atomic(edge / entry.name, (staged / entry.name).read_bytes())
        write_atomic(waiting, _to_json(result))
        card.write(edge)
    waiting.replace(edge / PARITY_NAME)  # after the commit only what needs no room on the disk
    wanted = {entry.name for entry in card.files.values()}
    for path in edge.iterdir():
        if _OURS.fullmatch(path.name) and path.name not in wanted:
            path.unlink(missing_ok=True)


def reject(edge: Path, staged: Path, result: ParityResult) -> None:
    """Keep the red files of this run in `edge.rejected/`, beside the bundle, in place of those of an earlier run."""
    rejected = edge.with_name(f"{edge.name}.rejected")
    red = [entry for entry in result.variants if not entry.is_green]
    is_ours = (rejected / PARITY_NAME).is_file()
    if not red:
        if is_ours:
            shutil.rmtree(rejected)
        return
    with new_folder(rejected, overwrite=is_ours) as folder:
        for entry in red:
            if entry.file is not None:
                shutil.copyfile(staged / entry.file.name, folder / entry.file.name)
        write_atomic(folder / PARITY_NAME, _to_json(result))


@contextmanager
def _undone_on_failure(edge: Path) -> Iterator[None]:
    """Leave the folder with the files it had, should the block fail before the card is committed."""
    existed = edge.is_dir()
    edge.mkdir(parents=True, exist_ok=True)
    before = {path.name for path in edge.iterdir()}
    try:
        yield
    except BaseException:  # also when interrupted
        for path in edge.iterdir():
            if path.name not in before:
                path.unlink()
        if not existed:
            edge.rmdir()
        raise


def _is_whole(edge: Path, card: ModelCard, variant: str) -> bool:
    try:
        verified_file(edge, card, variant)
    except ModelCardError as error:
        _log.warning("not kept: %s", error)
        return False
    return True


def _to_json(result: ParityResult) -> str:
    return json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n"


def _summary(result: VariantResult) -> dict[str, Any]:
    """The few numbers of parity.json that stand in the card too."""
    comparison = result.comparison
    if comparison is None:
        return {}
    return {
        "top1": comparison.top1,
        "difference": comparison.difference,
        "difference_interval": list(comparison.difference_interval),
        "agreement": comparison.agreement,
        "max_delta": comparison.max_delta,
        "flips": len(comparison.flips),
        "integer_share": result.integer_share,
    }
