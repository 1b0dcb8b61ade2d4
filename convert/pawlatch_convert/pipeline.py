"""A conversion from end to end: a model and photos in, bundle and verdict out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

from pawlatch.card import ModelCard, VariantFile
from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, OutputError, PawlatchError, PhotosError
from pawlatch.image import FitPolicy, Image
from pawlatch.photos import Photo, SetAside, list_splits
from pawlatch.quiet import quiet
from pawlatch_convert.bundle import bundle_card, kept_variants, promote, reject, stage
from pawlatch_convert.census import take_census
from pawlatch_convert.climb import climb
from pawlatch_convert.compare import Outputs, Scored, accuracy, agreement_matrix, compare
from pawlatch_convert.heavy import heavy
from pawlatch_convert.ladder import Ladder, OnnxLadder
from pawlatch_convert.measure import run_variant, score_photos
from pawlatch_convert.metadata import with_onnx_metadata, with_tflite_metadata
from pawlatch_convert.page import shown_photos, write_page
from pawlatch_convert.parity import Gate, ParityResult, Reason, VariantResult, judge, pixel_faults, within_aim
from pawlatch_convert.photoset import PhotoSet, Sample, balanced, calibration_photos, expected_scores, find_photos
from pawlatch_convert.points import operating_point, stranger_point
from pawlatch_convert.recipes import RECIPES, REFERENCE, ConversionError, Converter, Recipe
from pawlatch_convert.scaling import AUTO
from pawlatch_convert.selftest import add_selftest
from pawlatch_convert.sources import Source, bundle_folder, open_source
from pawlatch_convert.speed import Speed, choose_deploy, measure_speed

FALLBACKS = ("int8_dynamic", "float16")  # what is deployed in place of an int8 file that stays red
INT8, ONNX_INT8 = "int8", "onnx_int8"
BUDGET_S = 600.0
MOST_TUNING = 2000  # photos, for its last rung
MORE_CALIBRATION = 500  # photos, for the ladder

Progress = Callable[[str], None]


@dataclass(frozen=True)
class ConvertOptions:
    """What the user chose; None follows from the model.

    Attributes:
        recipes: names of `RECIPES`; float32 is always made, as the reference conversion.
        photos: labelled photos to calibrate with and to judge by, in place of the model's own `assets.extra/`.
        labels, scale, fit, size_hw, unlock: of a foreign model, see `sources.open_source`.
        out: the bundle, by default `edge/` in the model's folder.
        target: the board that the deployed variant is chosen for.
        ladder: whether a red int8 file is worked on; `budget_s`: no rung is begun that would end later.
        tuning_photos: photos for the last rung, quantization-aware fine-tuning; without them there is none.
    """

    recipes: Sequence[str] = tuple(RECIPES)
    photos: Path | None = None
    labels: tuple[str, ...] | None = None
    scale: str = AUTO
    fit: FitPolicy | None = None
    size_hw: tuple[int, int] | None = None
    unlock: tuple[str, ...] = ()
    out: Path | None = None
    target: str = "pi-zero2"
    gate: Gate = field(default_factory=Gate)
    threads: int = 2
    ladder: bool = True
    budget_s: float = BUDGET_S
    tuning_photos: Path | None = None


def convert_model(model: Path, options: ConvertOptions = ConvertOptions(), *,
                  progress: Progress = lambda line: None) -> ParityResult:
    """Convert a model, hold every file against it, and promote what is green to the bundle.

    Nothing in the model's folder changes but the bundle, and beside it `edge.rejected/`.

    Raises:
        ModelCardError: no card, no SavedModel, or the two are at odds.
        PhotosError: no photos to calibrate with or to judge by.
        MissingExtraError: TensorFlow, or what a recipe needs, is not installed.
        ConversionError: `recipes` holds a name that is none.
        OutputError: the disk refuses; then the bundle is as it was.
    """
    if unknown := [name for name in options.recipes if name not in RECIPES]:
        raise ConversionError(f"recipes are {', '.join(RECIPES)}, got {', '.join(unknown)}; choose among them")
    edge = options.out or bundle_folder(model)
    if edge.resolve() == model.resolve():
        raise OutputError(f"{edge} is the model itself, whose card must stay; name another folder with -o")
    with workspace() as scratch:
        source = opened(model, options, scratch, progress)
        return _Conversion(source, options, edge, scratch, progress).run()


class _Conversion:
    """One conversion: what its steps share."""

    def __init__(self, source: Source, options: ConvertOptions, edge: Path, scratch: Path, progress: Progress) -> None:
        self.card, self.model, self.options, self.edge, self.progress = source.card, source.model, options, edge, progress
        self.staged = scratch / "staged"
        self.staged.mkdir()
        self.chosen = [name for name in RECIPES if name == REFERENCE or name in options.recipes]
        require_extras(self.chosen)
        self.files: dict[str, VariantFile] = {}
        self.recipes: dict[str, Recipe] = dict(RECIPES)
        self.faults: dict[str, Reason] = {}
        self.set_aside: list[SetAside] = []
        with step("fitting photos", progress):
            found = find_photos(source.folder, options.photos, self.card)
            self.calibration, self.samples = fitted_photos(found, self.card, self.set_aside)
        self.more = calibration_photos(found, most=MORE_CALIBRATION)
        self.expected = {} if options.photos else expected_scores(source.folder)
        self.converter = Converter(self.model, self.calibration, scratch)

    def run(self) -> ParityResult:
        """From files to bundle."""
        for name in self.chosen:
            self._make(name)
        with step("comparing decisions", self.progress):
            scored = score_photos(self.model, self._classifiers(self.chosen), self.samples)
        if not scored.judged.any():
            raise PhotosError(f"no held-out photo could be read: {self.set_aside[-1].reason}")
        self.faults |= {name: Reason("run", why) for name, why in scored.failures.items()}
        results = {name: self._judged(name, scored) for name in self.chosen}
        if self.options.ladder and results[REFERENCE].is_green:
            scored = self._fall_back(results, self._climb_all(results, scored))
        distrust_all_if_reference_is_red(results)
        distrust_all(results, pixel_faults(scored, self.expected, self.card.labels))
        speeds = self._speeds(results)
        results = {
            name: replace(entry, speed=speeds.get(name), operating_point=self._point(entry, scored))
            for name, entry in results.items()
        }
        return self._finish(results, scored)

    def _make(self, name: str) -> None:
        with step(name, self.progress):
            try:
                self._stage(RECIPES[name], self.converter.convert(RECIPES[name]))
            except ConversionError as error:
                self.faults[name] = Reason("convert", str(error))
            except EngineError as error:  # what the converter wrote is no file of its kind
                self.faults[name] = Reason("run", f"it does not run: {error}")

    def _stage(self, recipe: Recipe, data: bytes) -> None:
        told = f"{self.card.name}: {recipe.help}"
        if recipe.format == "tflite":
            data = with_tflite_metadata(data, self.card, description=told)
        else:
            data = with_onnx_metadata(data, self.card, description=told)
        self.files[recipe.name] = stage(self.staged, recipe, data)
        self.recipes[recipe.name] = recipe

    def _classifiers(self, names: Sequence[str]) -> dict[str, Classifier]:
        """The variants that run; why the others do not goes to the faults."""
        replace(self.card, files=self.files).write(self.staged)
        classifiers = {}
        for name in names:
            if name in self.files:
                try:
                    with quiet():
                        classifiers[name] = Classifier(self.staged, variant=name, threads=self.options.threads)
                except EngineError as error:
                    self.faults[name] = Reason("run", f"it does not run: {error}")
        return classifiers

    def _judged(self, name: str, scored: Scored) -> VariantResult:
        if name in self.faults:
            return VariantResult(name, (self.faults[name],), self.files.get(name))
        return judged(self.recipes[name], self.staged / self.files[name].name, self.files[name], scored, self.card,
                      self.options.gate)

    def _climb_all(self, results: dict[str, VariantResult], scored: Scored) -> Scored:
        """The best integer files that the ladders make, where the bare ones are not as good as was aimed for."""
        for name, ladder in ((INT8, self._ladder), (ONNX_INT8, lambda: OnnxLadder(self.converter, self.calibration))):
            bare = results.get(name)
            if bare and bare.file and not (bare.is_green and bare.comparison and within_aim(bare.comparison)):
                results[name], scored = self._climb(ladder(), bare, scored)
        return scored

    def _climb(self, ladder: Ladder | OnnxLadder, bare: VariantResult, scored: Scored) -> tuple[VariantResult, Scored]:
        name, pixels = bare.variant, [sample.pixels for sample in self.samples]

        def attempt(recipe: Recipe, data: bytes) -> tuple[VariantResult, Outputs | None]:
            self.faults.pop(name, None)
            self._stage(recipe, data)
            classifiers = self._classifiers([name])
            if name in self.faults:
                return self._judged(name, scored), None
            try:
                outputs = run_variant(classifiers[name], pixels)
            except EngineError as error:
                return VariantResult(name, (Reason("run", f"it does not run: {error}"),), self.files[name]), None
            return self._judged(name, scored.with_variant(name, outputs)), outputs

        best, outputs = climb(ladder, bare, attempt, budget_s=self.options.budget_s, progress=self.progress)
        if best.file is not None:
            self.files[name] = best.file
        return best, scored if outputs is None else scored.with_variant(name, outputs)

    def _ladder(self) -> Ladder:
        """With more photos to calibrate on, where there are more than the bare recipe took."""
        pixels = {sample.photo: sample.pixels for sample in self.samples}
        photos = [pixels[photo] for photo in self.more if photo in pixels]
        return Ladder(self.converter.float_tflite, photos, tuning=self._tuning(), progress=self.progress)

    def _tuning(self) -> list[Image]:
        """Photos to fine-tune with: those of `train/` where the folder has splits, else all; up to 2,000, labels in turn."""
        if self.options.tuning_photos is None:
            return []
        splits = list_splits(self.options.tuning_photos)
        photos = balanced(splits.get("train", splits.get("", [])), MOST_TUNING)
        return [sample.pixels for sample in PhotoSet((), ()).fitted(photos, self.card, self.set_aside)]

    def _fall_back(self, results: dict[str, VariantResult], scored: Scored) -> Scored:
        """Where int8 stays red, make what can be deployed in its place."""
        missing = [name for name in FALLBACKS if name not in results]
        if INT8 not in results or results[INT8].is_green or not missing:
            return scored
        self.progress(f"int8 stays red; making {' and '.join(missing)} to deploy in its place")
        for name in missing:
            self._make(name)
        for name, classifier in self._classifiers(missing).items():
            scored = scored.with_variant(name, run_variant(classifier, [sample.pixels for sample in self.samples]))
        results.update({name: self._judged(name, scored) for name in missing})
        return scored

    def _speeds(self, results: Mapping[str, VariantResult]) -> dict[str, Speed]:
        replace(self.card, files=self.files).write(self.staged)
        speeds = {}
        with step("timing", self.progress):
            for name, entry in results.items():
                if entry.comparison is not None:
                    speeds[name] = measure_speed(self.staged, name, pixels=self.calibration[0])
        return speeds

    def _point(self, entry: VariantResult, scored: Scored) -> dict[str, object] | None:
        if entry.comparison is None or entry.census is None:
            return None
        return operating_point(scored, entry.variant, self.card, step=entry.census.scores_step)

    def _finish(self, results: Mapping[str, VariantResult], scored: Scored) -> ParityResult:
        """Choose what is deployed, and write the bundle last, so that whatever fails leaves it as it was."""
        top1, top1_interval = accuracy(scored, self.card)
        result = ParityResult(
            model=self.card.name, n_photos=len(scored.names), n_heldout=int(scored.judged.sum()), top1=top1,
            top1_interval=top1_interval, gate=self.options.gate, threads=self.options.threads,
            variants=tuple(results.values()), deploy=None, matrix=agreement_matrix(scored),
            set_aside=tuple((str(aside.path), aside.reason) for aside in self.set_aside),
        )
        strangers = {name: stranger_point(scored, name, self.card) for name in scored.variants}
        card = bundle_card(kept_variants(self.edge, self.card, list(results)), result.variants, strangers)
        is_trusted = results[REFERENCE].is_green
        speeds = {name: entry.speed for name, entry in results.items() if entry.speed}
        deploy = choose_deploy(
            card.files, speeds, {name: entry.bytes for name, entry in card.files.items()}, self.options.target
        ) if is_trusted else None
        if deploy:
            result = replace(result, deploy=deploy[0], deploy_reason=deploy[1])
        page = write_page(self.staged, result, scored=scored, card=self.card,
                          photos={index: self.samples[index].pixels for index in shown_photos(result)})
        reject(self.edge, self.staged, result, page)
        if is_trusted:
            card = add_selftest(replace(card, deploy=result.deploy), self.staged, self.edge, self.samples, scored)
            promote(self.edge, self.staged, card, result, page)
        return result


# ------------------------------------------------------------------------------- what verification shares with this


def opened(model: Path, options: ConvertOptions, scratch: Path, progress: Progress) -> Source:
    """The model, and every sentence about what was found."""
    with step("reading the model", progress):
        source = open_source(
            model, scratch=scratch, photos=options.photos, labels=options.labels, scale=options.scale, fit=options.fit,
            size_hw=options.size_hw, unlock=options.unlock,
        )
    for line in (*source.sentences, *source.warnings):
        progress(line)
    return source


def fitted_photos(found: PhotoSet, card: ModelCard, set_aside: list[SetAside]) -> tuple[list[Image], list[Sample]]:
    """Calibration photos, and all photos that decisions are compared on, calibration ones first.

    Raises:
        PhotosError: no calibration photo can be read.
    """
    samples = list(found.fitted(found.calibration, card, set_aside))
    if not samples:
        raise PhotosError(f"no calibration photo could be read: {set_aside[0].reason}")
    unseen: tuple[Photo, ...] = (*found.heldout, *found.others)
    return [sample.pixels for sample in samples], [*samples, *found.fitted(unseen, card, set_aside)]


def judged(recipe: Recipe, path: Path, file: VariantFile, scored: Scored, card: ModelCard, gate: Gate) -> VariantResult:
    """A variant that ran, with its verdict."""
    outputs = scored.variants[recipe.name]
    census, comparison = take_census(path), compare(scored, outputs, card)
    reasons = judge(recipe, census, outputs, comparison, gate=gate)
    return VariantResult(recipe.name, reasons, file, census=census, comparison=comparison)


def distrust_all(results: dict[str, VariantResult], reasons: tuple[Reason, ...]) -> None:
    """Add reasons that concern every variant."""
    for name, entry in results.items():
        results[name] = replace(entry, reasons=(*entry.reasons, *reasons))


def distrust_all_if_reference_is_red(results: dict[str, VariantResult]) -> None:
    """Where even float32 decides otherwise, the graph was not understood, and no other variant may pass by luck."""
    if results[REFERENCE].is_green:
        return
    reason = Reason("reference", f"{REFERENCE}, the reference conversion, is red")
    for name, entry in results.items():
        if name != REFERENCE:
            results[name] = replace(entry, reasons=(*entry.reasons, reason))


def require_extras(chosen: Sequence[str]) -> None:
    """Find out now what is not installed, and not after a minute of work."""
    heavy("tensorflow")
    for module in ("tf2onnx", "onnx", "onnxruntime") if any(RECIPES[name].format == "onnx" for name in chosen) else ():
        heavy(module)


@contextmanager
def workspace() -> Iterator[Path]:
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
def step(name: str, progress: Progress) -> Iterator[None]:
    """Say how long something took."""
    start = perf_counter()
    yield
    progress(f"{name} … {perf_counter() - start:.1f} s")
