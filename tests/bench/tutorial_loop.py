"""How much faster than the tutorial's own loop `pawlatch train` is, on the same photos, at the same input size and width.

    KERAS_HOME=../shared/keras_home python tests/bench/tutorial_loop.py ../shared/data/cats --repeat 3 [-- FLAGS OF TRAIN]

The tutorial is TensorFlow's "Transfer learning and fine-tuning" (tensorflow.org/tutorials/images/transfer_learning) as it stands:
MobileNetV2 1.0 on 160×160 pixels, batches of 32 of a cached dataset, flips and rotations as layers of the model, 20 steps an epoch,
10 epochs with a frozen base (Adam, 1e-4), 10 more from layer 100 on (RMSprop, 1e-5), through `model.fit`.

Both run as processes of their own, so both pay for TensorFlow's start and for decoding; both see train/ only and are judged on valid/,
whose epochs' scores the tutorial prints and never acts on. Wall time depends on who else uses the machine, processor time hardly.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import NamedTuple

SIZE, BATCH, STEPS, EPOCHS = 160, 32, 20, 10
WEIGHTS = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{}_no_top.h5"


class Spent(NamedTuple):
    """What a process and its children took."""

    wall_s: float
    cpu_s: float
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="a folder with train/ and valid/")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", choices=("tutorial", "pawlatch"))
    parser.add_argument("--inside", choices=("tutorial", "judge"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args, flags = split_flags(parser)
    if args.inside:
        accuracy = tutorial(args.photos) if args.inside == "tutorial" else judge(args.model, args.photos)
        print(json.dumps(accuracy))
        return
    ways = [way for way in ("tutorial", "pawlatch") if args.only in (None, way)]
    measured = {way: [] for way in ways}
    print(f"{'':<10}{'wall s':>8}{'cpu s':>8}{'peak MB':>9}{'valid accuracy':>16}")
    for _ in range(args.repeat):
        for way in ways:
            spent, accuracy = run_tutorial(args.photos) if way == "tutorial" else run_pawlatch(args.photos, flags)
            measured[way].append((*spent, accuracy))
            print_row(way, measured[way][-1])
    if args.repeat > 1:
        for way in ways:
            print_row("mean " + way[:4], [mean(column) for column in zip(*measured[way], strict=True)])
    if len(ways) == 2:
        wall, cpu = (mean(row[k] for row in measured["tutorial"]) / mean(row[k] for row in measured["pawlatch"]) for k in (0, 1))
        print(f"pawlatch is {wall:.1f} times faster by the clock, {cpu:.1f} times in processor time")


def split_flags(parser):
    """What stands after `--` is for pawlatch train."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    return parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]


def print_row(name, row):
    wall_s, cpu_s, peak_mb, accuracy = row
    print(f"{name:<10}{wall_s:>8.1f}{cpu_s:>8.1f}{peak_mb:>9.0f}{accuracy:>16.3f}", flush=True)


def run_tutorial(photos):
    with tempfile.TemporaryFile("w+") as told:
        spent = run_measured([sys.executable, __file__, photos, "--inside", "tutorial"], stdout=told)
        told.seek(0)
        return spent, json.loads(told.read().splitlines()[-1])


def run_pawlatch(photos, flags):
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        spent = run_measured([Path(sysconfig.get_path("scripts")) / "pawlatch", "train", photos, "-o", model, "--weights", "imagenet",
                              "--width", "1.0", "--image-size", str(SIZE), *flags], stdout=sys.stderr)
        told = subprocess.run([sys.executable, __file__, photos, "--inside", "judge", "--model", model],
                              check=True, capture_output=True, text=True).stdout
        return spent, json.loads(told.splitlines()[-1])


def run_measured(command, stdout) -> Spent:
    """Run a command to its end; memory is the largest of its processes, not their sum. This process must stay small for it."""
    start = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdout=stdout)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} ended with status {process.returncode}")
    return Spent(time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def tutorial(photos):
    """The tutorial's accuracy on valid/ after its 20 epochs."""
    from pawlatch_train.keras import keras, tf

    keras.utils.set_random_seed(0)
    fit_photos, labels = dataset(photos / "train")
    valid, _ = dataset(photos / "valid", labels)
    stream = fit_photos.shuffle(len(fit_photos)).repeat().batch(BATCH).prefetch(tf.data.AUTOTUNE)
    judged = valid.batch(BATCH).cache().prefetch(tf.data.AUTOTUNE)

    pixels = keras.Input((SIZE, SIZE, 3))
    varied = keras.layers.RandomRotation(0.1)(keras.layers.RandomFlip("horizontal")(pixels))
    base = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), include_top=False, weights=weights())
    base.trainable = False
    maps = base(keras.applications.mobilenet_v2.preprocess_input(varied), training=False)
    features = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(maps))
    model = keras.Model(pixels, keras.layers.Dense(len(labels))(features))

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    model.fit(stream, steps_per_epoch=STEPS, epochs=EPOCHS, validation_data=judged, verbose=2)

    base.trainable = True
    for layer in base.layers[:100]:
        layer.trainable = False
    model.compile(keras.optimizers.RMSprop(1e-5), loss, metrics=["accuracy"])
    model.fit(stream, steps_per_epoch=STEPS, initial_epoch=EPOCHS, epochs=2 * EPOCHS, validation_data=judged, verbose=2)
    return model.evaluate(judged, verbose=0)[1]


def dataset(folder, labels=None):
    """Single photos and targets, decoded once and kept, and the labels."""
    from pawlatch_train.keras import keras

    photos = keras.utils.image_dataset_from_directory(folder, class_names=labels, image_size=(SIZE, SIZE), batch_size=None, shuffle=False)
    return photos.cache(), photos.class_names


def weights():
    """The file that Keras would take, or that of 224 pixels, or "imagenet", which downloads."""
    folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    return next((path for size in (SIZE, 224) if (path := folder / WEIGHTS.format(size)).is_file()), "imagenet")


def judge(model, photos):
    """The SavedModel's accuracy on valid/, through the device's preprocessing."""
    import numpy as np

    from pawlatch.card import read_card
    from pawlatch.image import fit
    from pawlatch.photos import list_splits, read_photos
    from pawlatch_train.keras import tf

    card = read_card(model)
    serve = tf.saved_model.load(str(model)).signatures["serving_default"]
    right = []
    for photo, image in read_photos(list_splits(photos)["valid"], []):
        pixels = fit(image, card.input.size_hw, policy=card.input.fit)[np.newaxis]
        scores = serve(image=tf.constant(pixels, tf.float32))[card.outputs.class_scores]
        right.append(card.labels[int(scores.numpy().argmax())] == photo.label)
    return float(np.mean(right))


if __name__ == "__main__":
    main()
