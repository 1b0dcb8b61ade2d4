"""What the device gets: promoted files beside a card that vouches for them. The card's rename is the only commit."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pawlatch.bundle import PREVIOUS_NAME, selftest_names, sweep
from pawlatch.card import CARD_NAME, ModelCard, VariantFile, read_card, verified_file
from pawlatch.errors import ModelCardError
from pawlatch.files import new_folder, sha256, write_atomic
from pawlatch.selftest import FOLDER as SELFTEST
from pawlatch_convert.parity import ParityResult, VariantResult
from pawlatch_convert.recipes import RECIPES, Recipe

PARITY_NAME = "parity.json"
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
        operating_points={**card.operating_points, **_of(kept, previous.operating_points)},
        strangers={**card.strangers, **_of(kept, previous.strangers)},
        parity={name: previous.parity[name] for name in kept if name in previous.parity},
    )


def bundle_card(kept: ModelCard, results: Sequence[VariantResult],
                strangers: Mapping[str, Mapping[str, float] | None]) -> ModelCard:
    """The bundle's card: what is kept, plus every green variant with its own operating point and stranger threshold."""
    green = {result.variant: result for result in results if result.is_green and result.file is not None}
    files = {**kept.files, **{name: result.file for name, result in green.items() if result.file}}
    return replace(
        kept,
        files={name: files[name] for name in RECIPES if name in files},
        operating_points={
            **kept.operating_points, **{name: r.operating_point for name, r in green.items() if r.operating_point},
        },
        strangers={**kept.strangers, **{name: own for name, own in strangers.items() if own and name in green}},
        parity={**kept.parity, **{name: _summary(result) for name, result in green.items()}},
    )


def promote(edge: Path, staged: Path, card: ModelCard, result: ParityResult, page: Path) -> None:
    """Put the card's new files from `staged` into `edge`, commit the card, and sweep out what no card names.

    The card that was there stays as the previous one, with its files, for `roll_back`.

    Raises:
        OutputError: the disk refuses; then `edge` is as it was.
    """
    waiting = {name: edge / f"{name}.new" for name in (PARITY_NAME, page.name, PREVIOUS_NAME)}
    with _undone_on_failure(edge):
        (edge / SELFTEST).mkdir(exist_ok=True)
        models = [entry.name for entry in card.files.values()]
        for name in (*models, *selftest_names(staged, card.parity.get(SELFTEST))):
            if (staged / name).is_file():
                write_atomic(edge / name, (staged / name).read_bytes())
        write_atomic(waiting[PARITY_NAME], _to_json(result))
        write_atomic(waiting[page.name], page.read_bytes())
        if (edge / CARD_NAME).is_file() and (edge / CARD_NAME).read_text(encoding="utf-8") != card.to_json():
            write_atomic(waiting[PREVIOUS_NAME], (edge / CARD_NAME).read_bytes())
        card.write(edge)
    for name, path in waiting.items():  # after the commit only what needs no room on the disk
        if path.is_file():
            path.replace(edge / name)
    sweep(edge)


def reject(edge: Path, staged: Path, result: ParityResult, page: Path) -> None:
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
        shutil.copyfile(page, folder / page.name)


@contextmanager
def _undone_on_failure(edge: Path) -> Iterator[None]:
    """Leave the folder with the files it had, should the block fail before the card is committed."""
    existed = edge.is_dir()
    edge.mkdir(parents=True, exist_ok=True)
    before, card = set(edge.rglob("*")), _card_bytes(edge)
    try:
        yield
    except BaseException:  # also when interrupted
        if _card_bytes(edge) != card:  # just after the commit: the card needs the new files
            raise
        for path in sorted(set(edge.rglob("*")) - before, reverse=True):  # what is in a folder before the folder
            path.rmdir() if path.is_dir() else path.unlink()
        if not existed:
            edge.rmdir()
        raise


def _card_bytes(edge: Path) -> bytes | None:
    path = edge / CARD_NAME
    return path.read_bytes() if path.is_file() else None


def _of(names: Collection[str], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}


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
        "integer_share": result.census.integer_share if result.census else None,
    }
