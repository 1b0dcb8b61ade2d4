"""What the device tests itself with: a few held-out photos, byte for byte, and what every file of the bundle says of them."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch import __version__
from pawlatch.card import SAVED_MODEL, ModelCard
from pawlatch.classify import Classifier
from pawlatch.quiet import quiet
from pawlatch.selftest import FOLDER, name_of, pixels_sha256
from pawlatch_convert.compare import Scored, Scores, decides, unlock_scores
from pawlatch_convert.photoset import Sample

MOST_PHOTOS = 8
MOST_BYTES = 6_000_000  # of all of them; one photo is taken however large it is
STEADY = 0.05  # of a score: photos nearer to another label or to the threshold say little about a machine
LIBRARIES = {"opencv": "cv2", "ai_edge_litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}


def add_selftest(card: ModelCard, staged: Path, edge: Path, samples: Sequence[Sample], scored: Scored) -> ModelCard:
    """Write `staged/selftest/` for a bundle's card; its files are in `staged`, or in `edge` where they are kept from before.

    Returns:
        The card, which vouches for the self-test by its hash.
    """
    folder = staged / FOLDER
    folder.mkdir()
    chosen = choose(samples, scored, card)
    expected = {
        "made_with": {"pawlatch": __version__, **_libraries(), "machine": platform.machine()},
        "photos": [
            {"file": _copied(samples[index].photo.path, folder), "label": samples[index].photo.label,
             "pixels_sha256": pixels_sha256(samples[index].pixels)}
            for index in chosen
        ],
        "variants": {name: _answers(card, name, edge, [samples[index] for index in chosen], scored, chosen)
                     for name in card.files},
    }
    data = json.dumps(expected, indent=1, ensure_ascii=False).encode()
    digest = sha256(data).hexdigest()
    (folder / name_of(digest)).write_bytes(data)
    return replace(card, parity={**card.parity, FOLDER: digest})


def choose(samples: Sequence[Sample], scored: Scored, card: ModelCard) -> list[int]:
    """Indices of held-out photos, labels in turn, those that unlock first; steady ones before others, and small ones first."""
    unsteady = _unsteady(scored, card)
    sizes = [sample.photo.path.stat().st_size for sample in samples]
    labels = sorted(card.labels, key=lambda label: label not in card.unlock)
    ranked = [
        sorted((index for index, sample in enumerate(samples) if sample.photo.label == label and scored.judged[index]),
               key=lambda index: (unsteady[index], sizes[index]))
        for label in labels
    ]
    chosen: list[int] = []
    for index in chain.from_iterable(zip_longest(*(each[:2] for each in ranked))):
        if index is not None and (not chosen or sum(sizes[i] for i in chosen) + sizes[index] <= MOST_BYTES):
            chosen.append(index)
    return chosen[:MOST_PHOTOS]


def _unsteady(scored: Scored, card: ModelCard) -> list[bool]:
    """Of each photo, whether any file's decision on it is a close one."""
    close = np.zeros(len(scored.names), bool)
    for scores in (scored.reference.scores, *(outputs.scores for outputs in scored.variants.values())):
        best = np.sort(scores, axis=1)
        close |= best[:, -1] - best[:, -2] < STEADY
        if decides(card):
            close |= np.abs(unlock_scores(scores, card) - card.threshold(SAVED_MODEL)) < STEADY
    return [bool(is_close) for is_close in close]


def _answers(card: ModelCard, name: str, edge: Path, photos: Sequence[Sample], scored: Scored,
             chosen: Sequence[int]) -> dict[str, Any]:
    """A file's scores of the chosen photos; of one that is kept from an earlier conversion, measured now."""
    ran = scored.variants.get(name)
    scores = ran.scores[list(chosen)] if ran else _scores_of(edge, name, photos)
    return {"exact": _is_exact(card, name), "scores": scores.astype(np.float64).tolist()}


def _scores_of(edge: Path, name: str, photos: Sequence[Sample]) -> Scores:
    with quiet():
        classifier = Classifier(edge, variant=name)
    return np.stack([classifier.predict(sample.pixels).scores for sample in photos])


def _is_exact(card: ModelCard, name: str) -> bool:
    """Whether the same bits are promised on every machine: int8 in TFLite, with every operator integer."""
    share: Mapping[str, Any] = card.parity.get(name, {})
    return card.files[name].format == "tflite" and card.files[name].precision == "int8" and share.get("integer_share") == 1


def _copied(path: Path, folder: Path) -> str:
    """The photo's bytes under a name that they give it."""
    data = path.read_bytes()
    name = f"{sha256(data).hexdigest()[:16]}{path.suffix.lower()}"
    (folder / name).write_bytes(data)
    return name


def _libraries() -> dict[str, str]:
    """The versions of what computed: the engines are loaded by now."""
    return {name: str(sys.modules[module].__version__) for name, module in LIBRARIES.items() if module in sys.modules}
