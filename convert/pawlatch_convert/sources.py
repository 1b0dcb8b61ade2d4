"""What `convert` takes: the folder that train wrote, or a model of someone else's with photos that say what it should know.

A foreign graph is wrapped until it keeps the contract: pixels 0..255 in, softmax and embedding out. Everything that was found
or decided on the way is a sentence, for a guess that nobody hears of is how exported models go wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.card import CARD_NAME, InputSpec, ModelCard, OutputSpec, read_card
from pawlatch.errors import ModelCardError, PhotosError
from pawlatch.image import FitPolicy
from pawlatch.image import fit as fit_image
from pawlatch.photos import Photo, SetAside, list_splits, read_photos
from pawlatch.quiet import quiet
from pawlatch_convert.foreign import KERAS_SUFFIXES, Graph, load_graph
from pawlatch_convert.heavy import heavy
from pawlatch_convert.photoset import balanced, find_photos
from pawlatch_convert.savedmodel import SavedModel
from pawlatch_convert.scaling import (
    AUTO,
    SCALE_NAMES,
    SCALES,
    Trial,
    UnsureScaleError,
    as_probabilities,
    find_scale,
    label_warning,
    named_scale,
)

PHOTOS_TRIED = 96  # mostly they tell ranges of pixels apart, in seconds; where they do not, four times as many are asked


@dataclass(frozen=True, eq=False)
class Source:
    """A model that keeps the contract, where it lies, and what a person should hear of how it came to."""

    card: ModelCard
    model: SavedModel
    folder: Path
    is_own: bool
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def open_source(model: Path, *, scratch: Path, photos: Path | None = None, labels: tuple[str, ...] | None = None,
                scale: str = AUTO, fit: FitPolicy | None = None, size_hw: tuple[int, int] | None = None,
                unlock: tuple[str, ...] = ()) -> Source:
    """Open what `convert` was given.

    Args:
        model: a folder of train; or a SavedModel of Keras or TF-Hub, a `.keras` or an `.h5` file.
        scratch: a folder, in which the wrapped SavedModel of a foreign model is written.
        photos: labelled photos; a foreign model needs them.
        labels: of a foreign model, in the order of its outputs; by default the names of the photos' folders, sorted.
        scale: the range of pixels that a foreign model takes, a name of `SCALES`, or "auto": it is measured.
        fit: how a foreign model's photos are brought to its size; by default "center_crop".
        size_hw: the input size of a foreign model that takes any.
        unlock: the labels for which a door may open.

    Raises:
        ModelCardError: no model, a damaged one, one that does not take a picture, or one at odds with its labels.
        PhotosError: no photos to find out with.
        MissingExtraError: TensorFlow, or the Keras that wrote the file, is not installed.
    """
    if not model.is_file() and ((model / CARD_NAME).is_file() or not model.is_dir()):
        if named := [name for name, value in (("--labels", labels), ("--scale", scale != AUTO), ("--fit", fit),
                                              ("--image-size", size_hw), ("--unlock", unlock)) if value]:
            raise ModelCardError(f"the card in {model} says what {named[0]} would; leave out {' and '.join(named)}")
        card = read_card(model)
        return Source(card, SavedModel(model, card), model, is_own=True)
    return _foreign(model, scratch / "source", photos, labels, scale, fit or "center_crop", size_hw, unlock)


def bundle_folder(model: Path) -> Path:
    """Where the bundle goes unless `-o` names a place: `edge/` in a folder, `<stem>-edge/` beside a file."""
    return model.with_name(f"{model.stem}-edge") if model.is_file() else model / "edge"


def read_labels(text: str) -> tuple[str, ...]:
    """Labels in the order of outputs: `cat,dog`, or the name of a file with one a line.

    Raises:
        ModelCardError: an empty label, one that comes twice, or a file that is no text.
    """
    try:
        lines = Path(text).read_text(encoding="utf-8").splitlines() if Path(text).is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelCardError(f"expected one label a line in {text} ({error}); save it as UTF-8 text") from error
    labels = tuple(line.strip() for line in lines)
    while labels and not labels[-1]:
        labels = labels[:-1]
    if len(labels) < 2 or "" in labels or len(set(labels)) < len(labels):
        raise ModelCardError(f"expected at least two labels, all different, got {list(labels)} from {text!r}; name cat,dog")
    return labels


def _foreign(model: Path, folder: Path, photos: Path | None, labels: tuple[str, ...] | None, scale: str, fit: FitPolicy,
             size_hw: tuple[int, int] | None, unlock: tuple[str, ...]) -> Source:
    photos = _required_photos(model, photos)
    if scale not in SCALE_NAMES:
        raise ModelCardError(f"a range of pixels is one of {', '.join(SCALE_NAMES)}, got {scale!r}; choose among them")
    graph = load_graph(model, size_hw=size_hw)
    sentences = [f"{model.name}: {graph.kind}, pictures of {graph.size_hw[1]}×{graph.size_hw[0]} pixels, {fit}"]
    if graph.is_size_assumed:
        sentences.append("it takes pictures of any size: this one is assumed, and --image-size says another")
    if labels is None:
        labels = _folder_names(photos)
        sentences.append(f"labels are the photos' folders, sorted, as Keras does it: {', '.join(labels)}")
    output, embedding = _choose_outputs(graph, labels, model)
    name = model.resolve().stem if model.is_file() else model.resolve().name
    card = ModelCard(name, labels, InputSpec(graph.size_hw, fit), unlock=unlock)
    trial, is_logits, found = _measure(graph, output, card, model, photos, scale)
    card = replace(card, provenance={"model": graph.kind, "pixels": SCALES[trial.scale].words})
    sentences += [*found, _write(graph, output, embedding, trial.scale, is_logits, folder)]
    if unlock:
        sentences.append("the card has no operating point, since train did not measure one: a door cannot open by it yet")
    warning = label_warning(trial, labels)
    return Source(
        card, SavedModel(folder, card), folder, is_own=False, sentences=tuple(sentences),
        warnings=() if warning is None else (f"warning: {warning}",),
    )


def _required_photos(model: Path, photos: Path | None) -> Path:
    """The photos, without which a foreign model says too little of itself; before that, whether it may be a model at all."""
    if model.is_file() and model.suffix not in KERAS_SUFFIXES:
        raise ModelCardError(f"expected a folder, a .keras or an .h5 file, got {model}; export the model as a SavedModel")
    if model.is_dir() and not (model / "saved_model.pb").is_file():
        raise ModelCardError(
            f"{model} holds no {CARD_NAME} and no saved_model.pb; name the folder that `train -o` or model.export wrote"
        )
    if photos is None:
        where = f"{model} holds no {CARD_NAME}" if model.is_dir() else f"{model} comes without a {CARD_NAME}"
        raise ModelCardError(
            f"{where}, so its labels and its range of pixels are unknown; add --photos DIR with a folder of photos for each "
            "label, and --labels in the order of its outputs"
        )
    return photos


def _folder_names(photos: Path) -> tuple[str, ...]:
    return tuple(sorted({photo.label for photo in chain.from_iterable(list_splits(photos).values())}))


def _choose_outputs(graph: Graph, labels: tuple[str, ...], model: Path) -> tuple[int, int | None]:
    """The output with a score for each label, and another of one row of numbers for the embedding, if there is one."""
    shapes = graph.shapes
    rows = [i for i, shape in enumerate(shapes) if len(shape) == 2]
    fitting = [i for i in rows if shapes[i][1] == len(labels) or (shapes[i][1] == 1 and len(labels) == 2)]
    named = [i for i in fitting if graph.output_names[i] == OutputSpec().class_scores]
    if len(fitting) != 1 and len(named) != 1:
        have = ", ".join(
            f"{'×'.join(map(str, shape[1:]))} ({name})" for name, shape in zip(graph.output_names, shapes, strict=True)
        )
        rule = f"one output must give a score for each of the {len(labels)} labels ({', '.join(labels)})"
        raise ModelCardError(f"{rule}, but {model} gives {have or 'nothing'}; name its labels, in its order, with --labels")
    output = (named or fitting)[0]
    others = [i for i in rows if i != output and i not in fitting]
    return output, others[0] if len(others) == 1 else None


def _measure(graph: Graph, output: int, card: ModelCard, model: Path, photos: Path,
             scale: str) -> tuple[Trial, bool, list[str]]:
    """Run the graph on labelled photos that will not judge it: its range of pixels, and whether it gives logits."""
    if graph.takes_bytes and scale not in {AUTO, "255"}:
        raise ModelCardError(f"{model} takes bytes, so pixels of 0..255, not --scale {scale}; leave it out")
    names = ["255"] if graph.takes_bytes else list(SCALES) if scale == AUTO else [scale]
    why = "its input is uint8" if graph.takes_bytes else "as --scale says"
    usable = _usable(card, model, photos)

    def attempt(most: int) -> tuple[Trial, bool, list[str]]:
        pixels, truth = _fitted(balanced(usable, most), card, photos)
        kind, by_scale = as_probabilities({name: graph.run(pixels, SCALES[name])[output] for name in names}, len(card.labels))
        trial, sentence = find_scale(by_scale, truth) if len(names) > 1 else named_scale(by_scale, truth, why)
        added = ", to which a softmax was added" if kind == "logits" else ""
        return trial, kind == "logits", [sentence, f"its output {graph.output_names[output]!r} holds {kind}{added}"]

    try:
        return attempt(PHOTOS_TRIED)
    except UnsureScaleError:
        if len(usable) <= PHOTOS_TRIED:
            raise
        return attempt(4 * PHOTOS_TRIED)


def _usable(card: ModelCard, model: Path, photos: Path) -> list[Photo]:
    """Photos with a label of the model that are not held out."""
    found = find_photos(model, photos, card)
    if usable := [photo for photo in (*found.calibration, *found.others) if photo.label in card.labels]:
        return usable
    raise PhotosError(f"{photos} must have photos to calibrate with in folders named {', '.join(card.labels)}; rename them")


def _fitted(photos: list[Photo], card: ModelCard, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    spec, set_aside = card.input, list[SetAside]()
    read = [(photo.label, fit_image(image, spec.size_hw, policy=spec.fit)) for photo, image in read_photos(photos, set_aside)]
    if not read:
        raise PhotosError(f"no photo of {folder} could be read: {set_aside[0].reason}")
    return np.stack([pixels for _, pixels in read]), np.array([card.labels.index(label) for label, _ in read])


def _write(graph: Graph, output: int, embedding: int | None, scale: str, is_logits: bool, folder: Path) -> str:
    """Write the wrapped graph as a SavedModel of the contract; says what its embedding is."""
    tf = heavy("tensorflow")
    scores = graph.function.outputs[output]
    features, origin = _features(graph, output, embedding)
    inner = graph.function.prune(graph.function.inputs[0], [scores, features])
    names = OutputSpec()

    def serve(pixels: Any) -> dict[str, Any]:
        values, vector = inner(SCALES[scale](pixels))
        values.set_shape((graph.batch, *graph.shapes[output][1:]))
        flat = vector if vector.shape.rank == 2 else tf.reshape(vector, (-1, vector.shape[-1]))
        return {
            names.class_scores: tf.identity(_softmax(values, is_logits), names.class_scores),
            names.embedding: tf.identity(tf.cast(flat, tf.float32), names.embedding),
        }

    module, spec = tf.Module(), tf.TensorSpec((graph.batch, *graph.size_hw, 3), tf.float32, name="pixels")
    module.serve = tf.function(serve, input_signature=[spec])
    with quiet():
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return origin


def _features(graph: Graph, output: int, embedding: int | None) -> tuple[Any, str]:
    if embedding is not None:
        tensor = graph.function.outputs[embedding]
        if tensor.shape.rank == 2 and tensor.shape[-1]:
            return tensor, f"its embedding is the output {graph.output_names[embedding]!r}, {tensor.shape[-1]} numbers"
    tensor = graph.embedding(output)
    if tensor is not None:
        name = tensor.op.name.rpartition("PartitionedCall/")[2]
        return tensor, f"its embedding is what enters the last layer, {tensor.shape[-1]} numbers ({name})"
    return graph.logits(output), "it ends in no dense layer, so what enters the softmax is its embedding: strangers show less"


def _softmax(values: Any, is_logits: bool) -> Any:
    """Probabilities (n, k) in the graph; of one score for two labels both, as `scaling.to_probabilities` does."""
    tf = heavy("tensorflow")
    values = tf.cast(values, tf.float32)
    if values.shape[-1] == 1:
        values = tf.concat([tf.zeros_like(values) if is_logits else 1 - values, values], 1)
    return tf.nn.softmax(values) if is_logits else values
