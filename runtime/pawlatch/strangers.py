"""`StrangerModel`: from an embedding to "none of these", with nothing but the statistics in the card.

Photos of one animal lie near a few directions of the embedding's space. Each label keeps an orthonormal basis of them, and
an embedding that no named label's directions explain is a stranger's:

    z = sign(e) |e|^¼, then z / ‖z‖        which features are active counts more than how strongly
    share_c = ‖B_c z‖²                     in [0, 1], for the basis B_c (rank, d) of label c
    score = 1 − named + max(0, other − named)

where `named` is the largest share of the named labels and `other` that of `_other`, where there are photos of it.

Sources: the subspace classifier, S. Watanabe et al., "Evaluation and selection of variables in pattern recognition" (1967)
and E. Oja, "Subspace Methods of Pattern Recognition" (1983); the power, F. Perronnin, J. Sánchez and T. Mensink,
"Improving the Fisher kernel for large-scale image classification" (ECCV 2010).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pawlatch.card import ModelCard
from pawlatch.errors import ModelCardError
from pawlatch.photos import EMPTY, OTHER, RESERVED

METHOD = "label_subspaces"
INT8_MAX = 127


@dataclass(frozen=True, eq=False)
class StrangerModel:
    """The directions of each label, as the card keeps them.

    `basis` (rows, d) int8 holds the rows of all labels, `ranks` of each label in the order of `labels`; row i times
    `scale[i]` (rows,) float32 has length 1. A score above `threshold` is a stranger's.
    """

    labels: tuple[str, ...]
    ranks: tuple[int, ...]
    basis: NDArray[np.int8]
    scale: NDArray[np.float32]
    threshold: float

    def __post_init__(self) -> None:
        if not set(self.labels) - set(RESERVED) or EMPTY in self.labels or len(self.ranks) != len(self.labels):
            raise ModelCardError(f"stranger statistics need named labels, each with its rank, got {self.labels}, {self.ranks}")
        if min(self.ranks) < 1 or self.basis.shape[0] != sum(self.ranks) or self.scale.shape != (sum(self.ranks),):
            raise ModelCardError(f"stranger statistics must hold {sum(self.ranks)} directions, got {self.basis.shape[0]}")
        if not 0 < self.threshold < 2:  # nor may it be NaN
            raise ModelCardError(f"a stranger threshold must lie between 0 and 2, got {self.threshold}; train again")
        object.__setattr__(self, "_rows", self.basis * self.scale[:, np.newaxis])
        object.__setattr__(self, "_starts", np.cumsum((0, *self.ranks[:-1])))
        object.__setattr__(self, "_named", [i for i, label in enumerate(self.labels) if label != OTHER])
        object.__setattr__(self, "_other", [i for i, label in enumerate(self.labels) if label == OTHER])

    @classmethod
    def from_card(cls, card: ModelCard, variant: str) -> Self | None:
        """The SavedModel's statistics with what differs for the variant; None where the card has none.

        Raises:
            ModelCardError: they are not what this version reads, or not whole.
        """
        kept = card.stranger_statistics(variant)
        return None if kept is None else cls.from_statistics(kept)

    @classmethod
    def from_statistics(cls, kept: Mapping[str, Any]) -> Self:
        """Read what `statistics` wrote.

        Raises:
            ModelCardError: as `from_card`.
        """
        try:
            if kept["method"] != METHOD:
                raise ModelCardError(f"its stranger method is {kept['method']!r}; upgrade with `pip install -U pawlatch`")
            ranks = tuple(int(rank) for rank in kept["ranks"])
            basis = np.frombuffer(base64.b64decode(kept["basis"], validate=True), np.int8).reshape(sum(ranks), -1)
            scale = np.frombuffer(base64.b64decode(kept["scale"], validate=True), "<f4").astype(np.float32)
            return cls(tuple(map(str, kept["labels"])), ranks, basis, scale, float(kept["threshold"]))
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ModelCardError):
                raise
            detail = f"they lack {error}" if isinstance(error, KeyError) else str(error)
            raise ModelCardError(f"the card's stranger statistics are not usable ({detail}); copy the bundle again") from error

    def statistics(self) -> dict[str, Any]:
        """For the card, as JSON: arrays as base64, d + 4 bytes a direction before it."""
        return {
            "method": METHOD, "labels": list(self.labels), "ranks": list(self.ranks), "threshold": self.threshold,
            "basis": base64.b64encode(self.basis.tobytes()).decode(),
            "scale": base64.b64encode(self.scale.astype("<f4").tobytes()).decode(),
        }

    def shares(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """How much of each embedding (..., d) each label's directions explain: (..., labels), 0 to 1.

        Raises:
            ModelCardError: the statistics are for embeddings of another length.
        """
        z = compressed(embeddings)
        if z.shape[-1] != self.basis.shape[1]:
            raise ModelCardError(
                f"the stranger statistics are for embeddings of {self.basis.shape[1]} numbers, the model gives {z.shape[-1]}; "
                "train and convert again"
            )
        rows: NDArray[np.float32] = self.__dict__["_rows"]
        along = z.astype(np.float32) @ rows.T
        return np.asarray(np.add.reduceat(np.square(along, dtype=np.float64), self.__dict__["_starts"], axis=-1))

    def scores(self, embeddings: ArrayLike) -> NDArray[np.float64]:
        """How strange each embedding (..., d) is, 0 to 2: one number each; NaN for an embedding that is not finite."""
        shares = self.shares(embeddings)
        named = shares[..., self.__dict__["_named"]].max(axis=-1)
        other = shares[..., self.__dict__["_other"]].max(axis=-1, initial=0.0)
        return np.asarray(1 - named + np.maximum(0.0, other - named))

    def score(self, embedding: NDArray[np.float32]) -> float:
        """How strange one embedding (d,) is: as `scores`, but in Python's float64, which for so few numbers takes less time."""
        shares = self.shares(embedding).tolist()
        named = max(shares[i] for i in self.__dict__["_named"])
        other = max((shares[i] for i in self.__dict__["_other"]), default=0.0)
        return float(1 - named + max(0.0, other - named))

    def is_stranger(self, embedding: NDArray[np.float32]) -> bool:
        """Whether it is none of the named labels; so is what cannot be judged (zeros, NaN)."""
        return self.says_stranger(self.score(embedding))

    def says_stranger(self, score: float) -> bool:
        """Whether a score is a stranger's: anything but a number up to the threshold."""
        return not score <= self.threshold


def compressed(embeddings: ArrayLike) -> NDArray[np.float64]:
    """The fourth root of each feature with its sign, brought to length 1; zeros stay zeros."""
    e = np.asarray(embeddings)
    z: NDArray[np.float64] = np.abs(e, dtype=np.float64)
    np.sqrt(z, out=z)
    np.sqrt(z, out=z)
    np.copysign(z, e, out=z)
    length = np.sqrt(np.add.reduce(z * z, axis=-1, keepdims=True))
    z /= length + (length == 0)
    return z
