"""The four situations of transfer learning, and what each means for a training.

Few or many photos, near to what the backbone was trained on or far from it: the rule of thumb of Stanford's CS231n
("Transfer Learning") and of F. Chollet, "Deep Learning with Python". How near is measured, not guessed: by how well a head on
the frozen features tells the labels apart.
"""

from __future__ import annotations

from dataclasses import dataclass

MANY_PHOTOS = 1000
NEAR = 0.75  # of the way from chance to perfect
PHOTO_EPOCHS = 4000  # photos seen in fine-tuning, over all epochs
MANY_RATE = 5e-4  # on flowers right 1 % more often than 3e-4, at width 0.35 as at 1
LEAST_EPOCHS, MOST_EPOCHS = 12, 20


@dataclass(frozen=True)
class Case:
    """What a situation means for fine-tuning: most epochs, their rate, and the sentence that says why."""

    epochs: int
    rate: float
    sentence: str


def choose_case(*, photos: int, labels: int, frozen_accuracy: float, has_seen_little: bool) -> Case:
    """The situation of `photos` that train, where a head on the frozen features recognised `frozen_accuracy` of others.

    `has_seen_little`: the backbone is no ImageNet one, so all of it has to learn, whatever the photos.
    """
    nearness = (frozen_accuracy - 1 / labels) / (1 - 1 / labels)
    many, near = photos >= MANY_PHOTOS, nearness >= NEAR
    epochs = max(LEAST_EPOCHS, min(MOST_EPOCHS, PHOTO_EPOCHS // photos))
    seen = f"{photos} photos are {'many' if many else 'few'}; the frozen features tell {frozen_accuracy:.0%} of others apart"
    if has_seen_little:
        return Case(epochs, 5e-4, f"{seen}, of a backbone that has seen little: all of its layers are fine-tuned")
    if near and many:
        return Case(epochs, MANY_RATE, f"{seen}, so they are near to ImageNet: the upper layers are fine-tuned")
    if near:
        return Case(0, 1e-4, f"{seen}, so they are near to ImageNet: the head alone is trained")
    if many:
        return Case(2 * epochs, 5e-4, f"{seen}, so they are far from ImageNet: the upper layers are fine-tuned long")
    return Case(epochs, 3e-4, f"{seen}, so they are far from ImageNet: the upper layers are fine-tuned")
