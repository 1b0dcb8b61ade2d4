"""Photos to a model folder: SavedModel, card, report, logs, and the photos that prove it later."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.card import SAVED_MODEL, InputSpec, ModelCard
from pawlatch.errors import ModelCardError, PhotosError
from pawlatch.files import require_absent, write_atomic
from pawlatch.photos import RESERVED, list_splits
from pawlatch_train.backbones import open_backbone
from pawlatch_train.calibrate import fit_temperature, softmax
from pawlatch_train.callbacks import TensorBoardLog
from pawlatch_train.cases import MANY_PHOTOS
from pawlatch_train.check import render_check
from pawlatch_train.check_page import render_page
from pawlatch_train.dataset import Dataset, balanced, load_dataset
from pawlatch_train.distribute import Cluster, chief_writes, hold_together, open_cluster, require_same
from pawlatch_train.features import Backbone
from pawlatch_train.fit import Fitted, Fitting, Indices, Material, predict, prepare
from pawlatch_train.folds import OutOfFold, cross_validate
from pawlatch_train.history import History
from pawlatch_train.judged import Judged
from pawlatch_train.keras import keras
from pawlatch_train.layers import trainable_weights
from pawlatch_train.network import OUTPUTS, Network, build_network, divide_logits, save_network
from pawlatch_train.operating import cross_fitted
from pawlatch_train.outcome import keep_photos, photographed, set_aside, versions
from pawlatch_train.recipe import TrainRecipe
from pawlatch_train.report import Story, write_report
from pawlatch_train.served import Served, require_savable, save_formats
from pawlatch_train.splits import folds
from pawlatch_train.teacher import Teacher
from pawlatch_train.trust import Trust, assess
from pawlatch_train.work import same_training, workspace

STAND_IN_PHOTOS = 60  # to be judged by where folds leave none held out

Progress = Callable[[str], None]


@dataclass(frozen=True)
class TrainOptions:
    """What the user chose; None follows from the weights, the target, or the photos."""

    unlock: tuple[str, ...] = ()
    backbone: str = "mobilenet_v2"
    weights: str = "auto"
    width: float | None = None
    image_size: int | None = None
    cut_at: str | None = None
    target: str = "pi-zero2"
    recipe: TrainRecipe = field(default_factory=TrainRecipe)
    max_false_unlock: float = 0.01
    folds: int = 0
    distill: Path | None = None
    save: tuple[str, ...] = ()
    strategy: str | None = None
    resume: bool = False
    overwrite: bool = False
    name: str | None = None


@dataclass(frozen=True)
class Trained:
    """What came out, and what a person wants to know of it."""

    folder: Path
    card: ModelCard
    history: History
    judged: Judged
    trust: Trust
    is_chief: bool

    def summary(self) -> str:
        """The lines for a terminal."""
        share, labels = self.judged.share_right(), self.card.labels
        low, high = share.interval()
        lines = [
            f"{self.folder}: {len(labels)} labels, accuracy {share.k}/{share.n} = {share.value:.3f} on {self.judged.source}",
            f"(95 % interval {low:.3f} to {high:.3f}, of {share.groups} different moments); rows truth, columns prediction:",
            "  " + " " * 14 + "".join(f"{label[:10]:>12}" for label in labels),
        ]
        for label, row in zip(labels, self.judged.confusion(), strict=True):
            lines.append(f"  {label[:14]:<14}" + "".join(f"{int(count):>12}" for count in row))
        lines += self.trust.sentences or ["no --unlock label: a door with this model cannot be armed"]
        return "\n".join(lines + self.trust.lines())


def train_model(photos: Path, output: Path, options: TrainOptions, *, progress: Progress) -> Trained:
    """Train on `photos` and write `output`; nothing is left of it where training fails.

    Raises:
        PhotosError, WeightsError, BackboneError, ModelCardError, OutputError, PawlatchError: what was given cannot be used;
            the message says why.
    """
    require_absent(output, overwrite=options.overwrite)
    _check_options(photos, options)
    cluster = open_cluster(options.strategy, progress=progress)
    say: Progress = progress if cluster.is_chief else lambda line: None
    with hold_together(cluster), workspace(output, resume=options.resume, task=cluster.index) as work:
        return _Run(photos, output, options, cluster, work, say).train()


class _Run:
    """One training: what its steps share."""

    def __init__(self, photos: Path, output: Path, options: TrainOptions, cluster: Cluster, work: Path, say: Progress) -> None:
        self.photos, self.output, self.options, self.recipe = photos, output, options, options.recipe
        self.cluster, self.work, self.say = cluster, work, say
        self.timings: list[tuple[str, float]] = []
        self.history = History()

    def train(self) -> Trained:
        """From photos to the folder."""
        recipe, options = self.recipe, self.options
        keras.utils.set_random_seed(recipe.seed)
        with self._timed("backbone"), self.cluster.strategy.scope():
            backbone = self._open_backbone()
            network = build_network(backbone, recipe, labels=len(_training_labels(self.photos)),
                                    fine_tune_at=self._fine_tune_at(backbone))
        with self._timed("photos"):
            data, teacher = self._load(backbone)
        self.say(parameters(network))
        known = np.array(self._known(data), np.int64)
        varied = known if len(known) < MANY_PHOTOS else np.array(self._fitted(data), np.int64)
        with self._timed("features"):
            material = prepare(network, data, recipe, varied, self.work, teacher=teacher, say=self.say)
        chosen = None
        if options.folds:
            with self._timed("folds"):
                parts = folds(data.check, known.tolist(), k=options.folds, seed=recipe.seed)
                chosen = cross_validate(network, material, recipe, parts, cluster=self.cluster, work=self.work, say=self.say)
        with self._timed("fitting"), self._log(network, data, material) as log:
            fitted = self._fit(network, material, data, known, chosen, log)
        with self._timed("calibration"):
            said = chosen or self._chosen(network, material, data, fitted)
            temperature = fit_temperature(said.logits, data.targets[said.photos])
        with self._timed("fitting the head again"):
            fitted.head_saw_choosing = self._fit_again(network, material, known, fitted)
            divide_logits(network, temperature)
        with chief_writes(self.cluster, self.output, overwrite=options.overwrite) as folder:
            return self._write(folder, data, network, material, fitted, said, temperature)

    def _known(self, data: Dataset) -> list[int]:
        """Photos that training may use: with folds also those that would else have been drawn to be held out."""
        drawn = data.check.splits in (("",), ("train",))
        spare = data.splits.held_out if self.options.folds and drawn else []
        return sorted([*data.splits.fit, *data.splits.choose, *spare])

    def _chosen(self, network: Network, material: Material, data: Dataset, fitted: Fitted) -> OutOfFold:
        """What is said of the photos that choose; of those that train, where there are none to choose."""
        photos = np.array(data.splits.choose or data.splits.fit, np.int64)
        logits, _ = predict(network, material, photos, kept=fitted.kept)
        return OutOfFold(photos, logits, np.zeros(len(photos), np.int64), {}, 0, fitted.case)

    def _write(self, folder: Path, data: Dataset, network: Network, material: Material, fitted: Fitted, said: OutOfFold,
               temperature: float) -> Trained:
        """Everything that training leaves behind, into the new folder."""
        with self._timed("saving"):
            served = Served(folder, save_network(network, folder))
            save_formats(network, folder, self.options.save)
        judged = self._judge(data, served, said, temperature)
        with self._timed("strangers and rates"):
            trust = assess(data, judged, said, temperature, unlock=self.options.unlock,
                           embed=lambda photos, view: predict(network, material, photos, kept=fitted.kept, view=view)[1],
                           fitted=self._fitted(data), fine_tuned=fitted.kept == "fine-tuned",
                           max_false_unlock=self.options.max_false_unlock)
        card = self._card(data, network.backbone, fitted, judged, trust)
        keep_photos(folder / "assets.extra", data, calibrate=self._fitted(data), prove=self._proving(data),
                    seed=self.recipe.seed)
        write_atomic(folder / "recipe.toml", self.recipe.to_toml())
        write_atomic(folder / "history.csv", self.history.to_csv())
        write_atomic(folder / "batches.csv", self.history.batches_to_csv())
        write_atomic(folder / "photos.html", render_page(data.check))
        if (self.work / "logs").is_dir():
            shutil.copytree(self.work / "logs", folder / "logs")
        with self._timed("report"):
            write_report(folder, self._story(data, network.backbone, fitted, judged, trust))
        card.write(folder)
        return Trained(self.output, card, self.history, judged, trust, self.cluster.is_chief)

    def _judge(self, data: Dataset, served: Served, said: OutOfFold, temperature: float) -> Judged:
        """What the report counts: held-out photos by the SavedModel as it lies on disk, or what the folds said."""
        if self.options.folds:
            photos, raw = said.photos, softmax(said.logits)
            scores = cross_fitted(said.logits, data.targets[photos], said.fold, labels=data.labels,
                                  groups=data.check.groups[photos]).scores
        else:
            photos = np.array(data.splits.held_out, np.int64)
            scores = np.asarray(served(data.images(photos))[0], np.float64)
            raw = softmax(temperature * np.log(np.maximum(scores, 1e-12)))
        return Judged(
            data.labels, [data.name(index) for index in photos], data.images(photos), data.targets[photos],
            np.asarray(scores, np.float32), np.asarray(raw, np.float32), data.check.groups[photos],
            "out-of-fold predictions" if self.options.folds else "held-out photos that chose nothing",
        )

    def _proving(self, data: Dataset) -> list[int]:
        """Photos that a conversion is judged by: held-out ones, or, where folds left none, a few of those that trained."""
        return self._held_out(data) or balanced(data, self._known(data), most=STAND_IN_PHOTOS, seed=self.recipe.seed)

    def _fitted(self, data: Dataset) -> list[int]:
        return self._known(data) if self.options.folds else data.splits.fit

    def _held_out(self, data: Dataset) -> list[int]:
        return sorted(set(data.splits.held_out) - set(self._known(data)))

    def _story(self, data: Dataset, backbone: Backbone, fitted: Fitted, judged: Judged, trust: Trust) -> Story:
        why = f"{fitted.case.sentence}. The {fitted.kept} stage is kept." if fitted.case else ""
        return Story(
            title=self._name(), unlock=self.options.unlock, judged=judged, history=self.history,
            photographed=photographed(data.check), backbone=describe(backbone), why=why,
            recipe=list(dataclasses.asdict(self.recipe).items()), temperature=trust.temperature, ece_before=trust.ece_before,
            ece_after=trust.ece_after, next_command=f"convert --int8 {self.output}",
            findings=[*data.check.findings, *data.splits.findings], operating_point=trust.sentences, strangers=trust.strangers,
            strangers_note=trust.strangers_note, timings=self.timings,
        )

    def _name(self) -> str:
        return self.options.name or "-".join(self.options.unlock) or self.photos.resolve().name

    def _card(self, data: Dataset, backbone: Backbone, fitted: Fitted, judged: Judged, trust: Trust) -> ModelCard:
        weights = backbone.weights
        parts = {"fit": data.splits.fit, "choose": data.splits.choose, "held_out": data.splits.held_out}
        if self.options.folds:
            parts = {"fit": self._fitted(data), "choose": [], "held_out": self._held_out(data)}
        return ModelCard(
            name=self._name(), labels=data.labels, unlock=self.options.unlock, outputs=OUTPUTS,
            input=InputSpec((backbone.size, backbone.size), self.recipe.fit),
            operating_points={SAVED_MODEL: trust.operating_point} if self.options.unlock else {},
            strangers={SAVED_MODEL: trust.stranger_statistics} if trust.stranger_statistics else {},
            provenance={
                "backbone": {"name": backbone.name, "width": weights.width, "weights": weights.source,
                             "weights_file": Path(weights.origin).name, "weights_trained_at": weights.trained_size},
                "seed": self.recipe.seed, "recipe": dataclasses.asdict(self.recipe), "kept_stage": fitted.kept,
                "head_saw_choosing_photos": fitted.head_saw_choosing,
                "case": fitted.case.sentence if fitted.case else "", "folds": self.options.folds, "data_sha256": data.sha256,
                "splits": {name: [data.name(index) for index in part] for name, part in parts.items()},
                "set_aside": set_aside(data),
                "metrics": {"held_out_accuracy": judged.share_right().value, "held_out_photos": len(judged),
                            "held_out_groups": judged.share_right().groups, "judged_by": judged.source, **trust.metrics},
                "versions": versions(),
            },
        )

    def _open_backbone(self) -> Backbone:
        options = self.options
        backbone = open_backbone(options.backbone, weights=options.weights, width=options.width, size=options.image_size,
                                 target=options.target, cut_at=options.cut_at)
        require_savable(backbone, options.save)
        self.say(describe(backbone))
        return backbone

    def _fine_tune_at(self, backbone: Backbone) -> int | str | None:
        at = self.recipe.fine_tune_at
        return backbone.default_fine_tune_at if at is None else at

    def _load(self, backbone: Backbone) -> tuple[Dataset, Teacher | None]:
        """The photos, and the teacher, who must know their labels before any is decoded."""
        teacher = None
        if self.options.distill is not None:
            labels = tuple(sorted(_training_labels(self.photos)))
            teacher = Teacher(self.options.distill, labels, policy=self.recipe.fit, temperature=self.recipe.distill_temperature)
        data = load_dataset(self.photos, size=backbone.size, policy=self.recipe.fit, seed=self.recipe.seed, work=self.work,
                            large_size=teacher.side if teacher and teacher.side != backbone.size else None)
        self.say(render_check(data.check))
        for finding in data.splits.findings:
            self.say(f"{finding.severity}: {finding.sentence}")
        told = {"fit": "train", "choose": "choose epochs, temperature and threshold", "held_out": "are only measured on"}
        if self.options.folds:
            self.say(f"{len(self._known(data))} photos train; each is judged by a model of {self.options.folds} that it had no "
                     "part in")
        else:
            self.say("; ".join(f"{len(getattr(data.splits, part))} photos {what}" for part, what in told.items()))
        require_same(self.cluster, "the photos", data.sha256.encode())
        same = dataclasses.replace(self.options, resume=False, overwrite=False)  # those two may differ when it goes on
        fingerprint = f"{data.sha256} {backbone.name} {backbone.weights} {backbone.size} {same!r}"
        require_same(self.cluster, "the flags", fingerprint.encode())
        same_training(self.work, fingerprint)
        return data, teacher

    def _fit(self, network: Network, material: Material, data: Dataset, known: Indices, chosen: OutOfFold | None,
             callbacks: Sequence[Any]) -> Fitted:
        if chosen is None:
            return Fitting(network, material, self.recipe, fit=np.array(data.splits.fit), choose=np.array(data.splits.choose),
                           cluster=self.cluster, work=self.work, callbacks=callbacks, history=self.history, say=self.say).run()
        return Fitting(network, material, chosen.recipe(self.recipe), fit=known, choose=known[:0], cluster=self.cluster,
                       work=self.work, callbacks=callbacks, history=self.history, say=self.say, case=chosen.case).run()

    def _fit_again(self, network: Network, material: Material, known: Indices, fitted: Fitted) -> bool:
        """Where the head alone learned, and from few photos: let it learn from those that chose its epochs too.

        The temperature and the threshold stay those of the head that had not seen them.
        """
        if fitted.kept == "fine-tuned" or len(known) >= MANY_PHOTOS or self.options.folds or not fitted.validates:
            return False
        epochs = fitted.best_epochs["frozen"]
        recipe = dataclasses.replace(self.recipe, head_epochs=epochs, fine_tune_epochs=0, early_stopping=0)
        Fitting(network, material, recipe, fit=known, choose=known[:0], cluster=self.cluster, quiet=True).run()
        self.say(f"the head is fitted again, to all {len(known)} photos that are not held out")
        return True

    @contextmanager
    def _log(self, network: Network, data: Dataset, material: Material) -> Iterator[list[Any]]:
        """TensorBoard's logs, by the chief alone."""
        if not self.cluster.is_chief:
            yield []
            return
        sample = balanced(data, data.splits.fit, most=16, seed=self.recipe.seed)
        images = material.variations.views(sample, [1] * len(sample))
        labels = [data.labels[data.targets[index]] for index in sample]
        logs = self.work / "logs"
        with TensorBoardLog(logs, self.history, model=network.whole, sample_images=images, sample_labels=labels) as log:
            yield [log]

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings.append((what, time.perf_counter() - start))


def describe(backbone: Backbone) -> str:
    """One line about what training begins with; loud where it is only the starter."""
    weights = backbone.weights
    if weights.source == "starter":
        return ("USING THE STARTER BACKBONE (MobileNetV2 0.35, trained by pawlatch on few pictures): good for a first "
                "look; ImageNet weights make a better door, see --weights")
    width = "" if weights.width is None else f" {weights.width:g}"
    where = f" ({Path(weights.origin).name})" if weights.origin else ""
    told = f"backbone: {backbone.name}{width}, weights: {weights.source}{where}"
    same = weights.trained_size == backbone.size
    return told if same else f"{told}, trained at {weights.trained_size} and used at {backbone.size} pixels"


def parameters(network: Network) -> str:
    """How many numbers each stage trains."""
    total, head = network.whole.count_params(), network.head.count_params()
    tuned = sum(int(np.prod(weight.shape)) for layer in network.trainable for weight in trainable_weights(layer))
    return f"parameters: {head:,} trainable in the head, {tuned:,} more in fine-tuning; {total - head - tuned:,} stay frozen"


def _training_labels(photos: Path) -> set[str]:
    by_split = list_splits(photos)
    return {photo.label for photo in by_split.get("train", by_split.get("", []))}


def _check_options(photos: Path, options: TrainOptions) -> None:
    """What can be refused before anything is computed.

    Raises:
        ModelCardError: an unlock label that is none, or is reserved.
        PhotosError: folds that cannot be made.
    """
    labels = _training_labels(photos)
    if unknown := [label for label in options.unlock if label not in labels]:
        raise ModelCardError(f"--unlock must name labels of {photos} ({', '.join(sorted(labels))}), got {', '.join(unknown)}")
    if reserved := [label for label in options.unlock if label in RESERVED]:
        raise ModelCardError(f"--unlock {', '.join(reserved)}: that folder stands for what must never unlock")
    if options.folds and options.folds < 3:
        raise PhotosError(f"--folds must be 3 or more (one is judged, one chooses, the others train), got {options.folds}")
    if options.folds and options.strategy:
        raise PhotosError("--folds is for few photos, which one machine trains faster; leave --strategy away")
