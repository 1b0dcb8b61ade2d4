"""`Classifier`: an image in, a `Prediction` out, for whichever variant the card deploys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import read_bundle, verified_file
from pawlatch.engine import open_engine
from pawlatch.errors import EngineError
from pawlatch.image import Image, fit
from pawlatch.photos import EMPTY
from pawlatch.strangers import StrangerModel


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the model says of one image: `scores` (n,) float32 in label order, `embedding` (d,) float32.

    `stranger` is how strange the embedding is (`pawlatch.strangers`), None where the card has no statistics for it;
    `is_stranger` whether it is none of the labels.
    """

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    embedding: NDArray[np.float32]
    stranger: float | None = None
    is_stranger: bool = False

    @property
    def label(self) -> str:
        """The label with the highest score."""
        return self.labels[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def ranked(self) -> list[tuple[str, float]]:
        """Labels and scores, best first."""
        return [(self.labels[i], float(self.scores[i])) for i in np.argsort(-self.scores, kind="stable")]

    def score_of(self, labels: tuple[str, ...]) -> float:
        """The probability that it is any of `labels`, summed in float64."""
        return float(sum(float(self.scores[self.labels.index(label)]) for label in labels))


class Classifier:
    """The model of a bundle (`model/edge/`), ready to run.

    Raises:
        ModelCardError: the bundle is not whole, or its stranger statistics are not usable.
        EngineError: no engine here runs the file, or its outputs are not what the card says.
    """

    def __init__(self, bundle: str | Path, *, variant: str | None = None, threads: int = 2) -> None:
        self.bundle, self.card = read_bundle(Path(bundle))
        self.variant, path = verified_file(self.bundle, self.card, variant)
        self._strangers = StrangerModel.from_card(self.card, self.variant)
        self.threads, self._engine = threads, open_engine(path, threads=threads)
        expected = (1, *self.card.input.size_hw, 3)
        if self._engine.input_shape != expected:
            raise EngineError(f"{path.name} takes {self._engine.input_shape}, but its card says {expected}; convert again")

    def __call__(self, image_rgb: Image, *, box_yxyx: tuple[int, int, int, int] | None = None) -> Prediction:
        """Classify a picture (H, W, 3), RGB, uint8, of any size, or the part of it in `box_yxyx`."""
        return self.predict(self.fit(image_rgb, box_yxyx=box_yxyx))

    def fit(self, image_rgb: Image, *, box_yxyx: tuple[int, int, int, int] | None = None) -> Image:
        """The pixels the model would see of a picture: uint8 (H, W, 3) of the card's input size."""
        return fit(image_rgb, self.card.input.size_hw, policy=self.card.input.fit, box_yxyx=box_yxyx)

    def see(self, frame_bgr: Image, *, box_yxyx: tuple[int, int, int, int] | None = None) -> tuple[Image, Prediction]:
        """Classify a camera's frame (H, W, 3), BGR, uint8, or the part of it in `box_yxyx`.

        Returns:
            The pixels that the model saw, RGB, uint8, of the card's input size, and what it says of them.
        """
        size_hw, policy = self.card.input.size_hw, self.card.input.fit
        fitted_rgb = fit(frame_bgr, size_hw, policy=policy, box_yxyx=box_yxyx, bgr_to_rgb=True)  # turns few pixels, not all
        return fitted_rgb, self.predict(fitted_rgb)

    def warm_up(self) -> None:
        """Classify a black picture, for what the first one takes, and to see that it gives what its card says.

        Raises:
            EngineError, ModelCardError: as `predict`.
        """
        self.predict(np.zeros((*self.card.input.size_hw, 3), np.uint8))

    def predict(self, fitted_rgb: Image) -> Prediction:
        """Classify pixels that `fit` returned, uint8 (H, W, 3).

        Raises:
            EngineError: pixels of another size, inference failed, an output is missing, or the scores are not finite.
            ModelCardError: the stranger statistics are for another embedding.
        """
        batch = fitted_rgb[np.newaxis]
        if batch.shape != self._engine.input_shape or batch.dtype != np.uint8:  # LiteRT would resize its graph to them
            raise EngineError(f"expected uint8 pixels of shape {self._engine.input_shape}, got {batch.dtype} {batch.shape}")
        outputs = self._engine(batch.astype(self._engine.input_dtype, copy=False))
        labels = self.card.labels
        scores, embedding = (_output(outputs, name) for name in (self.card.outputs.class_scores, self.card.outputs.embedding))
        if scores.shape != (len(labels),):
            raise EngineError(f"the card has {len(labels)} labels, but the model gives {scores.size} scores; convert again")
        values = scores.tolist()  # for a few numbers Python takes less time than NumPy
        if not all(map(math.isfinite, values)):
            raise EngineError("the model's scores are not finite numbers; convert again, or use another --variant")
        if self._strangers is None or labels[values.index(max(values))] == EMPTY:  # where no animal is, none is strange
            return Prediction(labels, scores, embedding)
        stranger = self._strangers.score(embedding)
        return Prediction(labels, scores, embedding, stranger, self._strangers.says_stranger(stranger))


def _output(outputs: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    if name not in outputs:
        raise EngineError(f"the model has no output {name!r}, only {', '.join(outputs)}; convert it again")
    return outputs[name].reshape(-1).astype(np.float32, copy=False)
