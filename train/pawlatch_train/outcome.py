"""The model folder: what training leaves for a person to look at, for the door to read, and for `convert` to prove."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch import __version__
from pawlatch.card import SAVED_MODEL, InputSpec, ModelCard
from pawlatch.errors import OutputError
from pawlatch.files import write_atomic
from pawlatch.photos import EXPECTED
from pawlatch_train.advice import Photographed
from pawlatch_train.backbones import describe
from pawlatch_train.check import PhotoCheck
from pawlatch_train.check_page import render_page
from pawlatch_train.dataset import Dataset, balanced
from pawlatch_train.facts import GREY
from pawlatch_train.features import Backbone
from pawlatch_train.fit import Fitted
from pawlatch_train.history import History
from pawlatch_train.judged import Judged
from pawlatch_train.keras import keras, tf
from pawlatch_train.network import OUTPUTS
from pawlatch_train.recipe import TrainRecipe
from pawlatch_train.report import Story, write_report
from pawlatch_train.trust import Trust

CALIBRATION_PHOTOS = 200
STAND_IN_PHOTOS = 60  # to be judged by where folds leave none held out


@dataclass(frozen=True)
class Trained:
    """What came out, and what a person wants to know of it."""

    folder: Path
    card: ModelCard
    history: History
    judged: Judged
    trust: Trust
    is_chief: bool

    def summary(self) -> str:
        """The lines for a terminal."""
        share, labels = self.judged.share_right(), self.card.labels
        low, high = share.interval()
        lines = [
            f"{self.folder}: {len(labels)} labels, accuracy {share.k}/{share.n} = {share.value:.3f} on {self.judged.source}",
            f"(95 % interval {low:.3f} to {high:.3f}, of {share.groups} different moments); rows truth, columns prediction:",
            "  " + " " * 14 + "".join(f"{label[:10]:>12}" for label in labels),
        ]
        for label, row in zip(labels, self.judged.confusion(), strict=True):
            lines.append(f"  {label[:14]:<14}" + "".join(f"{int(count):>12}" for count in row))
        lines += self.trust.sentences or ["no --unlock label: a door with this model cannot be armed"]
        return "\n".join(lines + self.trust.lines())


@dataclass(frozen=True)
class Outcome:
    """What a training has found, and how its folder tells it. `timings` in seconds."""

    name: str
    unlock: tuple[str, ...]
    recipe: TrainRecipe
    folds: int
    data: Dataset
    backbone: Backbone
    fitted: Fitted
    judged: Judged
    trust: Trust
    history: History
    next_command: str
    timings: Sequence[tuple[str, float]]
    scores_of: Callable[[Sequence[int]], NDArray[np.float32]]  # photos -> (n, labels), by the SavedModel as it lies on disk

    def write(self, folder: Path, *, logs: Path) -> ModelCard:
        """Everything but the SavedModel into its `folder`, the card last.

        Raises:
            OutputError: the disk is full.
        """
        splits = self.data.splits
        stand_ins = balanced(self.data, splits.fit, most=STAND_IN_PHOTOS, seed=self.recipe.seed)
        prove = splits.held_out or stand_ins
        keep_photos(folder / "assets.extra", self.data, calibrate=splits.fit, prove=prove, seed=self.recipe.seed)
        scores = self.judged.scores if splits.held_out and not self.folds else self.scores_of(prove)
        expected = {
            kept_name(self.data, photo): dict(zip(self.data.labels, np.asarray(row, np.float64).round(6).tolist(), strict=True))
            for photo, row in zip(prove, scores, strict=True)
        }
        write_atomic(folder / "assets.extra" / EXPECTED, json.dumps(expected, indent=0, ensure_ascii=False) + "\n")
        write_atomic(folder / "recipe.toml", self.recipe.to_toml())
        write_atomic(folder / "history.csv", self.history.to_csv())
        write_atomic(folder / "batches.csv", self.history.batches_to_csv())
        write_atomic(folder / "photos.html", render_page(self.data.check))
        if logs.is_dir():
            shutil.copytree(logs, folder / "logs")
        write_report(folder, self.story())
        card = self.card()
        card.write(folder)
        return card

    def story(self) -> Story:
        """For the report."""
        case, trust, check = self.fitted.case, self.trust, self.data.check
        why = f"{case.sentence}. The {self.fitted.kept} stage is kept." if case else ""
        return Story(
            title=self.name, unlock=self.unlock, judged=self.judged, history=self.history,
            photographed=photographed(check), backbone=describe(self.backbone), why=why,
            recipe=list(dataclasses.asdict(self.recipe).items()), temperature=trust.temperature, ece_before=trust.ece_before,
            ece_after=trust.ece_after, next_command=self.next_command,
            findings=[*check.findings, *self.data.splits.findings], operating_point=trust.sentences, strangers=trust.strangers,
            strangers_note=trust.strangers_note, timings=self.timings,
        )

    def card(self) -> ModelCard:
        """The contract with everything that comes after."""
        data, fitted, trust, weights = self.data, self.fitted, self.trust, self.backbone.weights
        share = self.judged.share_right()
        parts = {"fit": data.splits.fit, "choose": data.splits.choose, "held_out": data.splits.held_out}
        return ModelCard(
            name=self.name, labels=data.labels, unlock=self.unlock, outputs=OUTPUTS,
            input=InputSpec((self.backbone.size, self.backbone.size), self.recipe.fit),
            operating_points={SAVED_MODEL: trust.operating_point} if self.unlock else {},
            strangers={SAVED_MODEL: trust.stranger_statistics} if trust.stranger_statistics else {},
            provenance={
                "backbone": {"name": self.backbone.name, "width": weights.width, "weights": weights.source,
                             "weights_file": Path(weights.origin).name, "weights_trained_at": weights.trained_size},
                "seed": self.recipe.seed, "recipe": dataclasses.asdict(self.recipe), "kept_stage": fitted.kept,
                "head_saw_choosing_photos": fitted.head_saw_choosing,
                "case": fitted.case.sentence if fitted.case else "", "folds": self.folds, "data_sha256": data.sha256,
                "splits": {name: [data.name(index) for index in part] for name, part in parts.items()},
                "set_aside": set_aside(data),
                "metrics": {"held_out_accuracy": share.value, "held_out_photos": len(self.judged),
                            "held_out_groups": share.groups, "judged_by": self.judged.source, **trust.metrics},
                "versions": versions(),
            },
        )


def photographed(check: PhotoCheck) -> dict[str, Photographed]:
    """How many photos and moments there are of each label, over all splits."""
    own = {label: check.indices(label) for label in check.labels}
    return {
        label: Photographed(len(mine), len(np.unique(check.groups[mine])), sum(GREY in check.facts[i].flags for i in mine))
        for label, mine in own.items()
    }


def keep_photos(folder: Path, data: Dataset, *, calibrate: Sequence[int], prove: Sequence[int], seed: int) -> None:
    """Keep what a conversion needs: photos to calibrate with, as fitted pixels, and photos to be judged by, byte for byte.

    Raises:
        OutputError: the disk is full.
    """
    try:
        for index in prove:
            shutil.copyfile(data.photo(index).path, _made(folder / "heldout" / kept_name(data, index)))
        for index in balanced(data, calibrate, most=CALIBRATION_PHOTOS, seed=seed):
            photo = data.photo(index)
            png = cv2.imencode(".png", data.images([index])[0][..., ::-1])[1].tobytes()
            _made(folder / "calibration" / photo.label / f"{index:04d}-{photo.path.stem}.png").write_bytes(png)
    except OSError as error:
        raise OutputError(f"cannot keep the photos ({error.strerror}); make room or name another place with -o") from error


def kept_name(data: Dataset, index: int) -> str:
    """A held-out photo's name in the folder where it is kept: `label/0012-file.jpg`."""
    photo = data.photo(index)
    return f"{photo.label}/{index:04d}-{photo.path.name}"


def versions() -> dict[str, str]:
    """Of what made the model."""
    return {"pawlatch": __version__, "tensorflow": tf.__version__, "tf_keras": keras.__version__, "numpy": np.__version__,
            "opencv": cv2.__version__}


def set_aside(data: Dataset) -> dict[str, str]:
    """Files that could not be read, and why, without this machine's paths."""
    return {data.check.relative(item.path): item.reason for item in data.check.set_aside}


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
