"""The SavedModel: what every variant is made from, and what it is measured against."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import ModelCard
from pawlatch.errors import ModelCardError
from pawlatch.quiet import quiet
from pawlatch_convert.heavy import heavy


class SavedModel:
    """A SavedModel with the signature of the contract: float32 pixels (n, H, W, 3), 0..255, in; both outputs out.

    Raises:
        ModelCardError: no SavedModel in `folder`, or its signature is not what the card says.
        MissingExtraError: TensorFlow is not installed.
    """

    def __init__(self, folder: Path, card: ModelCard) -> None:
        if not (folder / "saved_model.pb").is_file():
            raise ModelCardError(
                f"expected a SavedModel, but {folder} holds no saved_model.pb; name the folder that `train -o` wrote"
            )
        self._tf = heavy("tensorflow")
        try:
            with quiet():
                self._loaded = self._tf.saved_model.load(str(folder))  # holds the variables for as long as we live
        except MemoryError:
            raise
        except Exception as error:  # of a damaged file: protobuf's, TensorFlow's, Python's
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelCardError(
                f"TensorFlow cannot load the SavedModel in {folder} ({first[:200]}); copy the folder again, or train again"
            ) from error
        if "serving_default" not in self._loaded.signatures:
            raise ModelCardError(
                f"expected the signature serving_default in {folder}, got "
                f"{', '.join(self._loaded.signatures) or 'none'}; export the model again"
            )
        self._signature = self._loaded.signatures["serving_default"]
        self.card = card
        self.input_name, self._batch = _checked_input(self._signature.structured_input_signature[1], card)
        self._shape = (1, *card.input.size_hw, 3)
        if missing := [n for n in _names(card) if n not in self._signature.structured_outputs]:
            raise ModelCardError(
                f"the card names the output {missing[0]!r}, but the SavedModel has "
                f"{', '.join(self._signature.structured_outputs)}; correct one of the two"
            )
        (n_scores,) = self._signature.structured_outputs[card.outputs.class_scores].shape[1:]
        if n_scores not in {None, len(card.labels)}:
            raise ModelCardError(f"the card has {len(card.labels)} labels, but the SavedModel gives {n_scores} scores")

    def outputs(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Class scores (n, labels) and embeddings (n, d) of fitted pixels (n, H, W, 3), as TensorFlow computes them."""
        step = self._batch or len(pixels)
        parts = [self._run(pixels[at : at + step]) for at in range(0, len(pixels), step)]
        scores, embeddings = (np.concatenate(of_all).astype(np.float32, copy=False) for of_all in zip(*parts, strict=True))
        return scores, embeddings

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        outputs = self._signature(**{self.input_name: self._tf.constant(pixels.astype(np.float32))})
        return [outputs[name].numpy() for name in _names(self.card)]

    @cached_property
    def function(self) -> Any:
        """The signature as a tf.function of a fixed batch of one with its weights as constants.

        XNNPACK takes static shapes only, and a graph without variables is converted in a third of the time.
        """
        tf, names = self._tf, _names(self.card)
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        spec = tf.TensorSpec(self._shape, tf.float32, name=self.input_name)

        def signature(pixels: Any) -> Any:
            outputs = self._signature(**{self.input_name: pixels})
            return [outputs[name] for name in names]

        with quiet():
            frozen = convert_variables_to_constants_v2(tf.function(signature).get_concrete_function(spec))

        def static(pixels: Any) -> Any:
            return {name: tf.identity(value, name) for name, value in zip(names, frozen(pixels), strict=True)}

        return tf.function(static, input_signature=[spec])

    def save_static(self, folder: Path) -> Path:
        """Write `function` as a SavedModel, without which TFLite's converter loses the signature's names."""
        module = self._tf.Module()
        module.serve = self.function
        with quiet():
            self._tf.saved_model.save(module, str(folder), signatures={"serving_default": self.function})
        return folder


def _checked_input(inputs: dict[str, Any], card: ModelCard) -> tuple[str, int | None]:
    """The input's name and its fixed batch size, if it has one."""
    if len(inputs) != 1:
        raise ModelCardError(f"expected a signature of one input, got {', '.join(inputs) or 'none'}; export it again")
    ((name, spec),) = inputs.items()
    batch, *sides = spec.shape.as_list() if spec.shape.rank == 4 else [0]
    wanted = [*card.input.size_hw, 3]
    matches = len(sides) == 3 and all(side in {None, want} for side, want in zip(sides, wanted, strict=True))
    if spec.dtype.name != "float32" or batch not in {None, 1} or not matches:
        raise ModelCardError(
            f"expected float32 pixels of shape (None or 1, {', '.join(map(str, wanted))}), but the SavedModel takes "
            f"{spec.dtype.name} {spec.shape}; export it with raw pixels as its input"
        )
    return name, batch


def _names(card: ModelCard) -> tuple[str, str]:
    return card.outputs.class_scores, card.outputs.embedding
