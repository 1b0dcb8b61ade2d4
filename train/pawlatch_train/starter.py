"""Train the starter backbone: MobileNetV2 width 0.35 from scratch, by distilling a teacher's features.

    python -m pawlatch_train.starter --photos DIR [DIR ...] --teacher WEIGHTS.h5 -o starter.npz

The student never sees a label. It learns to give the teacher's features on heavily augmented photos and drawn scenes;
teacher and student see the very same pixels, mixed ones too, for as long as the time allows, as in Beyer et al. 2022,
"Knowledge distillation: a good teacher is patient and consistent" (arXiv:2106.05237). Hints at the bottlenecks below
(Romero et al. 2015, "FitNets", arXiv:1412.6550) make the short time suffice.
"""

from __future__ import annotations

import argparse
import queue
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch import scene
from pawlatch.image import Image, fit
from pawlatch.photos import SetAside, list_splits, read_photos
from pawlatch_train.augment import HEAVY, augment
from pawlatch_train.backbones import open_backbone
from pawlatch_train.keras import keras, tf
from pawlatch_train.weights import STARTER_SIZE, STARTER_WIDTH, save_npz

SOURCE_SIDE = 192  # photos are kept at this side, so that zoomed crops have pixels to show
BATCH = 64
PEAK_RATE = 3e-3
HINTS = ("block_2_add", "block_5_add", "block_9_add", "block_12_add", "block_15_add", "block_16_project_BN")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pawlatch_train.starter", description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", type=Path, required=True,
                        help="folders of photos; only train/ is read where there are splits")
    parser.add_argument("--teacher", type=Path, required=True, help="ImageNet weights of width 0.35, without their top")
    parser.add_argument("--scenes", type=int, default=1500, help="how many drawn scenes to add")
    parser.add_argument("--minutes", type=float, default=38.0, help="the learning rate falls to zero in this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(argv)

    images = load_pictures(args.photos, scenes=args.scenes, seed=args.seed)
    print(f"{len(images)} pictures", file=sys.stderr)
    keras.utils.set_random_seed(args.seed)
    teacher, student = (
        open_backbone("mobilenet_v2", weights=weights, width=STARTER_WIDTH, size=STARTER_SIZE, target="desktop").model
        for weights in (str(args.teacher), "none")
    )
    distil(student, teacher, images, minutes=args.minutes, seed=args.seed)
    save_npz(student, args.output)
    print(f"{args.output}: {args.output.stat().st_size / 1e6:.2f} MB", file=sys.stderr)
    return 0


def load_pictures(folders: list[Path], *, scenes: int, seed: int) -> list[Image]:
    """Every training photo of the folders, and drawn scenes, as squares of `SOURCE_SIDE`."""
    set_aside: list[SetAside] = []
    side_hw = (SOURCE_SIDE, SOURCE_SIDE)
    images = []
    for folder in folders:
        splits = list_splits(folder)
        for _, image in read_photos(splits.get("train", splits.get("", [])), set_aside):
            images.append(fit(image, side_hw, policy="center_crop"))
    rng = np.random.default_rng(seed)
    for i in range(scenes):
        who = (scene.OWN, scene.OTHER, scene.OTHER, scene.CAT, scene.EMPTY)[i % 5]
        picture = scene.draw(rng, who, light=scene.LIGHTS[i % len(scene.LIGHTS)], size_hw=(240, 320))
        images.append(fit(picture, side_hw, policy="center_crop"))
    return images


def distil(student: Any, teacher: Any, images: list[Image], *, minutes: float, seed: int) -> None:
    """Fit the student's features, pooled and as maps, and the hints below them to the teacher's until the time is over."""
    optimizer = keras.optimizers.AdamW(learning_rate=0.0, weight_decay=1e-4, clipnorm=5.0)
    optimizer.build(student.trainable_variables)
    batches = prefetch(variations(images, seed=seed))
    student_taps, teacher_taps = tapped(student), tapped(teacher)
    scales = feature_scales(teacher_taps, np.concatenate([next(batches) for _ in range(10)]))

    @tf.function  # type: ignore[untyped-decorator]
    def step(pixels: Any, rate: Any) -> Any:
        values = tf.cast(pixels, tf.float32)
        targets = teacher_taps(values, training=False)
        with tf.GradientTape() as tape:
            errors = [
                tf.reduce_mean(((guess - target) / scale) ** 2)
                for guess, target, scale in zip(student_taps(values, training=True), targets, scales, strict=True)
            ]
            loss = errors[-1] + 0.25 * tf.add_n(errors[:-1])  # the pooled features are what is wanted
        optimizer.learning_rate.assign(rate)
        gradients = tape.gradient(loss, student.trainable_variables)
        optimizer.apply_gradients(zip(gradients, student.trainable_variables, strict=True))
        return errors[-1]

    start, steps, smoothed = time.monotonic(), 0, 1.0
    while (progress := (time.monotonic() - start) / (60 * minutes)) < 1.0:
        warm = min(1.0, (steps + 1) / 200)
        rate = PEAK_RATE * warm * 0.5 * (1 + np.cos(np.pi * progress))
        smoothed += 0.02 * (float(step(tf.constant(next(batches)), tf.constant(rate, tf.float32))) - smoothed)
        steps += 1
        if steps % 100 == 0:
            print(f"{progress:4.0%}  step {steps}  unexplained variance {smoothed:.3f}", file=sys.stderr, flush=True)


def tapped(backbone: Any) -> Any:
    """The backbone with its hints, its maps and, last, its pooled features as outputs."""
    maps = [backbone.get_layer(name).output for name in HINTS] + [backbone.output]
    return keras.Model(backbone.input, [*maps, tf.reduce_mean(backbone.output, (1, 2))])


def feature_scales(taps: Any, pixels: NDArray[np.uint8]) -> list[Any]:
    """Per-channel standard deviations of each of the teacher's outputs, so that each channel counts alike."""
    outputs = taps.predict(tf.cast(pixels, tf.float32), verbose=0)
    deviations = [tf.math.reduce_std(output, range(len(output.shape) - 1)) for output in outputs]
    return [deviation + 0.1 * tf.reduce_mean(deviation) for deviation in deviations]


def variations(images: list[Image], *, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Endless batches (BATCH, side, side, 3), uint8, of heavily augmented pictures; half of each batch is mixed in pairs."""
    rng = np.random.default_rng(seed)
    size_hw = (STARTER_SIZE, STARTER_SIZE)
    while True:
        chosen = rng.integers(0, len(images), BATCH)
        batch = np.stack([augment(images[i], rng, size_hw=size_hw, how=HEAVY) for i in chosen])
        half = batch[: BATCH // 2].astype(np.float32)
        share = rng.uniform(0, 0.5, (len(half), 1, 1, 1)).astype(np.float32)
        batch[: BATCH // 2] = half * (1 - share) + half[::-1] * share
        yield batch


def prefetch(batches: Iterator[NDArray[np.uint8]], *, depth: int = 4) -> Iterator[NDArray[np.uint8]]:
    """Draw batches in a thread of their own, a few ahead."""
    ready: queue.Queue[NDArray[np.uint8]] = queue.Queue(depth)

    def work() -> None:
        for batch in batches:
            ready.put(batch)

    threading.Thread(target=work, name="variations", daemon=True).start()
    while True:
        yield ready.get()


if __name__ == "__main__":
    raise SystemExit(main())
