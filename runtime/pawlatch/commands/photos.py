"""`pawlatch classify` and `pawlatch evaluate`: a bundle on photos."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.classify import Classifier, Prediction
from pawlatch.commands.arguments import whole
from pawlatch.errors import ImageError, PhotosError
from pawlatch.image import read_image
from pawlatch.photos import Photo, SetAside, list_splits, read_photos
from pawlatch.stats import wilson_interval


def classify(argv: list[str]) -> int:
    if "--imagenet" in argv:  # the training room's: it needs TensorFlow, and says so where there is none
        room = importlib.import_module("pawlatch_train.imagenet_cli")
        return int(room.main([argument for argument in argv if argument != "--imagenet"]))
    parser = _parser("classify", "Every label's percentage, best first, for each photo.")
    parser.epilog = "pawlatch classify --imagenet PATH... needs no bundle: ImageNet's 1,000 classes; see --imagenet --help"
    parser.add_argument("photos", type=Path, nargs="+")
    args = parser.parse_args(argv)
    classifier = Classifier(args.bundle, variant=args.variant, threads=args.threads)
    bad = 0
    for path in args.photos:
        try:
            prediction = classifier(read_image(path))
        except ImageError as error:
            bad += 1
            print(f"pawlatch: {error}", file=sys.stderr)
            continue
        print(json.dumps({"photo": str(path), **_told(prediction)}, ensure_ascii=False) if args.json
              else f"{path}: {_said(prediction)}")
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
    seen = [(photo.label, classifier(image)) for photo, image in read_photos(photos, set_aside)]
    pairs = [(truth, prediction.label) for truth, prediction in seen]
    for item in set_aside:
        print(f"pawlatch: set aside: {item.reason}", file=sys.stderr)
    if not pairs:
        raise PhotosError(f"none of the {len(photos)} photos in {args.photos} can be read; see the lines above")
    result = summarise(pairs, classifier.card.labels, variant=classifier.variant)
    if classifier.card.stranger_statistics(classifier.variant) is not None:
        result["none_of_these"] = none_of_these(seen)
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
    if "none_of_these" in result:
        lines.append('said "none of these" of ' + ", ".join(f"{of['k']} of {of['n']} {label}"
                                                           for label, of in result["none_of_these"].items()))
    return "\n".join(lines)


def none_of_these(seen: Sequence[tuple[str, Prediction]]) -> dict[str, dict[str, int]]:
    """Of how many photos of each true label, `k` of `n`, the embedding was a stranger's."""
    truths = sorted({truth for truth, _ in seen})
    by_label = {label: [prediction.is_stranger for truth, prediction in seen if truth == label] for label in truths}
    return {label: {"k": sum(strange), "n": len(strange)} for label, strange in by_label.items()}


def _said(prediction: Prediction) -> str:
    """Every label's percentage, best first, after "none of these" where it is a stranger."""
    percentages = "  ".join(f"{label} {score:.1%}" for label, score in prediction.ranked())
    return f"none of these  ({percentages})" if prediction.is_stranger else percentages


def _told(prediction: Prediction) -> dict[str, Any]:
    """The same for a program; `stranger` is null where the card has no statistics, or no animal is seen."""
    strange = None if prediction.stranger is None else {"score": prediction.stranger, "is_stranger": prediction.is_stranger}
    return {"label": prediction.label, "scores": {label: round(score, 6) for label, score in prediction.ranked()},
            "stranger": strange}


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
