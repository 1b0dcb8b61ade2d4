"""Photos with known labels and what the model said of them: what the report counts, and shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pawlatch.stats import wilson_interval


@dataclass(frozen=True, eq=False)
class Judged:
    """n photos that a model judged.

    `names` are paths relative to the photos, `images` (n, H, W, 3) uint8 RGB as the model saw them, `targets` (n,) indices
    into `labels`, `scores` and `raw_scores` (n, labels) float32 softmax with and without the temperature, `groups` (n,):
    photos of one number are near-duplicates, one moment. `source` says why they may be counted: "held-out photos that chose
    nothing" or "out-of-fold predictions".

    Raises:
        ValueError: the lengths differ.
    """

    labels: tuple[str, ...]
    names: Sequence[str]
    images: NDArray[np.uint8]
    targets: NDArray[np.integer]
    scores: NDArray[np.float32]
    raw_scores: NDArray[np.float32]
    groups: NDArray[np.integer]
    source: str

    def __post_init__(self) -> None:
        lengths = {name: len(getattr(self, name)) for name in ("names", "images", "targets", "scores", "raw_scores", "groups")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"expected as many of each, got {lengths}")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def predicted(self) -> NDArray[np.intp]:
        return np.asarray(self.scores.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float32]:
        """The score of what was predicted."""
        return np.asarray(self.scores.max(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.predicted == self.targets)

    def share_right(self, chosen: NDArray[np.bool_] | None = None) -> Share:
        """The share of (chosen) photos that were recognised."""
        right = self.right if chosen is None else self.right[chosen]
        groups = self.groups if chosen is None else self.groups[chosen]
        return Share(int(right.sum()), len(right), len(np.unique(groups)))

    def confusion(self) -> NDArray[np.int64]:
        """Counts (labels, labels): rows truth, columns prediction."""
        table = np.zeros((len(self.labels), len(self.labels)), np.int64)
        np.add.at(table, (self.targets, self.predicted), 1)
        return table

    def worst(self, most: int) -> list[int]:
        """Indices of the wrong ones, the most confident first."""
        wrong = np.flatnonzero(~self.right)
        return [int(i) for i in wrong[np.argsort(-self.confidence[wrong], kind="stable")][:most]]

    def sample(self, most: int, *, seed: int = 0) -> list[int]:
        """Indices of a seeded choice that takes from each label in turn, in the order of the labels."""
        order = np.random.default_rng(seed).permutation(len(self))
        rank = np.empty(len(self), np.int64)  # the how-manieth of its label
        for label in range(len(self.labels)):
            own = order[self.targets[order] == label]
            rank[own] = np.arange(len(own))
        chosen = order[np.argsort(rank[order], kind="stable")][:most]
        return [int(i) for i in sorted(chosen, key=lambda i: (self.targets[i], rank[i]))]

    def label_rows(self) -> list[LabelRow]:
        """One row a label, in their order."""
        table = self.confusion()
        return [
            LabelRow(label, self.share_right(self.targets == i), int(table[i, i]), int(table[:, i].sum()))
            for i, label in enumerate(self.labels)
        ]


@dataclass(frozen=True)
class Share:
    """`k` of `n` photos, of `groups` moments."""

    k: int
    n: int
    groups: int

    @property
    def value(self) -> float:
        """k / n, NaN of nothing."""
        return self.k / self.n if self.n else float("nan")

    def interval(self, *, more: int = 0) -> tuple[float, float]:
        """Wilson's 95 % interval of the share as if each moment were one photo, and `more` moments came at the same share.

        Near-duplicates are right or wrong together, so a burst of ten tells no more than one of them: n is the number of
        moments, the worst case of the effective sample size, and k the share of it, which need not be whole.
        """
        if not self.n:
            return wilson_interval(0, 0)
        moments = self.groups + more
        return wilson_interval(self.value * moments, moments)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LabelRow:
    """How one label fared: `hits` of the `claimed` photos that were given this label have it."""

    label: str
    recall: Share
    hits: int
    claimed: int
