"""The graph: raw pixels in, scaling inside, a cut between what stays frozen and what is tuned, two outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import OutputSpec
from pawlatch.errors import OutputError, PhotosError
from pawlatch.quiet import quiet
from pawlatch_train.features import Backbone
from pawlatch_train.keras import keras, tf
from pawlatch_train.layers import cut_before, split_model, trainable_from, trainable_weights
from pawlatch_train.recipe import TrainRecipe

OUTPUTS = OutputSpec()
LOGITS = "logits"


@dataclass(frozen=True)
class Network:
    """The parts of one model that share their weights."""

    backbone: Backbone
    cut: str | None  # the layer behind which the tuned part begins; None: all of the backbone is tuned
    trainable: list[Any]  # backbone layers that fine-tuning trains
    head: Any  # embedding (n, d) -> logits (n, labels)
    embed: Any  # output of the cut, or pixels -> embedding
    tuned: Any  # output of the cut, or pixels -> logits
    stem: Any | None  # pixels -> output of the cut
    features: Any  # pixels -> embedding
    whole: Any  # pixels -> {class_scores, embedding}


def build_network(backbone: Backbone, recipe: TrainRecipe, *, labels: int, fine_tune_at: int | str | None) -> Network:
    """Put a head on a backbone, and cut it before the first layer that fine-tuning would train.

    Raises:
        BackboneError: no such layer.
        PhotosError: a logit head for other than two labels.
    """
    if recipe.head == "logit" and labels != 2:
        raise PhotosError(f"a head with one logit tells two labels apart, and there are {labels}; use --head softmax")
    batch_norm_frozen = recipe.freezes_batch_norm(backbone.weights.source)
    trainable = trainable_from(
        backbone.model, fine_tune_at, freeze=recipe.freeze, batch_norm_frozen=batch_norm_frozen
    )
    cut = cut_before(backbone.model, trainable) if trainable else None
    stem, upper = split_model(backbone.model, cut)
    for layer in backbone.model.layers:
        layer.trainable = layer in trainable
    pool = (keras.layers.GlobalAveragePooling2D if len(backbone.model.output_shape) == 4 else keras.layers.Flatten)(
        name=OUTPUTS.embedding)
    head = _head(recipe, labels)

    def embedded(part: Any) -> tuple[Any, Any]:
        inputs = keras.Input(part.input_shape[1:], name="image" if part is backbone.model else "maps")
        maps = part(inputs, training=False) if batch_norm_frozen else part(inputs)
        return inputs, pool(maps)

    pixels, embedding = embedded(backbone.model)
    maps, tuned_embedding = embedded(upper) if stem is not None else (pixels, embedding)
    scores = keras.layers.Softmax(name=OUTPUTS.class_scores)(head(embedding))
    return Network(
        backbone, cut, trainable, head,
        embed=keras.Model(maps, tuned_embedding), tuned=keras.Model(maps, head(tuned_embedding)), stem=stem,
        features=keras.Model(pixels, embedding),
        whole=keras.Model(pixels, {OUTPUTS.class_scores: scores, OUTPUTS.embedding: embedding}, name="pawlatch"),
    )


def divide_logits(network: Network, temperature: float) -> None:
    """Put a temperature into the graph: weights and bias of the last layer divided by it, which costs no operation."""
    layer = network.head.get_layer(LOGITS)
    layer.set_weights([value / np.float32(temperature) for value in layer.get_weights()])


def runner(model: Any) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """A Keras model in inference mode as a function of arrays; asked for again, it is not traced again."""
    function = _traced(model)
    return lambda inputs: np.asarray(function(tf.cast(inputs, tf.float32)).numpy())


@lru_cache(maxsize=8)
def _traced(model: Any) -> Any:
    spec = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    return tf.function(lambda inputs: model(inputs, training=False), input_signature=[spec])


def save_network(network: Network, folder: Path) -> Callable[..., dict[str, Any]]:
    """Write a SavedModel whose `serving_default` takes float32 pixels (n, H, W, 3) and names its two outputs.

    Returns:
        The function that was written, as it runs in memory.

    Raises:
        OutputError: the disk refuses.
    """
    shape = (None, *network.whole.input_shape[1:])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])  # type: ignore[untyped-decorator]
    def serve(image: Any) -> Any:
        return network.whole(image, training=False)

    try:
        with quiet():  # through Keras, so that the folder can be a backbone itself
            network.whole.save(str(folder), save_format="tf", signatures={"serving_default": serve}, save_traces=False)
    except tf.errors.OpError as error:  # what a full disk is to TensorFlow
        raise OutputError(f"cannot write the SavedModel ({error.message}); make room or name another place with -o") from error
    written: Callable[..., dict[str, Any]] = serve
    return written


def _head(recipe: TrainRecipe, labels: int) -> Any:
    """Dropout and the last layer. One logit z becomes the two logits (0, z), whose softmax is (1 − σ(z), σ(z))."""
    penalty = keras.regularizers.L1L2(recipe.l1, recipe.l2)
    layers = [keras.layers.Dropout(recipe.dropout)]
    if recipe.head == "logit":
        layers.append(keras.layers.Dense(1, name=LOGITS, kernel_regularizer=penalty))
        zero_and_one = keras.initializers.Constant([[0.0, 1.0]])
        layers.append(keras.layers.Dense(2, use_bias=False, kernel_initializer=zero_and_one, trainable=False, name="pair"))
    else:
        layers.append(keras.layers.Dense(labels, name=LOGITS, kernel_regularizer=penalty))
    return keras.Sequential(layers, name="head")


def parameters(network: Network) -> str:
    """How many numbers each stage trains."""
    total, head = network.whole.count_params(), network.head.count_params()
    tuned = sum(int(np.prod(weight.shape)) for layer in network.trainable for weight in trainable_weights(layer))
    return f"parameters: {head:,} trainable in the head, {tuned:,} more in fine-tuning; {total - head - tuned:,} stay frozen"
