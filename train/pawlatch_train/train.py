"""Photos to a model folder: the steps of a training. What it leaves is `outcome`'s."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.files import require_absent
from pawlatch_train.backbones import describe, open_backbone
from pawlatch_train.calibrate import fit_temperature, softmax
from pawlatch_train.callbacks import TensorBoardLog
from pawlatch_train.cases import MANY_PHOTOS
from pawlatch_train.check import render_check
from pawlatch_train.dataset import Dataset, balanced, load_dataset
from pawlatch_train.distribute import Cluster, chief_writes, hold_together, open_cluster, require_same
from pawlatch_train.features import Backbone
from pawlatch_train.fit import Fitted, Fitting, Indices, Material, predict, prepare
from pawlatch_train.folds import OutOfFold, cross_validate
from pawlatch_train.history import History
from pawlatch_train.judged import Judged
from pawlatch_train.keras import keras
from pawlatch_train.network import Network, build_network, divide_logits, parameters, save_network
from pawlatch_train.operating import cross_fitted
from pawlatch_train.options import TrainOptions, require_possible, training_labels
from pawlatch_train.outcome import Outcome, Trained
from pawlatch_train.served import Served, require_savable, save_formats
from pawlatch_train.splits import folds, pooled
from pawlatch_train.teacher import Teacher
from pawlatch_train.trust import Trust, assess
from pawlatch_train.work import file_times, same_training, workspace

Progress = Callable[[str], None]


def train_model(photos: Path, output: Path, options: TrainOptions, *, progress: Progress) -> Trained:
    """Train on `photos` and write `output`; nothing is left of it where training fails.

    Raises:
        PhotosError, WeightsError, BackboneError, ModelCardError, OutputError, PawlatchError: what was given cannot be used;
            the message says why.
    """
    require_absent(output, overwrite=options.overwrite)
    require_possible(photos, options)
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
            network = build_network(backbone, recipe, labels=len(training_labels(self.photos)),
                                    fine_tune_at=self._fine_tune_at(backbone))
        with self._timed("photos"):
            data, teacher = self._load(backbone)
        self.say(parameters(network))
        known = np.array(sorted([*data.splits.fit, *data.splits.choose]), np.int64)
        varied = known if len(known) < MANY_PHOTOS else np.array(data.splits.fit, np.int64)
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
            with self._timed("saving"):
                served = Served(folder, save_network(network, folder))
                save_formats(network, folder, options.save)
            judged = self._judge(data, served, said, temperature)
            with self._timed("strangers and rates"):
                trust = self._assess(data, judged, said, temperature, network, material, fitted, served)
            name = options.name or "-".join(options.unlock) or self.photos.resolve().name
            card = Outcome(
                name, options.unlock, recipe, options.folds, data, network.backbone, fitted, judged, trust, self.history,
                f"convert --int8 {self.output}", self.timings, lambda photos: served(data.images(photos))[0],
            ).write(folder, logs=self.work / "logs")
        return Trained(self.output, card, self.history, judged, trust, self.cluster.is_chief)

    def _chosen(self, network: Network, material: Material, data: Dataset, fitted: Fitted) -> OutOfFold:
        """What is said of the photos that choose; of those that train, where there are none to choose."""
        photos = np.array(data.splits.choose or data.splits.fit, np.int64)
        logits, _ = predict(network, material, photos, kept=fitted.kept)
        return OutOfFold(photos, logits, np.zeros(len(photos), np.int64), {}, 0, fitted.case)

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

    def _assess(self, data: Dataset, judged: Judged, said: OutOfFold, temperature: float, network: Network, material: Material,
                fitted: Fitted, served: Served) -> Trust:
        """What may be promised. Of frozen features, all photos with views can know a stranger: none of them shaped any."""
        tuned = fitted.kept == "fine-tuned"
        return assess(data, judged, said, temperature, unlock=self.options.unlock,
                      embed=lambda photos, view: predict(network, material, photos, kept=fitted.kept, view=view)[1],
                      score=lambda images: served(images)[0],
                      known=data.splits.fit if tuned else material.features.varied.tolist(), fine_tuned=tuned,
                      max_false_unlock=self.options.max_false_unlock, seed=self.recipe.seed)

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
            labels = tuple(sorted(training_labels(self.photos)))
            teacher = Teacher(self.options.distill, labels, policy=self.recipe.fit, temperature=self.recipe.distill_temperature)
        data = load_dataset(self.photos, size=backbone.size, policy=self.recipe.fit, seed=self.recipe.seed, work=self.work,
                            large_size=teacher.side if teacher and teacher.side != backbone.size else None)
        if self.options.folds:
            data = dataclasses.replace(data, splits=pooled(data.splits, data.check))
        self.say(render_check(data.check))
        for finding in data.splits.findings:
            self.say(f"{finding.severity}: {finding.sentence}")
        told = {"fit": "train", "choose": "choose epochs, temperature and threshold", "held_out": "are only measured on"}
        if self.options.folds:
            self.say(f"{len(data.splits.fit)} photos train; each is judged by a model of {self.options.folds} that it had no "
                     "part in")
        else:
            self.say("; ".join(f"{len(getattr(data.splits, part))} photos {what}" for part, what in told.items()))
        require_same(self.cluster, "the photos", data.sha256.encode())
        same = dataclasses.replace(self.options, resume=False, overwrite=False)  # those two may differ when it goes on
        fingerprint = f"{data.sha256} {backbone.name} {backbone.weights} {backbone.size} {same!r}"
        require_same(self.cluster, "the flags", fingerprint.encode())
        given = [self.options.distill, Path(backbone.weights.origin) if backbone.weights.origin else None]
        same_training(self.work, f"{fingerprint} {file_times(path for path in given if path)}")
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
