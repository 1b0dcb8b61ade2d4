"""A conversion from end to end: SavedModel and photos in, bundle and verdict out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from time import perf_counter

from pawlatch.card import ModelCard, VariantFile, read_card
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, OutputError, PawlatchError, PhotosError
from pawlatch.photos import SetAside
from pawlatch.quiet import quiet
from pawlatch_convert.bundle import bundle_card, kept_variants, promote, reject, stage
from pawlatch_convert.census import take_census
from pawlatch_convert.heavy import heavy
from pawlatch_convert.measure import measure_latency, score_photos
from pawlatch_convert.parity import Gate, ParityResult, Scored, VariantResult, accuracy, compare, judge
from pawlatch_convert.photoset import PhotoSet, Sample, find_photos
from pawlatch_convert.recipes import RECIPES, REFERENCE, ConversionError, Converter
from pawlatch_convert.savedmodel import SavedModel

Progress = Callable[[str], None]


def convert_model(model_dir: Path, *, recipes: Sequence[str] = tuple(RECIPES), photos: Path | None = None,
                  out: Path | None = None, max_drop: float = 0.02, min_agreement: float = 0.95, threads: int = 2,
                  progress: Progress = lambda line: None) -> ParityResult:
    """Convert a SavedModel, hold every file against it, and promote what is green to `out` (default `model_dir/edge`).

    Args:
        model_dir: a SavedModel with its card; nothing in it changes but `edge/` and `edge.rejected/`.
        recipes: names of `RECIPES`; float32 is always made, as the reference conversion.
        photos: labelled photos to calibrate with and to judge by, in place of the model's own `assets.extra/`.
        max_drop: the share of top-1 accuracy on held-out photos that a variant may lose.
        min_agreement: the share of photos on which a variant must give the SavedModel's label.
        threads: of the engines that are measured.
        progress: called with a line for each step done.

    Raises:
        ModelCardError: no card, no SavedModel, or the two are at odds.
        PhotosError: no photos to calibrate with or to judge by.
        MissingExtraError: TensorFlow, or what a recipe needs, is not installed.
        ConversionError: `recipes` holds a name that is none.
        OutputError: the disk refuses; then the bundle is as it was.
    """
    if unknown := [name for name in recipes if name not in RECIPES]:
        raise ConversionError(f"recipes are {', '.join(RECIPES)}, got {', '.join(unknown)}; choose among them")
    chosen = [name for name in RECIPES if name == REFERENCE or name in recipes]
    gate, edge = Gate(max_drop, min_agreement), out or model_dir / "edge"
    card = read_card(model_dir)
    if edge.resolve() == model_dir.resolve():
        raise OutputError(f"{edge} is the model itself, whose card must stay; name another folder with -o")
    found = find_photos(model_dir, photos, card)
    _require_extras(chosen)
    set_aside: list[SetAside] = []
    with _workspace() as scratch:
        with _step("reading the SavedModel", progress):
            model = SavedModel(model_dir, card)
        with _step("fitting calibration photos", progress):
            calibration = _calibration(found, card, set_aside)
        converter = Converter(model, [sample.pixels for sample in calibration], scratch)
        staged = scratch / "staged"
        files, faults = _make_files(converter, chosen, staged, progress)
        replace(card, files=files).write(staged)
        with _step("timing", progress):
            classifiers, latency_ms = _open(staged, files, calibration[0], threads, faults)
        with _step("comparing decisions", progress):
            unseen = found.fitted((*found.heldout, *found.others), card, set_aside)
            scored = score_photos(model, classifiers, chain(calibration, unseen))
        if not scored.judged.any():
            raise PhotosError(f"no held-out photo could be read: {set_aside[-1].reason}")
        faults |= scored.failures
        results = _distrust_all_if_reference_is_red(
            [_result(name, card, scored, files, latency_ms, faults, staged, gate) for name in chosen]
        )
        top1, top1_interval = accuracy(scored, card)
        result = ParityResult(
            model=card.name, n_photos=len(scored.names), n_heldout=int(scored.judged.sum()), top1=top1,
            top1_interval=top1_interval, gate=gate, threads=threads, variants=results, deploy=None,
            set_aside=tuple((str(aside.path), aside.reason) for aside in set_aside),
        )
        is_trusted = results[0].is_green
        new_card = bundle_card(kept_variants(edge, card, chosen), results)
        result = replace(result, deploy=new_card.deploy if is_trusted else None)
        reject(edge, staged, result)
        if is_trusted:
            promote(edge, staged, new_card, result)  # last, so that whatever fails leaves the bundle as it was
    return result


def _calibration(found: PhotoSet, card: ModelCard, set_aside: list[SetAside]) -> list[Sample]:
    samples = list(found.fitted(found.calibration, card, set_aside))
    if not samples:
        raise PhotosError(f"no calibration photo could be read: {set_aside[0].reason}")
    return samples


def _make_files(converter: Converter, chosen: Sequence[str], staged: Path,
                progress: Progress) -> tuple[dict[str, VariantFile], dict[str, str]]:
    """The files that could be made, and why the others could not."""
    files, faults = {}, {}
    staged.mkdir()
    for name in chosen:
        with _step(name, progress):
            try:
                files[name] = stage(staged, RECIPES[name], converter.convert(RECIPES[name]))
            except ConversionError as error:
                faults[name] = str(error)
    return files, faults


def _open(staged: Path, files: Mapping[str, VariantFile], sample: Sample, threads: int,
          faults: dict[str, str]) -> tuple[dict[str, Classifier], dict[str, tuple[float, float]]]:
    """The variants that run, each timed before the next one's threads exist; why the others do not goes to `faults`."""
    classifiers, latency_ms = {}, {}
    for name in files:
        try:
            with quiet():
                classifier = Classifier(staged, variant=name, threads=threads)
            latency_ms[name] = measure_latency(classifier, sample.pixels)
            classifiers[name] = classifier
        except EngineError as error:
            faults[name] = f"it does not run: {error}"
    return classifiers, latency_ms


def _result(name: str, card: ModelCard, scored: Scored, files: Mapping[str, VariantFile],
            latency_ms: Mapping[str, tuple[float, float]], faults: Mapping[str, str], staged: Path,
            gate: Gate) -> VariantResult:
    if name in faults:
        return VariantResult(name, (faults[name],), files.get(name))
    scores, census = scored.variants[name], take_census(staged / files[name].name)
    comparison = compare(scored, scores, card)
    reasons = judge(RECIPES[name], census, scores, comparison, n_heldout=int(scored.judged.sum()), gate=gate)
    return VariantResult(name, reasons, files[name], census.integer_share, latency_ms[name], comparison)


def _distrust_all_if_reference_is_red(results: list[VariantResult]) -> tuple[VariantResult, ...]:
    """Where even float32 decides otherwise, the graph was not understood, and no other variant may pass by luck."""
    reference, *others = results
    if reference.is_green:
        return tuple(results)
    reason = f"{REFERENCE}, the reference conversion, is red"
    return reference, *(replace(other, reasons=(*other.reasons, reason)) for other in others)


def _require_extras(chosen: Sequence[str]) -> None:
    """Find out now what is not installed, and not after a minute of work."""
    heavy("tensorflow")
    for module in ("tf2onnx", "onnx", "onnxruntime") if any(RECIPES[name].format == "onnx" for name in chosen) else ():
        heavy(module)


@contextmanager
def _workspace() -> Iterator[Path]:
    """A folder that is gone afterwards; a disk that refuses, there or in the bundle, is an OutputError."""
    try:
        with tempfile.TemporaryDirectory(prefix="pawlatch-convert-") as folder:
            yield Path(folder)
    except OSError as error:
        if isinstance(error, PawlatchError):
            raise
        raise OutputError(
            f"the conversion could not write its files ({error}); make room, or name another place with -o"
        ) from error


@contextmanager
def _step(name: str, progress: Progress) -> Iterator[None]:
    start = perf_counter()
    yield
    progress(f"{name} … {perf_counter() - start:.1f} s")
