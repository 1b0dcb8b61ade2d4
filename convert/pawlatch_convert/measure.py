"""The SavedModel and every variant run on the same photos: what is measured here is what the device will do.

The photos' bytes are decoded by `pawlatch.image`, once, and the files run in the runtime's own `Classifier`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ModelCardError
from pawlatch.image import Image
from pawlatch.quiet import quiet
from pawlatch_convert.compare import Outputs, Scored, Scores
from pawlatch_convert.photoset import Sample
from pawlatch_convert.savedmodel import SavedModel

BATCH = 32  # photos at a time for TensorFlow
AT_ONCE = 2  # variants that run side by side: the slowest, int16x8, keeps but one core busy
REPEATED = 3  # photos that are run again
OTHER_THREADS = (1, 2)  # one of them is not what the classifier has

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (n, k), embeddings (n, d)


def score_photos(model: SavedModel, classifiers: Mapping[str, Classifier], samples: Iterable[Sample]) -> Scored:
    """What the SavedModel and every variant say of every photo (at least one); a variant that fails runs no further."""
    samples = list(samples)
    pixels, labels = [sample.pixels for sample in samples], model.card.labels
    said: dict[str, Pair] = {}
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(AT_ONCE, "variants") as pool:  # engines let go of Python while they compute
        running = {name: pool.submit(_run, classifier, pixels) for name, classifier in classifiers.items()}
        reference = [model.outputs(np.stack(pixels[start : start + BATCH])) for start in range(0, len(pixels), BATCH)]
        for name, result in running.items():
            try:
                said[name] = result.result()
            except (EngineError, ModelCardError) as error:
                failures[name] = f"it does not run: {error}"
    variants: dict[str, Outputs] = {}
    for name, outputs in said.items():
        try:
            variants[name] = _steadied(classifiers[name], pixels[:REPEATED], *outputs)
        except EngineError as error:
            failures[name] = f"it does not run twice: {error}"
    return Scored(
        names=tuple(sample.name for sample in samples),
        true_labels=tuple(sample.photo.label for sample in samples),
        judged=np.array([sample.is_heldout and sample.photo.label in labels for sample in samples], bool),
        reference=Outputs(*_joined(reference)),
        variants=variants,
        failures=failures,
    )


def run_variant(classifier: Classifier, pixels: Sequence[Image]) -> Outputs:
    """What one variant says of fitted photos (at least one).

    Raises:
        EngineError: inference failed.
        ModelCardError: the card's stranger statistics are for another embedding.
    """
    return _steadied(classifier, pixels[:REPEATED], *_run(classifier, pixels))


def _run(classifier: Classifier, pixels: Sequence[Image]) -> Pair:
    predictions = [classifier.predict(fitted) for fitted in pixels]
    return np.stack([said.scores for said in predictions]), np.stack([said.embedding for said in predictions])


def _steadied(classifier: Classifier, first: Sequence[Image], scores: Scores, embeddings: NDArray[np.float32]) -> Outputs:
    """The outputs, with how far the scores of the first photos lie apart when they are run again."""
    with quiet():
        others = [Classifier(classifier.bundle, variant=classifier.variant, threads=threads) for threads in OTHER_THREADS]
    again = [_run(each, first)[0] for each in (classifier, *others)]
    unsteady = max(float(np.abs(one - scores[: len(first)]).max()) for one in again)
    return Outputs(scores, embeddings, unsteady)


def _joined(parts: Sequence[Pair]) -> Pair:
    return np.concatenate([scores for scores, _ in parts]), np.concatenate([embeddings for _, embeddings in parts])
