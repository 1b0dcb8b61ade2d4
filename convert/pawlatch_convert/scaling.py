"""Which range of numbers a foreign graph takes for a pixel, measured on labelled photos: graphs do not tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import ModelCardError
from pawlatch.stats import mcnemar_exact, wilson_interval

AUTO = "auto"
SAME = 1e-3  # scores that differ by less are the same scores
P_SURE = 0.01  # of McNemar's test: as of 8 photos that only one of two ranges gets right

Probabilities = NDArray[np.float32]


class UnsureScaleError(ModelCardError):
    """Photos that do not tell which range of pixels a graph takes."""


@dataclass(frozen=True)
class Scale:
    """A pixel p of 0..255 goes into the graph as p * gain + offset."""

    gain: float
    offset: float
    words: str

    def __call__(self, pixels: Any) -> Any:
        """Scale an array or a tensor of float32."""
        scaled = pixels if self.gain == 1 else pixels * np.float32(self.gain)
        return scaled + np.float32(self.offset) if self.offset else scaled


SCALES = {
    "255": Scale(1, 0, "0..255"),
    "unit": Scale(1 / 255, 0, "0..1"),
    "plus-minus-one": Scale(1 / 127.5, -1, "-1..1"),
}
SCALE_NAMES = (AUTO, *SCALES)


@dataclass(frozen=True, eq=False)
class Trial:
    """What a graph makes of the photos in one range: `probabilities` (n, k) and the index of the true label (n,)."""

    scale: str
    probabilities: Probabilities
    truth: NDArray[np.intp]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Which photos get their own label (n,)."""
        return np.asarray(self.probabilities.argmax(1) == self.truth)

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """The label (k,) that most photos with an output's best score have, if that gives each output one of its own."""
        n_labels = self.probabilities.shape[1]
        counts = np.zeros((n_labels, n_labels), int)
        np.add.at(counts, (self.truth, self.probabilities.argmax(1)), 1)
        likely = counts.argmax(0)
        return likely if len(set(likely)) == n_labels else np.arange(n_labels)

    @property
    def reordered(self) -> Trial:
        """The same with the labels in `order`, so that labels given in a wrong order do not hide the range."""
        return Trial(self.scale, self.probabilities[:, np.argsort(self.order)], self.truth)

    def __str__(self) -> str:
        return f"{self.right.mean():.0%} as {SCALES[self.scale].words}"


def find_scale(probabilities: Mapping[str, Probabilities], truth: NDArray[np.intp]) -> tuple[Trial, str]:
    """The range in which the graph knows labelled photos best.

    Args:
        probabilities: of the photos (n, k), by the name of the range.
        truth: the photos' labels (n,), as indices of outputs.

    Returns:
        The trial that won, and a sentence with the numbers.

    Raises:
        UnsureScaleError: two ranges do so alike well that the photos cannot tell which is meant.
    """
    trials = [Trial(name, values, truth) for name, values in probabilities.items()]
    ranked = sorted((trial.reordered for trial in trials), key=lambda trial: -trial.right.mean())
    best, others = ranked[0], ranked[1:]
    alike = [other for other in others if np.abs(other.probabilities - best.probabilities).max() < SAME]
    if alike:  # a graph that normalises each picture by itself: the range without arithmetic does
        best = min((best, *alike), key=lambda trial: list(SCALES).index(trial.scale))
    rivals = [other for other in others if other is not best and other not in alike]
    if unsure := [rival.scale for rival in rivals if not is_surely_better(best, rival)]:
        raise UnsureScaleError(
            f"{len(truth)} photos do not tell which range of pixels the model takes: {', '.join(map(str, ranked))} are right; "
            f"say it as the model was trained, with {' or '.join(f'--scale {name}' for name in (best.scale, *unsure))}"
        )
    won = next(trial for trial in trials if trial.scale == best.scale)
    return won, (
        f"it takes pixels as {SCALES[best.scale].words}: {best.right.mean():.0%} of {len(truth)} photos right, against "
        f"{' and '.join(map(str, rivals))}" if rivals else "it takes pixels of any range alike, so 0..255"
    )


def named_scale(probabilities: Mapping[str, Probabilities], truth: NDArray[np.intp], why: str) -> tuple[Trial, str]:
    """The one range in `probabilities`, which needs no finding, and a sentence that says how it does."""
    ((name, values),) = probabilities.items()
    trial = Trial(name, values, truth)
    return trial, f"it takes pixels as {SCALES[name].words}, {why}: {trial.right.mean():.0%} of {len(truth)} photos right"


def is_surely_better(best: Trial, rival: Trial) -> bool:
    """Whether more than luck tells two ranges apart: McNemar's test on the photos that only one of them gets right.

    The loss is no witness. More contrast makes a graph surer of whatever it says, and where both get everything right, as
    a MobileNetV2 with a head for two dogs did, the wrong range had the lower loss on most photos.
    """
    only_best, only_rival = int((best.right & ~rival.right).sum()), int((rival.right & ~best.right).sum())
    return only_best > only_rival and mcnemar_exact(only_best, only_rival) < P_SURE


def label_warning(trial: Trial, labels: Sequence[str]) -> str | None:
    """A sentence where another order of the labels fits the photos far better, or none does better than chance."""
    n, right = len(trial.truth), int(trial.right.sum())
    so_far = f"{right / n:.0%} of {n} photos are right"
    other = trial.reordered
    gained, lost = int((other.right & ~trial.right).sum()), int((trial.right & ~other.right).sum())
    if gained > lost and mcnemar_exact(gained, lost) < P_SURE:
        fitting = ",".join(labels[i] for i in trial.order)
        return f"{so_far}: the labels may be in another order; --labels {fitting} makes it {other.right.mean():.0%}"
    if wilson_interval(right, n)[0] <= 1 / len(labels):
        return (
            f"{so_far}, not clearly better than chance ({1 / len(labels):.0%}): the labels may be in another order, or the "
            "model wants other pixels (BGR, ImageNet's mean); look at its training code"
        )
    return None


def as_probabilities(outputs: Mapping[str, NDArray[np.float32]], n_labels: int) -> tuple[str, dict[str, Probabilities]]:
    """Tell probabilities from logits by their values.

    Args:
        outputs: of the photos (n, k) or (n, 1) for two labels, by the name of the range.
        n_labels: how many labels there are.

    Returns:
        "probabilities" or "logits", and (n, n_labels) of probabilities for each range.

    Raises:
        ModelCardError: scores that are independent of each other, or not finite in any range.
    """
    finite = [values for values in outputs.values() if np.isfinite(values).all()]
    if not finite:
        raise ModelCardError("expected finite scores, but the model gives NaN or infinity in every range; export it again")
    in_unit = all(values.min() >= -SAME and values.max() <= 1 + SAME for values in finite)
    if in_unit and finite[0].shape[1] == n_labels and any(np.abs(values.sum(1) - 1).max() > 10 * SAME for values in finite):
        sums = np.concatenate([values.sum(1) for values in finite])
        raise ModelCardError(
            f"expected scores that sum to 1, or logits, but each is a 0..1 of its own (sums {sums.min():.2f} to "
            f"{sums.max():.2f}), as of a sigmoid for each label; a door needs one answer: train it with a softmax"
        )
    kind = "probabilities" if in_unit else "logits"
    return kind, {name: np.nan_to_num(to_probabilities(values, kind)) for name, values in outputs.items()}


def to_probabilities(values: NDArray[np.float32], kind: str) -> Probabilities:
    """Softmax of logits; of one output z for two labels, [1 - p, p] with p = sigmoid(z), Keras's order."""
    if values.shape[1] == 1:
        values = np.c_[1 - values, values] if kind == "probabilities" else np.c_[np.zeros_like(values), values]
    if kind == "probabilities":
        return values
    with np.errstate(invalid="ignore"):
        raised = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(raised / raised.sum(1, keepdims=True), np.float32)
