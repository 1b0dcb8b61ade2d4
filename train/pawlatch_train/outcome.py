"""The model folder: what training leaves for a person to look at, for the door to read, and for `convert` to prove."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pawlatch import __version__
from pawlatch.errors import OutputError
from pawlatch_train.advice import Photographed
from pawlatch_train.check import PhotoCheck
from pawlatch_train.dataset import Dataset, balanced
from pawlatch_train.facts import GREY
from pawlatch_train.keras import keras, tf

CALIBRATION_PHOTOS = 200


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
            path = data.photo(index).path
            shutil.copyfile(path, _made(folder / "heldout" / data.photo(index).label / f"{index:04d}-{path.name}"))
        for index in balanced(data, calibrate, most=CALIBRATION_PHOTOS, seed=seed):
            photo = data.photo(index)
            png = cv2.imencode(".png", data.images([index])[0][..., ::-1])[1].tobytes()
            _made(folder / "calibration" / photo.label / f"{index:04d}-{photo.path.stem}.png").write_bytes(png)
    except OSError as error:
        raise OutputError(f"cannot keep the photos ({error.strerror}); make room or name another place with -o") from error


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


