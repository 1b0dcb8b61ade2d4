"""Photos to a model folder: SavedModel, card, curves, confusion matrix, and the photos that prove it later."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch import __version__
from pawlatch.card import SAVED_MODEL, InputSpec, ModelCard
from pawlatch.errors import ModelCardError, PawlatchError
from pawlatch.files import new_folder, require_absent
from pawlatch.image import FitPolicy
from pawlatch.photos import RESERVED, SetAside
from pawlatch.stats import wilson_interval
from pawlatch_train.backbone import STARTER_SIZE, Weights, find_weights
from pawlatch_train.dataset import Dataset, Pixels, balanced, load_dataset, split_photos
from pawlatch_train.keras import keras, tf
from pawlatch_train.model import BATCH, OUTPUTS, Recipe, build_model, fit_model, save_model
from pawlatch_train.plots import draw_confusion, draw_curves

CALIBRATION_PHOTOS = 200
DEFAULT_THRESHOLD = 0.8
HIGHEST_THRESHOLD = 0.98
DEFAULT_SIZE = 224
TARGET_WIDTHS = {"pi5": 1.0, "pi4": 1.0, "pi-zero2": 0.35, "desktop": 1.0}


@dataclass(frozen=True)
class TrainOptions:
    """What the user chose; None follows from the weights."""

    unlock: tuple[str, ...] = ()
    weights: str = "auto"
    width: float | None = None
    image_size: int | None = None
    fit: FitPolicy = "center_crop"
    target: str = "desktop"
    overwrite: bool = False
    name: str | None = None
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Trained:
    """What came out: the card and what was measured on the held-out photos, with the reloaded SavedModel."""

    folder: Path
    card: ModelCard
    weights: Weights
    confusion: NDArray[np.int64]
    interval_95: tuple[float, float]
    set_aside: list[SetAside]


@dataclass(frozen=True)
class Measured:
    """Scores (n, labels) of the SavedModel, as it lies on disk, on one split."""

    scores: NDArray[np.float32]
    targets: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float((self.scores.argmax(1) == self.targets).mean()) if len(self.targets) else float("nan")


def train_model(photos: Path, output: Path, options: TrainOptions, *, progress: Callable[[str], None]) -> Trained:
    """Train on `photos` and write `output`; nothing is left of it where training fails.

    Raises:
        PhotosError, WeightsError, ModelCardError, OutputError: what was given cannot be used; the message says why.
    """
    require_absent(output, overwrite=options.overwrite)
    seed = options.recipe.seed
    _check_unlock(photos, options.unlock, seed)
    weights = find_weights(
        options.weights, width=options.width, size=options.image_size, default_width=TARGET_WIDTHS[options.target]
    )
    size = options.image_size or (STARTER_SIZE if weights.source == "starter" else DEFAULT_SIZE)
    _say_weights(weights, size, progress)
    data = load_dataset(photos, size_hw=(size, size), policy=options.fit, seed=seed, progress=progress)

    keras.utils.set_random_seed(seed)
    model = build_model(weights, size=size, labels=len(data.labels), dropout=options.recipe.dropout)
    history = fit_model(model, data, options.recipe, progress=progress)

    with new_folder(output, overwrite=options.overwrite) as folder:
        measured = _measure_reloaded(save_model(model, folder), data, folder)
        card = _card(photos, data, options, weights, size, measured)
        confusion = _confusion(measured["held_out"], len(data.labels))
        _keep_photos(folder / "assets.extra" / "heldout", data.held_out)
        _keep_calibration(folder / "assets.extra" / "calibration", data, seed)
        draw_curves(history, folder / "curves.png")
        draw_confusion(confusion, data.labels, folder / "confusion.png")
        card.write(folder)
    right = int(np.trace(confusion))
    return Trained(output, card, weights, confusion, wilson_interval(right, int(confusion.sum())), data.set_aside)


def _measure_reloaded(in_memory: Callable[..., dict[str, Any]], data: Dataset, folder: Path) -> dict[str, Measured]:
    """Scores from the SavedModel as it was written, which must equal the model in memory to the bit."""
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    measured = {}
    for name, pixels in (("choose", data.choose), ("held_out", data.held_out)):
        scores = [np.empty((0, len(data.labels)), np.float32)]
        for start in range(0, len(pixels.images), BATCH):
            batch = tf.constant(pixels.images[start : start + BATCH], tf.float32)
            reloaded, expected = serve(image=batch), in_memory(image=batch)
            if any(not np.array_equal(reloaded[key], expected[key]) for key in expected):
                raise PawlatchError("the reloaded SavedModel gives other outputs than the trained model; please report this")
            scores.append(reloaded[OUTPUTS.class_scores].numpy())
        measured[name] = Measured(np.concatenate(scores), pixels.targets)
    return measured


def choose_threshold(measured: Measured, unlock: list[int]) -> float:
    """The unlock score to ask for: 0.8, or just above the most confident stranger among the choosing photos.

    It lies on the grid of 1/256 on which an int8 softmax speaks.
    """
    strangers = ~np.isin(measured.targets, unlock)
    worst = float(measured.scores[strangers][:, unlock].sum(axis=1).max(initial=0.0))
    above = (np.floor(worst * 256) + 1) / 256
    return float(np.clip(above, np.ceil(DEFAULT_THRESHOLD * 256) / 256, np.floor(HIGHEST_THRESHOLD * 256) / 256))


def door_rates(measured: Measured, unlock: list[int], threshold: float) -> dict[str, Any]:
    """Single-photo false unlocks and lock-outs at the threshold, with 95 % Wilson intervals."""
    opens = measured.scores[:, unlock].sum(axis=1) >= threshold
    own = np.isin(measured.targets, unlock)
    false_unlocks, lock_outs = int((opens & ~own).sum()), int((~opens & own).sum())
    return {
        "false_unlocks": false_unlocks, "strangers": int((~own).sum()),
        "false_unlock_interval_95": list(wilson_interval(false_unlocks, int((~own).sum()))),
        "lock_outs": lock_outs, "own": int(own.sum()),
        "lock_out_interval_95": list(wilson_interval(lock_outs, int(own.sum()))),
    }


def _card(photos: Path, data: Dataset, options: TrainOptions, weights: Weights, size: int,
          measured: dict[str, Measured]) -> ModelCard:
    held_out = measured["held_out"]
    metrics: dict[str, Any] = {"held_out_accuracy": held_out.accuracy, "held_out_photos": len(held_out.targets)}
    operating_points = {}
    if options.unlock:
        unlock = [data.labels.index(label) for label in options.unlock]
        threshold = choose_threshold(measured["choose"], unlock)
        operating_points = {SAVED_MODEL: {"threshold": threshold}}
        metrics["single_photo_door"] = door_rates(held_out, unlock, threshold)

    def names(pixels: Pixels) -> list[str]:
        return [photo.path.relative_to(photos).as_posix() for photo in pixels.photos]

    return ModelCard(
        name=options.name or "-".join(options.unlock) or photos.resolve().name,
        labels=data.labels,
        unlock=options.unlock,
        input=InputSpec((size, size), options.fit),
        outputs=OUTPUTS,
        operating_points=operating_points,
        provenance={
            "backbone": {"name": "mobilenet_v2", "width": weights.width, "weights": weights.source,
                         "weights_file": weights.path.name, "weights_trained_at": weights.trained_size},
            "seed": options.recipe.seed,
            "data_sha256": data.sha256,
            "splits": {"fit": names(data.fit), "choose": names(data.choose), "held_out": names(data.held_out)},
            "set_aside": {item.path.relative_to(photos).as_posix(): item.reason.replace(str(item.path), item.path.name)
                          for item in data.set_aside},
            "metrics": metrics,
            "versions": {"pawlatch": __version__, "tensorflow": tf.__version__, "tf_keras": keras.__version__,
                         "numpy": np.__version__, "opencv": cv2.__version__},
        },
    )


def _confusion(measured: Measured, labels: int) -> NDArray[np.int64]:
    """Counts (labels, labels): rows truth, columns prediction."""
    table = np.zeros((labels, labels), np.int64)
    np.add.at(table, (measured.targets, measured.scores.argmax(1)), 1)
    return table


def _keep_photos(folder: Path, pixels: Pixels) -> None:
    """Keep photos as they came, byte for byte, under their label."""
    for i, photo in enumerate(pixels.photos):
        target = folder / photo.label / f"{i:04d}-{photo.path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo.path, target)


def _keep_calibration(folder: Path, data: Dataset, seed: int) -> None:
    """Keep a class-balanced choice of the training photos as fitted pixels, lossless: calibration needs no more."""
    for i in balanced(data.fit, most=CALIBRATION_PHOTOS, seed=seed):
        photo = data.fit.photos[i]
        target = folder / photo.label / f"{i:04d}-{photo.path.stem}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(cv2.imencode(".png", data.fit.images[i][..., ::-1])[1].tobytes())


def _check_unlock(photos: Path, unlock: tuple[str, ...], seed: int) -> None:
    labels = sorted({photo.label for photo in split_photos(photos, seed=seed).fit})
    if unknown := [label for label in unlock if label not in labels]:
        raise ModelCardError(f"--unlock must name labels of {photos} ({', '.join(labels)}), got {', '.join(unknown)}")
    if reserved := [label for label in unlock if label in RESERVED]:
        raise ModelCardError(f"--unlock {', '.join(reserved)}: that folder stands for what must never unlock")


def _say_weights(weights: Weights, size: int, progress: Callable[[str], None]) -> None:
    if weights.source == "starter":
        progress(
            "USING THE STARTER BACKBONE (MobileNetV2 0.35, trained by pawlatch on few pictures): good for a first "
            "look; ImageNet weights make a better door, see --weights"
        )
    else:
        progress(f"weights: {weights.path.name} ({weights.source})")
    if weights.trained_size != size:
        progress(f"note: these weights were trained at {weights.trained_size} pixels and are used at {size}")


