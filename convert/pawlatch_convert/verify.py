"""The proof again: a finished bundle, or a file that something else converted, against the SavedModel on the same photos."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pawlatch.bundle import require_selftest
from pawlatch.card import SAVED_MODEL, ModelCard, VariantFile, read_bundle, verified_file
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ModelCardError, PhotosError
from pawlatch.files import sha256
from pawlatch.photos import SetAside
from pawlatch.quiet import quiet
from pawlatch_convert.census import take_census
from pawlatch_convert.climb import MIXED
from pawlatch_convert.compare import accuracy, agreement_matrix, decides
from pawlatch_convert.measure import score_photos
from pawlatch_convert.parity import ParityResult, Reason, VariantResult, pixel_faults
from pawlatch_convert.photoset import expected_scores, find_photos
from pawlatch_convert.pipeline import ConvertOptions, distrust_all, fitted_photos, judged, opened, step, workspace
from pawlatch_convert.points import raised
from pawlatch_convert.recipes import RECIPES, Recipe
from pawlatch_convert.sources import Source, bundle_folder

FORMATS = {".tflite": "tflite", ".onnx": "onnx"}


def verify_bundle(model: Path, options: ConvertOptions, *, progress: Callable[[str], None] = lambda line: None) -> ParityResult:
    """Hold every file of a model's bundle against its SavedModel again. Nothing is written.

    Raises:
        ModelCardError: no bundle, or a file that its card does not vouch for.
        PhotosError, MissingExtraError: as `convert_model`.
    """
    bundle, card = read_bundle(options.out or bundle_folder(model))
    for variant in card.files:
        verified_file(bundle, card, variant)
    with workspace() as scratch:
        source = opened(model, options, scratch, progress)
        staged = scratch / "staged"
        shutil.copytree(bundle, staged)
        recipes = {name: _recipe_of(name, entry) for name, entry in card.files.items()}
        result = _verdict(source, staged, replace(source.card, files=card.files), recipes, options, card.deploy, progress)
        return replace(result, variants=tuple(
            replace(entry, reasons=(*entry.reasons, *_card_faults(card, source, entry), *_selftest_faults(bundle, card)))
            for entry in result.variants
        ))


def verify_file(file: Path, model: Path, options: ConvertOptions, *,
                progress: Callable[[str], None] = lambda line: None) -> ParityResult:
    """Hold a .tflite or .onnx file from elsewhere against the SavedModel. Nothing is written.

    It is judged as the recipe that its name begins with, as in int8.tflite or int8-1a2b3c4d.tflite; else as int8 where it takes
    bytes or computes in integers alone, and else as a file of floats.

    Raises:
        ModelCardError: no such file, or of another kind.
        PhotosError, MissingExtraError: as `convert_model`.
    """
    if file.suffix not in FORMATS or not file.is_file():
        raise ModelCardError(f"--verify takes a .tflite or an .onnx file, or nothing for the model's bundle, got {file}")
    with workspace() as scratch:
        source = opened(model, options, scratch, progress)
        staged = scratch / "staged"
        staged.mkdir()
        shutil.copyfile(file, staged / file.name)
        recipe = _recipe_for(file)
        entry = VariantFile(file.name, recipe.format, recipe.precision, file.stat().st_size, sha256(file))
        card = replace(source.card, files={recipe.name: entry})
        return _verdict(source, staged, card, {recipe.name: recipe}, options, None, progress)


def _verdict(source: Source, staged: Path, card: ModelCard, recipes: Mapping[str, Recipe], options: ConvertOptions,
             deploy: str | None, progress: Callable[[str], None]) -> ParityResult:
    card.write(staged)
    set_aside: list[SetAside] = []
    with step("fitting photos", progress):
        _, samples = fitted_photos(find_photos(source.folder, options.photos, card), card, set_aside)
    faults, classifiers = {}, {}
    for name in recipes:
        try:
            with quiet():
                classifiers[name] = Classifier(staged, variant=name, threads=options.threads)
        except EngineError as error:
            faults[name] = Reason("run", f"it does not run: {error}")
    with step("comparing decisions", progress):
        scored = score_photos(source.model, classifiers, samples)
    if not scored.judged.any():
        raise PhotosError(f"no held-out photo could be read: {set_aside[-1].reason}")
    faults |= {name: Reason("run", why) for name, why in scored.failures.items()}
    results = {
        name: VariantResult(name, (faults[name],), card.files[name]) if name in faults
        else judged(recipe, staged / card.files[name].name, card.files[name], scored, card, options.gate)
        for name, recipe in recipes.items()
    }
    expected = {} if options.photos else expected_scores(source.folder)
    distrust_all(results, pixel_faults(scored, expected, source.card.labels))
    top1, interval = accuracy(scored, card)
    return ParityResult(
        model=card.name, n_photos=len(scored.names), n_heldout=int(scored.judged.sum()), top1=top1, top1_interval=interval,
        gate=options.gate, threads=options.threads, variants=tuple(results.values()), deploy=deploy,
        matrix=agreement_matrix(scored), deploy_reason="as its card says" if deploy else "",
        set_aside=tuple((str(aside.path), aside.reason) for aside in set_aside),
    )


def _recipe_of(name: str, entry: VariantFile) -> Recipe:
    return MIXED if entry.precision == MIXED.precision else RECIPES[name]


def _card_faults(card: ModelCard, source: Source, entry: VariantResult) -> Iterator[Reason]:
    """Whether the bundle's card, by which the device reads the scores, has another contract than the model's."""
    for what in ("labels", "input", "outputs", "unlock") if source.is_own else ("labels", "input", "outputs"):
        if getattr(card, what) != getattr(source.card, what):
            yield Reason("card", (
                f"the bundle's card says that its {what} is {getattr(card, what)}, the model's {getattr(source.card, what)}"
            ))
    if not decides(source.card):
        return
    step_of = entry.census.scores_step if entry.census else None
    wanted = raised(source.card.threshold(SAVED_MODEL), step_of)
    if entry.census and abs(card.threshold(entry.variant) - wanted) > 1e-9:
        yield Reason("card", (
            f"the bundle's card opens the door from a score of {card.threshold(entry.variant):.3f} on, where {wanted:.3f} "
            "decides as the model's card does"
        ))


def _selftest_faults(bundle: Path, card: ModelCard) -> Iterator[Reason]:
    """Whether what the device is to test itself with is not whole."""
    try:
        require_selftest(bundle, card)
    except ModelCardError as error:
        yield Reason("selftest", str(error))


def _recipe_for(file: Path) -> Recipe:
    called = [r for r in RECIPES.values() if r.format == FORMATS[file.suffix] and file.stem.split("-")[0] == r.name]
    if called:
        return called[0]
    try:
        census = take_census(file)
    except EngineError:  # which running it will say again, as a verdict
        return RECIPES["float32" if file.suffix == ".tflite" else "onnx_float32"]
    if file.suffix == ".onnx":
        return RECIPES["onnx_int8" if census.integer_macs else "onnx_float32"]
    if census.input_type == "uint8" or census.integer_share == 1:
        return RECIPES["int8"]
    return RECIPES["int8_dynamic" if census.integer_macs else "float32"]
