"""`pawlatch classify` and `pawlatch evaluate`: a bundle on photos."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.classify import Classifier
from pawlatch.commands.arguments import whole
from pawlatch.errors import ImageError, PhotosError
from pawlatch.image import read_image
from pawlatch.photos import Photo, SetAside, list_splits, read_photos
from pawlatch.stats import wilson_interval


def classify(argv: list[str]) -> int:
    parser = _parser("classify", "Every label's percentage, best first, for each photo.")
    parser.add_argument("photos", type=Path, nargs="+")
    args = parser.parse_args(argv)
    classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
    bad = 0
    for path in args.photos:
        try:
            ranked = classifier(read_image(path)).ranked()
        except ImageError as error:
            bad += 1
            print(f"pawlatch: {error}", file=sys.stderr)
            continue
        if args.json:
            scores = {label: round(score, 6) for label, score in ranked}
            print(json.dumps({"photo": str(path), "label": ranked[0][0], "scores": scores}, ensure_ascii=False))
        else:
            print(f"{path}: " + "  ".join(f"{label} {score:.1%}" for label, score in ranked))
    return 2 if bad else 0


def evaluate(argv: list[str]) -> int:
    parser = _parser("evaluate", "Accuracy on labelled photos: on the test split where there is one, else valid, else all.")
    parser.add_argument("photos", type=Path, help="photos/<label>/* or photos/{train,valid,test}/<label>/*")
    args = parser.parse_args(argv)
    classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
    photos = _measured_split(args.photos)
    if strange := {photo.label for photo in photos} - set(classifier.card.labels):
        raise PhotosError(
            f"{args.photos} has labels the model does not know: {', '.join(sorted(strange))}; "
            f"it knows {', '.join(classifier.card.labels)}"
        )
    set_aside: list[SetAside] = []
    pairs = [
        (photo.label, classifier(image).label) for photo, image in read_photos(photos, set_aside)
    ]
    for item in set_aside:
        print(f"pawlatch: set aside: {item.reason}", file=sys.stderr)
    if not pairs:
        raise PhotosError(f"none of the {len(photos)} photos in {args.photos} can be read; see the lines above")
    result = summarise(pairs, classifier.card.labels, variant=classifier.variant)
    print(json.dumps(result, ensure_ascii=False) if args.json else render(result))
    return 0


def summarise(pairs: Sequence[tuple[str, str]], labels: Sequence[str], *, variant: str) -> dict[str, Any]:
    """Accuracy, its 95 % Wilson interval, and the confusion matrix (rows truth) of (truth, prediction) pairs."""
    confusion = np.zeros((len(labels), len(labels)), np.int64)
    for truth, predicted in pairs:
        confusion[labels.index(truth), labels.index(predicted)] += 1
    right, total = int(confusion.trace()), len(pairs)
    per_label = {
        label: {"n": int(row.sum()), "right": int(row[i]), "accuracy": float(row[i] / row.sum()) if row.sum() else None}
        for i, (label, row) in enumerate(zip(labels, confusion, strict=True))
    }
    return {
        "variant": variant, "accuracy": right / total, "n": total, "interval_95": list(wilson_interval(right, total)),
        "labels": list(labels), "per_label": per_label, "confusion": confusion.tolist(),
    }


def render(result: dict[str, Any]) -> str:
    """The same for a person."""
    low, high = result["interval_95"]
    lines = [f"{result['variant']}: {result['accuracy']:.3f} on {result['n']} photos (95 % interval {low:.3f} to {high:.3f})"]
    for label, row in zip(result["labels"], result["confusion"], strict=True):
        counts = zip(result["labels"], row, strict=True)
        others = ", ".join(f"{count} as {name}" for name, count in counts if count and name != label)
        entry = result["per_label"][label]
        lines.append(f"  {label:<16} {entry['right']:>4} of {entry['n']:<4}" + (f" ({others})" if others else ""))
    return "\n".join(lines)


def _measured_split(folder: Path) -> list[Photo]:
    splits = list_splits(folder)
    return next(splits[name] for name in ("test", "valid", "", "train") if name in splits)


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"pawlatch {name}", description=description)
    parser.add_argument("bundle", type=Path, help="the folder model/edge (or model/)")
    parser.add_argument("--variant", help="which converted file; default: the one the card deploys")
    parser.add_argument("--threads", type=whole, default=2)
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    return parser
