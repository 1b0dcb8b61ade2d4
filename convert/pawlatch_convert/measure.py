"""The SavedModel and every variant run on the same photos: what is measured here is what the device will do.

The photos' bytes are decoded by `pawlatch.image`, once, and the files run in the runtime's own `Classifier`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pawlatch.classify import Classifier
from pawlatch.errors import EngineError, ModelCardError
from pawlatch.image import Image
from pawlatch.quiet import quiet
from pawlatch_convert.compare import Outputs, Scored, Scores
from pawlatch_convert.photoset import Sample
from pawlatch_convert.savedmodel import SavedModel

BATCH = 32  # photos in memory at a time
REPEATED = 3  # photos that are run again
OTHER_THREADS = (1, 2)  # one of them is not what the classifier has

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]  # scores (n, k), embeddings (n, d)


def score_photos(model: SavedModel, classifiers: Mapping[str, Classifier], samples: Iterable[Sample]) -> Scored:
    """What the SavedModel and every variant say of every photo (at least one); a variant that fails runs no further."""
    names: list[str] = []
    true_labels: list[str] = []
    judged: list[bool] = []
    reference: list[Pair] = []
    running = dict(classifiers)
    said: dict[str, list[Pair]] = defaultdict(list)
    failures: dict[str, str] = {}
    first: list[Image] = []
    for batch in _batches(samples):
        pixels = [sample.pixels for sample in batch]
        first = first or pixels[:REPEATED]
        names += [sample.name for sample in batch]
        true_labels += [sample.photo.label for sample in batch]
        judged += [sample.is_heldout and sample.photo.label in model.card.labels for sample in batch]
        reference.append(model.outputs(np.stack(pixels)))
        for name in list(running):
            try:
                said[name].append(_run(running[name], pixels))
            except (EngineError, ModelCardError) as error:
                failures[name] = f"it does not run: {error}"
                del running[name]
    variants: dict[str, Outputs] = {}
    for name, classifier in running.items():
        try:
            variants[name] = _steadied(classifier, first, *_joined(said[name]))
        except EngineError as error:
            failures[name] = f"it does not run twice: {error}"
    return Scored(
        names=tuple(names),
        true_labels=tuple(true_labels),
        judged=np.array(judged, bool),
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


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
