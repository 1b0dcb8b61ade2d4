"""Rates that change and weights that are kept: schedules, early stopping, and what a killed run needs to go on."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.files import write_atomic
from pawlatch_train.history import History
from pawlatch_train.keras import keras, tf
from pawlatch_train.recipe import TrainRecipe


class Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A learning rate over the steps of a stage: a linear warm-up, then the recipe's schedule, times `factor`."""

    def __init__(self, peak: float, *, steps: int, warm: int, schedule: str) -> None:
        super().__init__()
        self.peak, self.steps, self.warm, self.schedule = peak, steps, warm, schedule
        self.factor = tf.Variable(1.0, trainable=False, name="rate_factor")

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        share = tf.clip_by_value((step - self.warm) / max(1, self.steps - self.warm), 0.0, 1.0)
        shape = {
            "constant": lambda: tf.ones_like(share),
            "cosine": lambda: 0.5 * (1.0 + tf.cos(np.pi * share)),
            "exponential": lambda: 0.01**share,
            "step": lambda: 0.1 ** tf.floor(3.0 * tf.minimum(share, 0.999)),
        }[self.schedule]()
        return self.peak * tf.minimum(1.0, (step + 1.0) / max(1, self.warm)) * shape * self.factor

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warm": self.warm, "schedule": self.schedule}


def make_optimizer(recipe: TrainRecipe, rate: Rate) -> Any:
    """The optimizer that the recipe names, as the Keras book names them."""
    options: dict[str, Any] = {"learning_rate": rate, "clipnorm": None, "global_clipnorm": recipe.clip_norm or None}
    if recipe.weight_decay is not None:
        options["weight_decay"] = recipe.weight_decay
    kinds = keras.optimizers
    return {
        "sgd": lambda: kinds.SGD(**options),
        "momentum": lambda: kinds.SGD(momentum=0.9, **options),
        "nag": lambda: kinds.SGD(momentum=0.9, nesterov=True, **options),
        "adagrad": lambda: kinds.Adagrad(**options),
        "adadelta": lambda: kinds.Adadelta(**options),
        "rmsprop": lambda: kinds.RMSprop(**options),
        "adam": lambda: kinds.Adam(**options),
        "adamw": lambda: kinds.AdamW(**options),
    }[recipe.optimizer]()


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps the weights of the epoch with the lowest validation loss and puts them back at the end; ends a stage that has not
    gained for `early_stopping` epochs; halves the rate after `plateau` epochs without a gain; and writes after every epoch
    what the same stage needs to go on, should the run be killed. Stands behind the `Recorder`.
    """

    def __init__(self, recipe: TrainRecipe, rate: Rate, history: History, path: Path | None) -> None:
        super().__init__()
        self._recipe, self._rate, self._history, self._path = recipe, rate, history, path
        self.best_loss, self.best_epoch, self._since_halved = float("inf"), -1, 0
        self._best: list[Any] = []
        self.ended = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        loss = logs.get("val_loss", logs["loss"])
        if not np.isfinite(loss):
            loss = float("inf")
        if loss < self.best_loss or not self._best:
            self.best_loss, self.best_epoch, self._since_halved = loss, epoch, 0
            self._best = self.model.get_weights()
        else:
            self._since_halved += 1
        if self._recipe.plateau and self._since_halved >= self._recipe.plateau:
            self._rate.factor.assign(self._rate.factor * 0.5)
            self._since_halved = 0
        if self._recipe.early_stopping and epoch - self.best_epoch >= self._recipe.early_stopping:
            self.model.stop_training = self.ended = True
        self._save(epoch)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self.put_back(self.model)

    def put_back(self, model: Any) -> None:
        """Give a model the weights of the best epoch."""
        if self._best:
            model.set_weights(self._best)

    def restore(self, model: Any) -> int:
        """Take up what a killed run left, if it left anything: the epoch to go on with."""
        if self._path is None or not self._path.is_file():
            return 0
        with np.load(self._path) as kept:
            told = json.loads(str(kept["told"]))
            arrays = [kept[f"{index:04d}"] for index in range(len(kept.files) - 1)]
        weights = len(model.get_weights())
        model.set_weights(arrays[:weights])
        self._best = arrays[weights : 2 * weights]
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(model.optimizer.variables, arrays[2 * weights :], strict=True):
            variable.assign(value)
        self.best_loss, self.best_epoch, self._since_halved = told["best_loss"], told["best_epoch"], told["since_halved"]
        self.ended = told["ended"]
        self._rate.factor.assign(told["factor"])
        self._history.take_up(History.from_csv(told["epochs"], told["batches"]))
        return int(told["epoch"]) + 1

    def _save(self, epoch: int) -> None:
        if self._path is None:
            return
        told = {
            "epoch": epoch, "best_loss": self.best_loss, "best_epoch": self.best_epoch, "since_halved": self._since_halved,
            "ended": self.ended, "factor": float(self._rate.factor), "epochs": self._history.to_csv(),
            "batches": self._history.batches_to_csv(),
        }
        optimizer = [variable.numpy() for variable in self.model.optimizer.variables]
        arrays = [*self.model.get_weights(), *self._best, *optimizer]
        buffer = io.BytesIO()
        np.savez(buffer, told=np.array(json.dumps(told)), **{f"{index:04d}": array for index, array in enumerate(arrays)})
        write_atomic(self._path, buffer.getvalue())
