"""The operating point for frames by infra-red light, measured on photos turned grey as the camera's lamp would show them.

A camera's night pictures are rarely at hand when a model is trained. What is: this room's own augmentation, which turns a photo
grey, lights it by one lamp and adds grain. The photos that choose choose the night's threshold and temperature, the held-out
ones count them, as by day. Where a head was fitted again to the photos that choose, they flatter a little; those that count
never do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch_train.augment import NONE, augment
from pawlatch_train.calibrate import fit_temperature
from pawlatch_train.operating import ChosenOn, Ints, OperatingPoint, choose_threshold, measure

MOST_PHOTOS = 500  # of those that choose and of those that count
NIGHT = replace(NONE, grey=1.0)
LEAST_SCORE = 1e-12

Score = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]  # fitted pixels (n, H, W, 3) -> calibrated scores (n, labels)


@dataclass(frozen=True, eq=False)
class Lit:
    """Photos as the model sees them, `images` (n, H, W, 3) uint8 RGB, with their labels' indices and moments (n,)."""

    images: NDArray[np.uint8]
    targets: Ints
    groups: Ints


def turned(images: NDArray[np.uint8], *, seed: int) -> NDArray[np.uint8]:
    """Each picture by infra-red light, seeded: (n, H, W, 3) uint8."""
    return np.stack([
        augment(image, np.random.default_rng([seed, index]), size_hw=(image.shape[0], image.shape[1]), how=NIGHT)
        for index, image in enumerate(images)
    ]) if len(images) else images


def infrared_point(choose: Lit, judge: Lit, score: Score, *, labels: Sequence[str], unlock: Sequence[int],
                   max_false_unlock: float, seed: int) -> dict[str, Any]:
    """What the card keeps of the night: `threshold`, `temperature` (at least 1, on top of the model's own), and the counts.

    Without photos to judge by, those that choose are counted, and there is no bound. Empty without any photos.
    """
    if not len(choose.images):
        return {}
    scores = np.asarray(score(turned(choose.images, seed=seed)), np.float64)
    temperature = max(1.0, fit_temperature(np.log(np.maximum(scores, LEAST_SCORE)), choose.targets))
    threshold = choose_threshold(scores, choose.targets, labels=labels, unlock=unlock, max_false_unlock=max_false_unlock,
                                 groups=choose.groups)
    chosen_on: ChosenOn = "choose"
    if not len(judge.images):
        judge, judged, chosen_on = choose, scores, "these photos"
    else:
        judged = np.asarray(score(turned(judge.images, seed=seed + 1)), np.float64)
    point = measure(judged, judge.targets, labels=labels, unlock=unlock, threshold=threshold,
                    max_false_unlock=max_false_unlock, chosen_on=chosen_on, groups=judge.groups)
    return _for_card(point, temperature)


def _for_card(point: OperatingPoint, temperature: float) -> dict[str, Any]:
    kept = point.for_card()
    counts = ("threshold", "chosen_on", "false_unlocks", "strangers_n", "false_unlock_upper_95", "lock_outs", "own_n",
              "lock_out_upper_95")
    return {**{name: kept[name] for name in counts}, "temperature": temperature,
            "counted_in": "moments of photos turned infra-red", "sentence": f"by infra-red light {point.sentences[0]}; "
            f"{point.sentences[1]}"}
