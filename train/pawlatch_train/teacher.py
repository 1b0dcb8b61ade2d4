"""A wide teacher for a narrow student: a trained model's softened scores of the very views that the student learns from.

Source: G. Hinton, O. Vinyals, J. Dean, "Distilling the Knowledge in a Neural Network", 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import ModelCard, read_card
from pawlatch.errors import ModelCardError
from pawlatch.image import FitPolicy
from pawlatch.quiet import quiet
from pawlatch_train.keras import tf


class Teacher:
    """A model folder that `train` wrote.

    Raises:
        ModelCardError: no such model, or it knows other labels, or other framing than `policy`.
    """

    def __init__(self, folder: Path, labels: tuple[str, ...], *, policy: FitPolicy, temperature: float) -> None:
        self.card: ModelCard = read_card(folder)
        if self.card.labels != labels:
            raise ModelCardError(f"a teacher must know the same labels ({', '.join(labels)}), but {folder} knows "
                                 f"{', '.join(self.card.labels)}; train it on the same photos")
        if self.card.input.fit != policy:
            raise ModelCardError(f"a teacher must see what its student sees, but {folder} was trained with --fit "
                                 f"{self.card.input.fit}; add it")
        if not (folder / "saved_model.pb").is_file():
            raise ModelCardError(f"a teacher must be a model folder that `train` wrote, but {folder} holds no saved_model.pb")
        with quiet():
            self._loaded: Any = tf.saved_model.load(str(folder))
        self._signature = self._loaded.signatures["serving_default"]
        self._temperature = temperature

    @property
    def side(self) -> int:
        """Its input side in pixels."""
        return self.card.input.size_hw[0]

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Its softened scores (n, labels) of pixels (n, side, side, 3)."""
        scores = self._signature(image=tf.cast(pixels, tf.float32))[self.card.outputs.class_scores].numpy()
        softened = np.maximum(scores, 1e-7) ** (1 / self._temperature)  # softmax(z / t) of logits z is softmax(z)^(1/t), scaled
        return np.asarray(softened / softened.sum(axis=1, keepdims=True), np.float32)
