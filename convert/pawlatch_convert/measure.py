"""The SavedModel and every variant run on the same photos: what is measured here is what the device will do.

The photos' bytes are decoded by `pawlatch.image`, once, and the files run in the runtime's own `Classifier`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from time import perf_counter

import numpy as np

from pawlatch.classify import Classifier
from pawlatch.errors import EngineError
from pawlatch.image import Image
from pawlatch_convert.parity import Scored, Scores
from pawlatch_convert.photoset import Sample
from pawlatch_convert.savedmodel import SavedModel

BATCH = 32  # photos in memory at a time
WARM_UP = 5  # the first inferences set up caches and threads
RUNS = 40


def score_photos(model: SavedModel, classifiers: Mapping[str, Classifier], samples: Iterable[Sample]) -> Scored:
    """Scores of every photo (at least one) by the SavedModel and by every variant; one that fails runs no further."""
    labels = model.card.labels
    names: list[str] = []
    true_labels: list[str] = []
    judged: list[bool] = []
    reference: list[Scores] = []
    running = dict(classifiers)
    scores: dict[str, list[Scores]] = {name: [] for name in running}
    failures: dict[str, str] = {}
    for batch in _batches(samples):
        pixels = [sample.pixels for sample in batch]
        names += [sample.name for sample in batch]
        true_labels += [sample.photo.label for sample in batch]
        judged += [sample.is_heldout and sample.photo.label in labels for sample in batch]
        reference.append(model.scores(np.stack(pixels)))
        for name in list(running):
            try:
                scores[name].append(np.stack([running[name].predict(fitted).scores for fitted in pixels]))
            except EngineError as error:
                failures[name] = f"it does not run: {error}"
                del running[name]
    return Scored(
        names=tuple(names),
        true_labels=tuple(true_labels),
        judged=np.array(judged, bool),
        reference=np.concatenate(reference),
        variants={name: np.concatenate(scores[name]) for name in running},
        failures=failures,
    )


def measure_latency(classifier: Classifier, fitted_rgb: Image) -> tuple[float, float]:
    """Median and 95th percentile of one inference, in ms, on this machine."""
    times_ms = []
    for _ in range(WARM_UP + RUNS):
        start = perf_counter()
        classifier.predict(fitted_rgb)
        times_ms.append((perf_counter() - start) * 1e3)
    p50, p95 = np.percentile(times_ms[WARM_UP:], [50, 95])
    return float(p50), float(p95)


def _batches(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
