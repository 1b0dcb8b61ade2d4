"""The graph: raw pixels in, normalisation inside, two outputs; and the two stages that fit it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import OutputSpec
from pawlatch.errors import OutputError
from pawlatch_train.augment import Augmentation, augment
from pawlatch_train.backbone import Weights, build_backbone
from pawlatch_train.dataset import Dataset, Pixels, class_weights
from pawlatch_train.keras import keras, tf

BATCH = 32
MIN_GAIN = 0.05  # nats of validation loss
OUTPUTS = OutputSpec()


@dataclass(frozen=True)
class Recipe:
    """How the two stages go. What is None follows from the number of photos, or from the backbone's weights."""

    head_epochs: int = 40
    head_rate: float = 2e-3
    fine_tune_epochs: int | None = None
    fine_tune_rate: float | None = None
    fine_tune_at: int | None = None  # the first backbone layer that is fine-tuned
    dropout: float = 0.2
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def fine_tune_epochs_for(self, photos: int) -> int:
        """Epochs of the second stage: fewer where each has more photos."""
        return self.fine_tune_epochs if self.fine_tune_epochs is not None else int(np.clip(4000 // photos, 4, 20))

    def fine_tuning_of(self, weights: Weights) -> tuple[int, float]:
        """First layer and rate: from block 6 (maps of a sixteenth of the side); all of a starter, which has seen little."""
        at, rate = (0, 5e-4) if weights.source == "starter" else (54, 3e-4)
        return (at if self.fine_tune_at is None else self.fine_tune_at,
                rate if self.fine_tune_rate is None else self.fine_tune_rate)


@dataclass
class History:
    """One entry an epoch; `stage` is "frozen" or "fine-tuned"."""

    stage: list[str] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Trainable:
    """The parts of one model that share their weights."""

    weights: Weights  # what the backbone began with
    whole: Any  # pixels -> {class_scores, embedding}
    backbone: Any  # scaled pixels -> maps
    features: Any  # pixels -> embedding
    head: Any  # embedding -> logits
    logits: Any  # pixels -> logits


def build_model(weights: Weights, *, size: int, labels: int, dropout: float) -> Trainable:
    """MobileNetV2 between raw pixels (n, size, size, 3), float32 0..255, and its two outputs.

    Batch norm always runs in inference mode: a few dozen photos are no population to take statistics of.
    """
    backbone = build_backbone(weights, width=weights.width, size=size)
    pixels = keras.Input((size, size, 3), name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="scale_to_plus_minus_one")(pixels)
    embedding = keras.layers.GlobalAveragePooling2D(name=OUTPUTS.embedding)(backbone(scaled, training=False))
    features = keras.Model(pixels, embedding, name="features")
    head = keras.Sequential(
        [
            keras.layers.Dropout(dropout),
            keras.layers.Dense(labels, name="logits", kernel_regularizer=keras.regularizers.L2(1e-4)),
        ],
        name="head",
    )
    logits = head(embedding)
    scores = keras.layers.Softmax(name=OUTPUTS.class_scores)(logits)
    whole = keras.Model(pixels, {OUTPUTS.class_scores: scores, OUTPUTS.embedding: embedding}, name="pawlatch")
    return Trainable(weights, whole, backbone, features, head, keras.Model(pixels, logits, name="classifier"))


def fit_model(model: Trainable, data: Dataset, recipe: Recipe, *, progress: Callable[[str], None]) -> History:
    """Fit the head on the frozen backbone's features, then fine-tune the upper layers; keep what chose best."""
    history = History()
    judge = data.choose if len(data.choose.photos) else data.fit
    initial = accuracy(model, judge)
    progress(f"initial accuracy {initial:.2f} on {len(judge.photos)} photos, before any training")
    _fit_frozen(model, data, judge, recipe, history, progress)
    _fine_tune(model, data, judge, recipe, history, progress)
    return history


def accuracy(model: Trainable, pixels: Pixels) -> float:
    """Top-1 on a split."""
    logits = model.logits.predict(pixels.images.astype(np.float32), batch_size=BATCH, verbose=0)
    return float((logits.argmax(1) == pixels.targets).mean())


def counts(model: Trainable) -> tuple[int, int]:
    """Numbers of trainable and frozen parameters."""
    def total(variables: list[Any]) -> int:
        return int(sum(np.prod(variable.shape) for variable in variables))

    return total(model.logits.trainable_weights), total(model.logits.non_trainable_weights)


def _fit_frozen(model: Trainable, data: Dataset, judge: Pixels, recipe: Recipe, history: History,
                progress: Callable[[str], None]) -> None:
    """The backbone sees each (augmented) photo once; the head is then fitted on its features."""
    model.backbone.trainable = False
    _say_counts("frozen", model, progress)
    rng = np.random.default_rng(recipe.seed)
    views = int(np.clip(3000 // len(data.fit.photos), 1, 12))
    features = [_features(model, data.fit.images)]
    progress(f"computing the features of {len(data.fit.photos)} photos and {views} augmented views of each")
    for _ in range(views):
        features.append(_features(model, _varied(data.fit.images, rng, recipe.augmentation)))
    targets = np.tile(data.fit.targets, views + 1)
    model.head.compile(keras.optimizers.Adam(recipe.head_rate), _loss(), metrics=["accuracy"])
    record = model.head.fit(
        np.concatenate(features), targets,
        validation_data=(_features(model, judge.images), judge.targets),
        epochs=recipe.head_epochs, batch_size=BATCH, class_weight=class_weights(targets, len(data.labels)), verbose=0,
        callbacks=[_keep_best(patience=10)],
    ).history
    _append(history, "frozen", record)
    progress(f"frozen: {len(record['loss'])} epochs, valid accuracy {max(record['val_accuracy']):.2f}")


def _fine_tune(model: Trainable, data: Dataset, judge: Pixels, recipe: Recipe, history: History,
               progress: Callable[[str], None]) -> None:
    """Upper backbone layers at a lower rate, which has to earn its place by a loss lower by `MIN_GAIN`.

    On 15 photos of one dog, all of them on grass, it lowered a small loss a little, and lost the dog on a carpet.
    """
    epochs = recipe.fine_tune_epochs_for(len(data.fit.photos))
    if not epochs:
        return
    first_layer, peak_rate = recipe.fine_tuning_of(model.weights)
    model.backbone.trainable = True
    for index, layer in enumerate(model.backbone.layers):
        layer.trainable = index >= first_layer and not isinstance(layer, keras.layers.BatchNormalization)
    _say_counts("fine-tuned", model, progress)
    steps = -(-len(data.fit.photos) // BATCH)
    warm = min(2 * steps, 60, (epochs - 1) * steps)  # a rate that begins high shakes apart what the backbone knew
    rate = keras.optimizers.schedules.CosineDecay(
        peak_rate / 50, epochs * steps - warm, warmup_target=peak_rate, warmup_steps=warm
    )
    model.logits.compile(keras.optimizers.Adam(rate), _loss(), metrics=["accuracy"])
    judged = (judge.images.astype(np.float32), judge.targets)
    frozen_loss, _ = model.logits.evaluate(*judged, batch_size=BATCH, verbose=0)
    before = model.logits.get_weights()
    weights = class_weights(data.fit.targets, len(data.labels))

    def report(epoch: int, logs: dict[str, float]) -> None:
        progress(f"fine-tuning {epoch + 1} of {epochs}: loss {logs['loss']:.3f}, valid accuracy {logs['val_accuracy']:.2f}")

    record = model.logits.fit(
        _batches(data.fit, recipe, weights), steps_per_epoch=steps, epochs=epochs, validation_data=judged, verbose=0,
        callbacks=[_keep_best(patience=8), keras.callbacks.LambdaCallback(on_epoch_end=report)],
    ).history
    _append(history, "fine-tuned", record)
    tuned_loss, _ = model.logits.evaluate(*judged, batch_size=BATCH, verbose=0)
    kept = "fine-tuned" if tuned_loss < frozen_loss - MIN_GAIN else "frozen"
    if kept == "frozen":
        model.logits.set_weights(before)
    progress(f"the {kept} stage is kept: validation loss {frozen_loss:.3f} before fine-tuning, {tuned_loss:.3f} after")


def _batches(pixels: Pixels, recipe: Recipe, weights: dict[int, float]) -> Iterator[tuple[Any, Any, Any]]:
    """Endless augmented batches: float32 pixels, targets, sample weights."""
    rng = np.random.default_rng(recipe.seed + 1)
    while True:
        order = rng.permutation(len(pixels.targets))
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            varied = _varied(pixels.images[chosen], rng, recipe.augmentation)
            targets = pixels.targets[chosen]
            yield varied.astype(np.float32), targets, np.array([weights[int(t)] for t in targets], np.float32)


def _varied(images: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation) -> NDArray[np.uint8]:
    size_hw = (images.shape[1], images.shape[2])
    return np.stack([augment(image, rng, size_hw=size_hw, how=how) for image in images])


def _features(model: Trainable, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    parts = [
        model.features.predict_on_batch(images[start : start + BATCH].astype(np.float32))
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts)


def _loss() -> Any:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _keep_best(*, patience: int) -> Any:
    return keras.callbacks.EarlyStopping("val_loss", patience=patience, restore_best_weights=True)


def _append(history: History, stage: str, record: dict[str, list[float]]) -> None:
    history.stage += [stage] * len(record["loss"])
    for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
        getattr(history, key).extend(float(value) for value in record[key])


def _say_counts(stage: str, model: Trainable, progress: Callable[[str], None]) -> None:
    trainable, frozen = counts(model)
    progress(f"{stage} stage: {trainable:,} parameters trainable, {frozen:,} frozen")


def save_model(model: Trainable, folder: Path) -> Any:
    """Write a SavedModel whose `serving_default` takes float32 pixels (n, H, W, 3) and names its two outputs.

    Returns:
        The function that was written, as it runs in memory.

    Raises:
        OutputError: the disk refuses.
    """
    shape = (None, *model.whole.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def serve(image: Any) -> Any:
        return model.whole(image, training=False)

    try:
        tf.saved_model.save(model.whole, str(folder), signatures={"serving_default": serve})
    except tf.errors.OpError as error:  # what a full disk is to TensorFlow
        raise OutputError(f"cannot write the SavedModel ({error.message}); make room or name another place with -o") from error
    return serve
