"""What listens to `model.fit`: the history it leaves, the logs for TensorBoard, and what a person sees meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
import termios
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pawlatch_train.history import History

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train.callbacks import Recorder, TensorBoardLog, progress_callback
from pawlatch_train.keras import keras, tf

PHOTOS, BATCH, LABELS = 20, 8, 3  # the last batch has 4


class Clock:
    """A clock that goes on by `step` seconds whenever it is read."""

    def __init__(self, step: float = 0.0) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def fit(model, features, targets, *callbacks, epochs=2, validate=True):
    model.fit(features, targets, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks),
              validation_data=(features, targets) if validate else None)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Two stages of a small network on features, with everything that listens; the first stage learns nothing (rate 0)."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    pixels = keras.Input((6, 5, 3), name="image")
    features = keras.layers.Flatten()(pixels)
    head = keras.Sequential([keras.Input((90,)), keras.layers.Dense(LABELS, name="logits", kernel_regularizer="l2")], name="head")
    whole = keras.Model(pixels, keras.layers.Softmax(name="class_scores")(head(features)))
    images = rng.integers(0, 256, (PHOTOS, 6, 5, 3), dtype=np.uint8)
    inputs, targets = images.reshape(PHOTOS, -1) / np.float32(255), rng.integers(0, LABELS, PHOTOS)
    logs, history = tmp_path_factory.mktemp("logs"), History()
    losses = []
    with TensorBoardLog(logs, history, model=whole, sample_images=images[:3], sample_labels=["초코", "Eve", "Eve"],
                        clock=Clock(0.004)) as board:
        for stage, rate in (("frozen", 0.0), ("fine-tuned", 0.02)):
            schedule = keras.optimizers.schedules.CosineDecay(rate, 100)
            head.compile(keras.optimizers.SGD(schedule), keras.losses.SparseCategoricalCrossentropy(from_logits=True), ["accuracy"])
            if stage == "frozen":
                losses = [head.evaluate(inputs[i : i + BATCH], targets[i : i + BATCH], verbose=0)[0]
                          for i in range(0, PHOTOS, BATCH)]
            fit(head, inputs, targets, Recorder(history, stage, photos=PHOTOS, batch=BATCH, clock=Clock(1.5)), board)
    return SimpleNamespace(history=history, logs=logs, losses=losses, head=head, images=images, inputs=inputs, targets=targets,
                           kernel=head.get_weights()[0], loss=head.evaluate(inputs, targets, verbose=0)[0])


def events(folder: Path):
    """Everything in a folder of logs, as TensorFlow reads it: (plugin, tag) to {step: array}, and the graphs."""
    values, graphs = {}, []
    for path in sorted(folder.iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            if event.graph_def:
                graphs.append(tf.compat.v1.GraphDef.FromString(event.graph_def))
            for value in event.summary.value:
                key = value.metadata.plugin_data.plugin_name, value.tag
                values.setdefault(key, {})[event.step] = tf.make_ndarray(value.tensor)
    return values, graphs


def test_the_history_has_both_stages(fitted):
    history = fitted.history
    assert history.stage == ["frozen"] * 2 + ["fine-tuned"] * 2
    assert history.turn == 2
    assert history.learning_rate[0] == 0
    assert history.learning_rate[2] == pytest.approx(0.02, rel=0.01)
    assert history.seconds == [1.5] * 4
    assert history.val_loss[-1] == pytest.approx(fitted.loss, rel=1e-5)
    assert history.loss[3] < history.loss[0]


def test_the_loss_of_each_batch_is_its_own(fitted):
    batches = fitted.history.batch_loss
    assert [(batch.stage, batch.epoch, batch.batch) for batch in batches] == [
        (stage, epoch, batch) for epoch, stage in ((1, "frozen"), (2, "frozen"), (3, "fine-tuned"), (4, "fine-tuned"))
        for batch in (1, 2, 3)
    ]
    for epoch in (0, 1):  # at rate 0 each epoch is the same
        assert [batch.loss for batch in batches[3 * epoch : 3 * epoch + 3]] == pytest.approx(fitted.losses, rel=1e-5)
    assert len({round(loss, 4) for loss in fitted.losses}) == 3


def test_an_epoch_that_was_killed_leaves_nothing(fitted):
    class Killed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs):
            if next(count) == 4:
                raise KeyboardInterrupt

    count, history = itertools.count(), History()
    with pytest.raises(KeyboardInterrupt):
        fit(fitted.head, fitted.inputs, fitted.targets, Recorder(history, "frozen", photos=PHOTOS, batch=BATCH), Killed())
    assert len(history) == 1
    assert [batch.epoch for batch in history.batch_loss] == [1, 1, 1]
    again = History.from_csv(history.to_csv(), history.batches_to_csv())
    fit(fitted.head, fitted.inputs, fitted.targets, Recorder(again, "frozen", photos=PHOTOS, batch=BATCH), validate=False)
    assert [batch.epoch for batch in again.batch_loss] == [1] * 3 + [2] * 3 + [3] * 3
    assert np.isnan(again.val_loss).tolist() == [False, True, True]


def test_tensorboard_gets_scalars_and_the_time_of_a_step(fitted):
    train, _ = events(fitted.logs / "train")
    validation, _ = events(fitted.logs / "validation")
    for name in ("loss", "accuracy", "learning_rate"):
        told = train["scalars", f"epoch/{name}"]
        assert list(told) == [0, 1, 2, 3]
        assert list(told.values()) == pytest.approx(getattr(fitted.history, name), rel=1e-6)
    assert list(validation["scalars", "epoch/loss"].values()) == pytest.approx(fitted.history.val_loss, rel=1e-6)
    assert list(train["scalars", "epoch/step_time_ms"].values()) == pytest.approx([4.0] * 4)
    assert list(train["scalars", "batch/loss"].values()) == pytest.approx([batch.loss for batch in fitted.history.batch_loss])
    assert list(train["scalars", "batch/loss"]) == list(range(12))


def test_tensorboard_gets_histograms_of_what_was_trained(fitted):
    train, _ = events(fitted.logs / "train")
    kernels = train["histograms", "weights/logits/kernel"]
    assert list(kernels) == [0, 1, 2, 3]
    assert all(table.shape == (30, 3) and table[:, 2].sum() == 90 * LABELS for table in kernels.values())
    assert (kernels[3][0, 0], kernels[3][-1, 1]) == pytest.approx((fitted.kernel.min(), fitted.kernel.max()))
    assert np.array_equal(kernels[0], kernels[1])  # rate 0
    assert not np.array_equal(kernels[1], kernels[3])


def test_tensorboard_gets_the_samples_and_the_graph_of_the_whole(fitted):
    train, graphs = events(fitted.logs / "train")
    samples = {tag: value[0] for (plugin, tag), value in train.items() if plugin == "images"}
    assert list(samples) == ["samples/00 초코", "samples/01 Eve", "samples/02 Eve"]
    width, height, png = samples["samples/00 초코"]
    assert (width, height) == (b"5", b"6")
    assert np.array_equal(tf.io.decode_png(png).numpy(), fitted.images[0])
    (graph,) = graphs
    assert "image" in [node.name for node in graph.node if node.op == "Placeholder"]
    assert {"MatMul", "Softmax"} <= {node.op for node in graph.node}


def test_weights_that_are_no_numbers_do_not_end_the_training(fitted, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="logits")])
    model.set_weights([np.full((4, 2), np.nan), np.zeros(2)])
    model.compile("sgd", "mse", ["accuracy"])
    history = History()
    with TensorBoardLog(tmp_path, history, model=model, sample_images=np.zeros((0, 6, 5, 3), np.uint8), sample_labels=[]) as board:
        fit(model, np.zeros((8, 4)), np.zeros((8, 2)), board, Recorder(history, "frozen", photos=8, batch=8))
    train, _ = events(tmp_path / "train")
    assert ("histograms", "weights/logits/kernel") not in train
    assert len(train["scalars", "epoch/loss"]) == 2  # though the recorder stood behind


def test_a_history_taken_up_is_written_whole(fitted, tmp_path):
    history = History()
    with TensorBoardLog(tmp_path, history, model=fitted.head, sample_images=fitted.images[:1], sample_labels=["Eve"]) as board:
        history.take_up(fitted.history)
        fit(fitted.head, fitted.inputs, fitted.targets, Recorder(history, "fine-tuned", photos=PHOTOS, batch=BATCH), board, epochs=1)
    train, _ = events(tmp_path / "train")
    assert list(train["scalars", "epoch/loss"]) == [0, 1, 2, 3, 4]
    assert list(train["histograms", "weights/logits/kernel"]) == [4]


def run(callback, *, epochs=3, steps=100, first=0):
    """What Keras calls during a stage."""
    callback.on_train_begin()
    for epoch in range(first, epochs):
        callback.on_epoch_begin(epoch)
        for batch in range(steps):
            callback.on_train_batch_end(batch, {"loss": 0.5, "accuracy": 0.9})
        callback.on_epoch_end(epoch, {"loss": 0.25, "accuracy": 0.9, "val_loss": 0.3, "val_accuracy": 0.875})
    callback.on_train_end()


@pytest.fixture
def terminal(monkeypatch):
    """A stream on a terminal of 200 columns, and a function that closes it and gives all that was written."""
    monkeypatch.setenv("TERM", "xterm")
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
    stream = os.fdopen(follower, "w", encoding="utf-8")

    def written() -> str:
        stream.close()
        parts = []
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while part := os.read(leader, 1 << 16):
                parts.append(part)
        return b"".join(parts).decode()

    yield stream, written
    stream.close()
    os.close(leader)


def test_a_terminal_gets_a_bar(terminal):
    stream, written = terminal
    run(progress_callback("frozen", 3, 4, stream=stream, clock=Clock(0.1)), steps=4)
    text = written()
    assert text.count("\n") == 1
    frames = text.split("\r")[1:]
    assert frames[0].startswith("frozen     ━━──")
    assert "epoch 1 of 3  loss 0.500  " in frames[0]
    assert "left" in frames[0]
    assert "epoch 3 of 3  loss 0.250, valid accuracy 0.88" in text
    assert frames[-2].startswith("frozen     " + "━" * 24 + " epoch 3 of 3")
    assert "in all" in frames[-2]


def test_it_is_redrawn_ten_times_a_second_at_most(terminal):
    stream, written = terminal
    clock = Clock(0.001)
    run(progress_callback("frozen", 3, 100, stream=stream, clock=clock))
    frames = written().count("loss")
    assert 3 <= frames <= clock.now / 0.1 + 2


def test_a_line_is_no_longer_than_the_terminal(terminal):
    stream, written = terminal
    fcntl.ioctl(stream.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    run(progress_callback("fine-tuned", 3, 4, stream=stream, clock=Clock(0.1)), steps=4)
    frames = written().replace("\x1b[K", "").replace("\n", "").split("\r")
    assert max(map(len, frames)) == 39


def test_the_time_left_counts_from_where_a_run_was_taken_up(terminal):
    stream, written = terminal
    clock = Clock()
    bar = progress_callback("frozen", 10, 1, stream=stream, clock=clock)
    bar.on_train_begin()
    bar.on_epoch_begin(6)
    clock.now = 20.0
    bar.on_train_batch_end(0, {"loss": 0.5})
    assert "1:00 left" in written()  # three more of 20 s


@pytest.mark.parametrize("dumb", [False, True])
def test_elsewhere_there_is_a_line_an_epoch(dumb, terminal, tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "dumb" if dumb else "xterm")
    stream, written = terminal
    with (tmp_path / "log").open("w+", encoding="utf-8") as file:
        run(progress_callback("frozen", 3, 100, stream=stream if dumb else file, clock=Clock(0.5)), first=1)
        file.seek(0)
        lines = (written() if dumb else file.read()).splitlines()
    assert lines == [f"frozen {epoch} of 3: loss 0.250, valid accuracy 0.88, 0.5 s" for epoch in (2, 3)]


def test_it_speaks_where_errors_go(capsys):
    run(progress_callback("frozen", 1, 1), epochs=1, steps=1)
    assert capsys.readouterr().err.startswith("frozen 1 of 1: loss 0.250")
