"""How far a linear head on frozen features reaches: the starter backbone against the ImageNet weights it learnt from.

    python tests/bench/linear_head.py ../shared/data/cats ../shared/data/flowers --teacher WEIGHTS.h5

No augmentation, no fine-tuning: only what the features alone are worth, on each folder's valid/ photos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pawlatch.image import fit
from pawlatch.photos import list_splits, read_photos
from pawlatch.stats import wilson_interval
from pawlatch_train.backbones import open_backbone
from pawlatch_train.keras import keras
from pawlatch_train.weights import STARTER_WIDTH


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--starter", type=Path, help="another starter than the packaged one")
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 160, 224])
    args = parser.parse_args()
    weights = {"starter": str(args.starter or "starter"), "teacher": str(args.teacher), "random": "none"}
    for size in args.sizes:
        keras.utils.set_random_seed(0)
        backbones = {name: open_backbone("mobilenet_v2", weights=origin, width=STARTER_WIDTH, size=size, target="desktop").model
                     for name, origin in weights.items()}
        for folder in args.photos:
            train, valid = (load(folder, split, size) for split in ("train", "valid"))
            for name, backbone in backbones.items():
                right, total = judge(backbone, train, valid)
                low, high = wilson_interval(right, total)
                print(f"{folder.name:<12} {size} px  {name:<8} {right}/{total} = {right / total:.3f} [{low:.3f}, {high:.3f}]", flush=True)


def load(folder, split, size):
    pixels, labels = [], []
    for photo, image in read_photos(list_splits(folder)[split], []):
        pixels.append(fit(image, (size, size)))
        labels.append(photo.label)
    return np.stack(pixels), np.unique(labels, return_inverse=True)[1]


def judge(backbone, train, valid):
    """Held-out photos that a logistic regression on standardised pooled features gets right, of how many."""
    features = [pooled(backbone, pixels) for pixels, _ in (train, valid)]
    mean, deviation = features[0].mean(0), features[0].std(0) + 1e-3
    fitted, judged = ((part - mean) / deviation for part in features)
    keras.utils.set_random_seed(0)
    head = keras.Sequential([keras.layers.Dense(train[1].max() + 1, kernel_regularizer=keras.regularizers.L2(3e-3))])
    head.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    head.fit(fitted, train[1], epochs=60, batch_size=32, verbose=0)
    return int((head.predict(judged, verbose=0).argmax(1) == valid[1]).sum()), len(valid[1])


def pooled(backbone, pixels):
    batches = (pixels[i : i + 64].astype(np.float32) for i in range(0, len(pixels), 64))
    return np.concatenate([backbone.predict_on_batch(batch).mean((1, 2)) for batch in batches])


if __name__ == "__main__":
    main()
