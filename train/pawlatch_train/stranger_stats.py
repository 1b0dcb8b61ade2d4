"""What the card keeps to know a stranger by, the threshold for it, and the proof: each label left out in turn.

The statistics are those of `pawlatch.strangers`, fitted here: of each label, the directions that hold most of its photos'
embeddings. Augmented views of the photos make them say more of the animal and less of the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.photos import EMPTY, OTHER, RESERVED
from pawlatch.strangers import INT8_MAX, StrangerModel, compressed
from pawlatch_train.calibrate import softmax

MOST_DIRECTIONS = 24  # of a label; 16 tell a left-out one of five cats with an AUROC lower by 0.006
MOST_BYTES = 160_000  # of all directions: 213 kB of base64
MAX_REFUSED = 0.02  # of known moments, single photos; of 5 % that were chosen, up to 18 % came of photos from other days
ENOUGH_TO_REFUSE = 20  # known moments; a threshold from fewer, say the frames of one clip, refuses the animal itself
LEAST_THRESHOLD = 0.15  # frames of one clip lie within 0.03 of each other, the same dog a moment later at 0.08, others at 0.5
ENOUGH_TO_CHOOSE = 40  # known moments, so that 5 % of them are two
FOLDS = 5
WEIGHT_DECAY = 1e-2  # of the cheap head

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Scores = Callable[[Floats], NDArray[np.float64]]  # embeddings (n, d) -> one number each, or (n, k)


@dataclass(frozen=True, eq=False)
class Embedded:
    """Embeddings (n, d) of photos with their label's index (n,) and their moment (n,), numbered alike in all sets.

    `views` (v, n, d) are the embeddings of v augmented views of the same photos, or None.

    Raises:
        ValueError: the lengths differ.
    """

    embeddings: Floats
    targets: Ints
    groups: Ints
    views: Floats | None = None

    def __post_init__(self) -> None:
        n = len(self.embeddings)
        if len(self.targets) != n or len(self.groups) != n or (self.views is not None and self.views.shape[1] != n):
            raise ValueError(f"expected targets, groups and views of {n} photos")

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Embedded:
        views = None if self.views is None else self.views[:, chosen]
        return Embedded(self.embeddings[chosen], self.targets[chosen], self.groups[chosen], views)

    def of(self, label: int) -> NDArray[np.bool_]:
        """Which photos are of a label."""
        return np.asarray(self.targets == label)


@dataclass(frozen=True)
class LeftOut:
    """AUROC of known animals against one that was left out: by the statistics, and by the maximum softmax.

    `auroc_max_softmax` is None where fewer than two labels were left to tell apart.
    """

    label: str
    known_n: int
    strangers_n: int
    auroc: float
    auroc_max_softmax: float | None


def fit_strangers(photos: Embedded, labels: Sequence[str], *, threshold: float = 1.0) -> StrangerModel:
    """The directions of every label but the empty place.

    Of each label those of the largest singular values of its compressed embeddings, not centred, at most half as many as it
    has photos, 24, and its share of 160 kB; kept as int8.

    Raises:
        ValueError: there is no photo of a named label.
    """
    kept = [i for i, label in enumerate(labels) if label != EMPTY and photos.of(i).any()]
    if all(labels[i] == OTHER for i in kept):
        raise ValueError("stranger statistics need photos of at least one named label")
    most = max(1, min(MOST_DIRECTIONS, MOST_BYTES // (len(kept) * photos.embeddings.shape[1])))
    bases = [_directions(photos[photos.of(i)], most) for i in kept]
    rows = np.concatenate(bases)
    scale = np.maximum(np.abs(rows).max(axis=1), 1e-12) / INT8_MAX
    return StrangerModel(
        tuple(labels[i] for i in kept), tuple(len(basis) for basis in bases),
        np.rint(rows / scale[:, np.newaxis]).astype(np.int8), scale.astype(np.float32), threshold,
    )


def stranger_threshold(scores: NDArray[np.float64], groups: Ints, *, max_refused: float = MAX_REFUSED) -> float:
    """The lowest threshold that refuses at most `max_refused` of the known moments whose photos have `scores` (n,).

    They must not be photos the statistics were fitted on. A moment counts by the mean of its photos. With fewer than 20
    moments it is the strangest of them.

    Raises:
        ValueError: there is no score.
    """
    if not len(scores):
        raise ValueError("a stranger threshold needs scores of known photos")
    means = np.sort([scores[groups == group].mean() for group in np.unique(groups)])[::-1]
    return float(means[int(max_refused * len(means) + 1e-9)])


def stranger_model(photos: Embedded, labels: Sequence[str], *, choose: Embedded | None = None,
                   max_refused: float = MAX_REFUSED) -> StrangerModel | None:
    """Statistics with their threshold, ready for the card; None where there are fewer than 20 known moments to choose it by.

    The threshold is chosen by the known photos of `choose`; where those are fewer than 40 moments, by out-of-fold scores of
    `photos` as well, which are a little too kind where the backbone was fine-tuned on them.

    Raises:
        ValueError: as `fit_strangers`.
    """
    model = fit_strangers(photos, labels)
    parts: list[tuple[NDArray[np.float64], Ints]] = [(np.zeros(0), np.zeros(0, np.int64))]
    if choose is not None:
        known = choose[is_named(choose.targets, labels)]
        parts.append((model.scores(known.embeddings), known.groups))
    if len(np.unique(parts[-1][1])) < ENOUGH_TO_CHOOSE:
        parts.append(out_of_fold(photos, labels))
    scores, groups = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    if len(np.unique(groups)) < ENOUGH_TO_REFUSE:
        return None
    chosen = stranger_threshold(scores, groups, max_refused=max_refused)
    return replace(model, threshold=float(np.clip(chosen, LEAST_THRESHOLD, 1.999)))


def out_of_fold(photos: Embedded, labels: Sequence[str]) -> tuple[NDArray[np.float64], Ints]:
    """Scores and groups of the named labels' photos, each by the statistics of the other folds; both empty of one moment."""
    known = is_named(photos.targets, labels)
    scores = np.full(len(photos), np.nan)
    for here in _folds(photos.groups):
        if is_named(photos.targets[~here], labels).any():
            scores[here & known] = fit_strangers(photos[~here], labels).scores(photos.embeddings[here & known])
    told = np.isfinite(scores)
    return scores[told], photos.groups[told]


def leave_one_label_out(photos: Embedded, labels: Sequence[str], *, known: Embedded | None = None) -> list[LeftOut]:
    """Each label as a stranger: the statistics and a cheap head are redone without it, the embedding is not.

    An embedding that was fine-tuned on the label left out knows it better than a real stranger: this flatters.

    Known are the named photos of `known` (held-out ones) or, where it is None, those of `photos` by the other folds; strangers
    are all photos of the label left out. Labels that leave no named one are passed over.
    """
    rows = []
    for i, label in enumerate(labels):
        rest = photos[~photos.of(i)]
        if label == EMPTY or not photos.of(i).any() or not is_named(rest.targets, labels).any():
            continue
        strangers = [photos.embeddings[photos.of(i)]]
        if known is not None:
            strangers.append(known.embeddings[known.of(i)])
            pairs = [(rest, known[~known.of(i) & is_named(known.targets, labels)])]
        else:
            pairs = [(rest[~here], rest[here & is_named(rest.targets, labels)]) for here in _folds(rest.groups)]
        if row := _left_out(label, labels, pairs, np.concatenate(strangers)):
            rows.append(row)
    return rows


def auroc(known: NDArray[np.float64], strangers: NDArray[np.float64]) -> float:
    """The chance that a stranger scores above a known one, a tie counting half: 1 is perfect, 0.5 a coin; NaN of none.

    (Σ ranks of strangers − m(m+1)/2) / (m·n) with mean ranks for ties.

    Source: H. B. Mann and D. R. Whitney, Ann. Math. Statist. 18 (1947) 50-60; as the area under the ROC curve, J. A. Hanley
    and B. J. McNeil, Radiology 143 (1982) 29-36.
    """
    n, m = len(known), len(strangers)
    if not n or not m:
        return float("nan")
    _, where, counts = np.unique(np.concatenate([known, strangers]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[where]
    return float((ranks[n:].sum() - m * (m + 1) / 2) / (m * n))


def fit_head(embeddings: Floats, targets: Ints, *, steps: int = 150) -> Scores:
    """Multinomial logistic regression, each label weighted alike: embeddings (n, d) to logits (n, labels that occur).

    Centred, brought to a mean square length of 1, L2 of 0.01, and so many steps of accelerated gradient descent with the rate
    1/L, where L = λ_max(Σ wᵢ xᵢxᵢᵀ)/2 + 0.01 bounds the curvature. Deterministic.

    Source: Y. Nesterov, Soviet Math. Dokl. 27 (1983) 372-376; D. Böhning, Ann. Inst. Statist. Math. 44 (1992) 197-200.
    """
    x = np.asarray(embeddings, np.float64)
    centre = x.mean(axis=0)
    size = max(float(np.sqrt(((x - centre) ** 2).sum(axis=1).mean())), 1e-12)

    def scaled(values: Floats) -> NDArray[np.float64]:
        return np.column_stack([(values - centre) / size, np.ones(len(values))])

    x = scaled(x)
    truth = (targets[:, np.newaxis] == np.unique(targets)).astype(np.float64)
    weights = (truth / truth.sum(axis=0)).sum(axis=1, keepdims=True) / truth.shape[1]
    decay = np.full((x.shape[1], 1), WEIGHT_DECAY)
    decay[-1] = 0.0  # not the bias
    weighted = x * np.sqrt(weights)
    small = weighted @ weighted.T if len(x) < x.shape[1] else weighted.T @ weighted
    curvature = float(np.linalg.eigvalsh(small)[-1]) / 2 + WEIGHT_DECAY
    now = ahead = np.zeros((x.shape[1], truth.shape[1]))
    for step in range(steps):
        gradient = x.T @ ((softmax(x @ ahead) - truth) * weights) + decay * ahead
        before, now = now, ahead - gradient / curvature
        ahead = now + step / (step + 3) * (now - before)
    return lambda values: np.asarray(scaled(values) @ now)


def is_named(targets: Ints, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Which photos are of a named label, not of strangers or the empty place (n,)."""
    return np.isin(targets, [i for i, label in enumerate(labels) if label not in RESERVED])


def _left_out(label: str, labels: Sequence[str], pairs: list[tuple[Embedded, Embedded]], strangers: Floats) -> LeftOut | None:
    """Mean over the pairs of (what to fit on, whom to know); None where nobody is known."""
    ours, baseline, known_n = [], [], 0
    for rest, known in pairs:
        if not len(known) or not is_named(rest.targets, labels).any():
            continue
        known_n += len(known)
        model = fit_strangers(rest, labels)
        ours.append(auroc(model.scores(known.embeddings), model.scores(strangers)))
        if len(np.unique(rest.targets)) > 1:
            head = fit_head(rest.embeddings, rest.targets)
            baseline.append(auroc(*(1 - softmax(head(x)).max(axis=1) for x in (known.embeddings, strangers))))
    if not ours:
        return None
    return LeftOut(label, known_n, len(strangers), float(np.mean(ours)), float(np.mean(baseline)) if baseline else None)


def _directions(photos: Embedded, most: int) -> NDArray[np.float64]:
    """Orthonormal rows (rank, d): the first right singular vectors of the compressed embeddings, by the smaller Gram matrix."""
    shape = (-1, photos.embeddings.shape[1])
    z = compressed(photos.embeddings)
    if photos.views is not None:
        z = np.concatenate([z, compressed(photos.views).reshape(shape)])
    rank = max(1, min(most, len(photos) // 2, shape[1] // 2))
    if len(z) >= z.shape[1]:
        return np.asarray(np.linalg.eigh(z.T @ z)[1][:, : -rank - 1 : -1].T)
    vectors = np.linalg.eigh(z @ z.T)[1][:, : -rank - 1 : -1]
    rows = vectors.T @ z
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))


def _folds(groups: Ints) -> Iterator[NDArray[np.bool_]]:
    """Masks (n,) of up to five parts, the groups dealt out in a seeded order; none where there is but one group."""
    unique, where = np.unique(groups, return_inverse=True)
    parts = min(FOLDS, len(unique))
    dealt = np.random.default_rng(0).permutation(len(unique)) % max(parts, 1)
    for part in range(parts if parts > 1 else 0):
        yield dealt[where] == part
