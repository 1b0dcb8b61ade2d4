"""What listens while `model.fit` runs: the history, the bar in a terminal, the logs for TensorBoard.

TensorBoard's own package is not needed to write its logs, only to look at them: the few records it reads are written
here with TensorFlow's summary operation.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch_train.history import BatchLoss, History, Stage
from pawlatch_train.keras import keras, tf

NAN = float("nan")
REDRAW_S = 0.1
BAR = 24  # characters
SAMPLES = 16  # images
SCALAR, TENSOR, BLOBS = 1, 2, 3  # enum DataClass of tensorflow/core/framework/summary.proto

Clock = Callable[[], float]
Logs = dict[str, float]


class Recorder(keras.callbacks.Callback):  # type: ignore[misc]
    """Appends each finished epoch to `history`, with the loss of each batch.

    Keras reports after each batch the mean m over the s photos so far, so the batch itself had (mₖsₖ − mₖ₋₁sₖ₋₁) / (sₖ − sₖ₋₁);
    `photos` and `batch` are the numbers of photos (or views) an epoch and a batch, and the last batch may be smaller.
    An epoch that does not finish leaves nothing, so a history can be taken up where it ended.
    """

    def __init__(self, history: History, stage: Stage, *, photos: int, batch: int, clock: Clock = time.perf_counter) -> None:
        super().__init__()
        self._history, self._stage, self._clock = history, stage, clock
        self._photos, self._batch = photos, batch

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._started = self._clock()
        self._batches: list[BatchLoss] = []
        self._seen, self._sum = 0, 0.0

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        seen = min((batch + 1) * self._batch, self._photos)
        if seen > self._seen:
            total = float(logs["loss"]) * seen
            loss = (total - self._sum) / (seen - self._seen)
            self._batches.append(BatchLoss(self._stage, len(self._history) + 1, batch + 1, loss))
            self._seen, self._sum = seen, total

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        values = {"val_loss": NAN, "val_accuracy": NAN, **logs, "learning_rate": _rate(self.model),
                  "seconds": self._clock() - self._started}
        self._history.append(self._stage, values, self._batches)


def progress_callback(stage: Stage, epochs: int, steps: int, *, stream: TextIO | None = None,
                      clock: Clock = time.perf_counter) -> Any:
    """A Keras callback that tells how far a stage of `epochs` epochs with `steps` batches each has come.

    On a terminal a bar that is redrawn in place, else a line an epoch; `stream` is standard error where none is given.
    """
    stream = stream or sys.stderr
    drawn = stream.isatty() and os.environ.get("TERM") != "dumb"
    return (_Bar if drawn else _Lines)(stage, epochs, steps, stream, clock)


class _Progress(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, stage: Stage, epochs: int, steps: int, stream: TextIO, clock: Clock) -> None:
        super().__init__()
        self._stage, self._epochs, self._steps, self._stream, self._clock = stage, epochs, steps, stream, clock

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._started = self._clock()
        self._first: int | None = None  # a resumed stage does not begin at 0
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._first = epoch if self._first is None else self._first
        self._epoch = epoch
        self._epoch_started = self._clock()


class _Lines(_Progress):
    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        told = f"{self._stage} {epoch + 1} of {self._epochs}: {_tell(logs)}, {self._clock() - self._epoch_started:.1f} s"
        self._stream.write(told + "\n")
        self._stream.flush()


class _Bar(_Progress):
    """`frozen      ━━━━━━────── epoch 12 of 40  loss 0.123, valid accuracy 0.97  0:12 left`"""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self._valid: Logs = {}
        self._drawn = -REDRAW_S

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        if self._clock() - self._drawn >= REDRAW_S:
            self._draw(self._epoch * self._steps + batch + 1, {**self._valid, **logs})

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._valid = {name: value for name, value in logs.items() if name.startswith("val_")}
        self._last = logs
        if self._clock() - self._drawn >= REDRAW_S:
            self._draw((epoch + 1) * self._steps, logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._first is not None:
            self._draw((self._epoch + 1) * self._steps, self._last, ended=True)
            self._stream.write("\n")
            self._stream.flush()

    def _draw(self, done: int, logs: Logs, *, ended: bool = False) -> None:
        self._drawn = self._clock()
        filled = min(BAR, BAR * done // (self._epochs * self._steps))
        bar = "━" * filled + "─" * (BAR - filled)
        line = f"{self._stage:<10} {bar} epoch {self._epoch + 1} of {self._epochs}  {_tell(logs)}  {self._time(done, ended)}"
        self._stream.write("\r" + line[: _columns(self._stream) - 1] + "\x1b[K")
        self._stream.flush()

    def _time(self, done: int, ended: bool) -> str:
        took = self._drawn - self._started
        if ended:
            return f"{_minutes(took)} in all"
        before = (self._first or 0) * self._steps
        return f"{_minutes(took / (done - before) * (self._epochs * self._steps - done))} left"


def _tell(logs: Logs) -> str:
    told = f"loss {logs['loss']:.3f}"
    return f"{told}, valid accuracy {logs['val_accuracy']:.2f}" if "val_accuracy" in logs else told


def _minutes(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80  # a pty that nobody sized has 0
    except OSError:
        return 80


class TensorBoardLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes `log_dir/train` and `log_dir/validation`, to be looked at with `tensorboard --logdir log_dir`.

    At once the graph of `model` (pixels to outputs; what is fitted may be a part of it) and sample images as training saw
    them, (n, H, W, 3), uint8 RGB; each epoch what a `Recorder` added to `history`, the time a step took, and histograms of
    the trained weights. One object serves both stages. Of a history taken up from a killed run it writes all again.
    """

    def __init__(self, log_dir: Path, history: History, *, model: Any, sample_images: NDArray[np.uint8],
                 sample_labels: Sequence[str], clock: Clock = time.perf_counter) -> None:
        super().__init__()
        self._train = tf.summary.create_file_writer(str(log_dir / "train"))
        self._validation = tf.summary.create_file_writer(str(log_dir / "validation"))
        self._history, self._clock = history, clock
        self._epochs = self._batches = 0  # of the history, that are written
        self._write_once(model, sample_images, sample_labels)

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Flush and close the files; may be called twice."""
        self._train.close()
        self._validation.close()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._epoch = len(self._history)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._step_seconds: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        self._step_started = self._clock()

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._step_seconds.append(self._clock() - self._step_started)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        with self._train.as_default(step=self._epoch):
            _scalar("epoch/step_time_ms", 1000 * float(np.median(self._step_seconds)))
            for weight in self.model.trainable_weights:
                _histogram(f"weights/{weight.name.split(':')[0]}", weight.numpy())
        self._epoch += 1
        self._write_history()

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._write_history()  # the last epoch, where the recorder stands behind this in the list of callbacks

    def _write_history(self) -> None:
        history = self._history
        for epoch in range(self._epochs, len(history)):
            with self._train.as_default(step=epoch):
                for name in ("loss", "accuracy", "learning_rate", "seconds"):
                    _scalar(f"epoch/{name}", getattr(history, name)[epoch])
            with self._validation.as_default(step=epoch):
                for name in ("loss", "accuracy"):
                    _scalar(f"epoch/{name}", getattr(history, f"val_{name}")[epoch])
        for i, batch in enumerate(history.batch_loss[self._batches :], self._batches):
            with self._train.as_default(step=i):
                _scalar("batch/loss", batch.loss)
        self._epochs, self._batches = len(history), len(history.batch_loss)
        self._train.flush()
        self._validation.flush()

    def _write_once(self, model: Any, images: NDArray[np.uint8], labels: Sequence[str]) -> None:
        whole = tf.function(lambda image: model(image, training=False))
        graph = whole.get_concrete_function(tf.TensorSpec((None, *model.input_shape[1:]), tf.float32, name="image")).graph
        with self._train.as_default(step=0):
            tf.summary.graph(graph)
            for i, (image, label) in enumerate(zip(images[:SAMPLES], labels, strict=False)):
                _image(f"samples/{i:02d} {label}", image)


def _rate(model: Any) -> float:
    return float(model.optimizer.learning_rate.numpy())


def _scalar(tag: str, value: float) -> None:
    _write(tag, np.float32(value), "scalars", SCALAR)


def _histogram(tag: str, values: NDArray[np.float32]) -> None:
    """Rows (left, right, count) of 30 buckets."""
    finite = values[np.isfinite(values)]
    if finite.size:
        counts, edges = np.histogram(finite, bins=30)
        _write(tag, np.column_stack([edges[:-1], edges[1:], counts]).astype(np.float64), "histograms", TENSOR)


def _image(tag: str, image_rgb: NDArray[np.uint8]) -> None:
    """Width, height, PNG."""
    height, width = image_rgb.shape[:2]
    png = cv2.imencode(".png", np.ascontiguousarray(image_rgb[..., ::-1]))[1].tobytes()
    _write(tag, np.array([str(width).encode(), str(height).encode(), png], object), "images", BLOBS)


def _write(tag: str, value: Any, plugin: str, data_class: int) -> None:
    """Write what one of TensorBoard's plugins reads; their formats stand in its `plugins/*/metadata.py`."""
    kind = tf.compat.v1.SummaryMetadata
    metadata = kind(plugin_data=kind.PluginData(plugin_name=plugin), data_class=data_class)
    tf.summary.write(tag, value, metadata=metadata)
