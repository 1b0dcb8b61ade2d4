"""Cross-validation: what a model says of photos that neither fitted nor chose it, for sets too small to hold many out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch_train.cases import Case
from pawlatch_train.fit import Fitted, Fitting, Indices, Material, Say, case_of, predict
from pawlatch_train.network import Network
from pawlatch_train.recipe import TrainRecipe


@dataclass(frozen=True)
class OutOfFold:
    """What was said of each photo by the model of its fold: logits (n, labels), float32, and the number of the fold (n,)."""

    photos: Indices
    logits: NDArray[np.float32]
    fold: Indices
    best_epochs: dict[str, int]  # by stage, the median over the folds; what the final model is trained for
    fine_tuned: int  # folds in which fine-tuning earned its place
    case: Case | None = None  # what the folds found of the photos, all together

    def recipe(self, recipe: TrainRecipe) -> TrainRecipe:
        """What the final model is trained by, which has no photos left to choose: the epochs that were best in the folds."""
        earned = 2 * self.fine_tuned > len(np.unique(self.fold))
        return dataclasses.replace(
            recipe, early_stopping=0, head_epochs=self.best_epochs["frozen"],
            fine_tune_epochs=self.best_epochs["fine-tuned"] if earned else 0,
        )


def cross_validate(network: Network, material: Material, recipe: TrainRecipe, folds: Sequence[Sequence[int]], *, cluster: Any,
                   work: Path, say: Say) -> OutOfFold:
    """Fit a model for each fold on the others but one, which chooses; the network is left with the weights it came with.

    Under `work` each fold keeps what it needs to go on, should the run be killed.
    """
    initial = network.whole.get_weights()
    parts = [np.asarray(fold, np.int64) for fold in folds]
    logits, fitted = [], []
    for number, part in enumerate(parts):
        others = [parts[(number + step) % len(parts)] for step in range(1, len(parts))]
        network.whole.set_weights(initial)
        (own := work / f"fold-{number + 1}").mkdir(exist_ok=True)
        one: Fitted = Fitting(network, material, recipe, fit=np.concatenate(others[1:]), choose=others[0], cluster=cluster,
                              work=own, quiet=True).run()
        logits.append(predict(network, material, part, kept=one.kept)[0])
        fitted.append(one)
        right = float((logits[-1].argmax(1) == material.targets[part].argmax(1)).mean())
        say(f"fold {number + 1} of {len(parts)}: {right:.2f} of {len(part)} photos that it had not seen")
    network.whole.set_weights(initial)
    fine_tuned = sum(one.kept == "fine-tuned" for one in fitted)
    say(f"fine-tuning earned its place in {fine_tuned} of {len(parts)} folds")
    stages = {stage for one in fitted for stage in one.best_epochs}
    return OutOfFold(
        np.concatenate(parts), np.concatenate(logits), np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        {stage: int(np.median([one.best_epochs[stage] for one in fitted if stage in one.best_epochs])) for stage in stages},
        fine_tuned,
        case_of(network, photos=sum(map(len, parts[2:])), labels=material.targets.shape[1],
                frozen_accuracy=float(np.mean([one.frozen_accuracy for one in fitted]))),
    )
