"""Models that others trained: each kind opens, its range of pixels is found, and its wrapped graph decides as it did."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pawlatch.card import CARD_NAME
from pawlatch.errors import MissingExtraError, ModelCardError, PhotosError
from pawlatch.image import read_image
from pawlatch.photos import list_splits
from pawlatch.quiet import quiet
from pawlatch_convert import sources
from pawlatch_convert.heavy import heavy
from pawlatch_convert.photoset import balanced, calibration_photos, find_photos
from pawlatch_convert.sources import Source, bundle_folder, open_source, read_labels

from .conftest import LABELS, SIZE_HW, WIDTHS, build_graph, fit_head, save_photos

N_PHOTOS = 24
SHADES = ("bright", "dark", "grey")
KINDS = ("keras2", "keras3", "file2", "file3", "legacy3", "hub")


@dataclass(frozen=True)
class Zoo:
    """Three trained models as six kinds of file, and what each gives in the units that it was trained with."""

    folder: Path
    photos: Path
    pixels: np.ndarray
    expected: dict[str, np.ndarray]

    def path(self, kind: str) -> Path:
        return self.folder / {"file2": "file2.h5", "file3": "file3.keras", "legacy3": "legacy3.h5"}.get(kind, kind)


SCALE_OF = {
    "keras2": "plus-minus-one", "file2": "plus-minus-one", "keras3": "255", "file3": "255", "legacy3": "255", "hub": "unit",
}
TRAINED_ON: dict[str, Callable[[Any], Any]] = {
    "plus-minus-one": lambda pixels: pixels / 127.5 - 1,
    "255": lambda pixels: pixels,
    "unit": lambda pixels: pixels / 255,
}


def save_shades(folder: Path, n: int) -> None:
    """Noise around black, grey or white: what no model can know that gets them in another range of numbers."""
    rng = np.random.default_rng(5)
    for shade, level in zip(SHADES, (220, 35, 128), strict=True):
        (folder / shade).mkdir(parents=True)
        for i in range(n):
            noise = np.clip(rng.normal(level + rng.uniform(-20, 20), 30, (*SIZE_HW, 3)), 0, 255)
            cv2.imwrite(str(folder / shade / f"{i:02}.png"), noise.astype(np.uint8))


def load_shades(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    photos = list_splits(folder)[""]
    return np.stack([read_image(photo.path) for photo in photos]), np.array([SHADES.index(photo.label) for photo in photos])


def train_keras(keras: Any, inputs: np.ndarray, truth: np.ndarray, *, rescale: bool) -> Any:
    """Two strided convolutions, pooling and a head, after 40 steps."""
    keras.utils.set_random_seed(3)
    layers = keras.layers
    picture = keras.Input((*SIZE_HW, 3))
    features = layers.Rescaling(1 / 127.5, -1)(picture) if rescale else picture
    for width in (8, 16):
        features = layers.Conv2D(width, 3, 2)(features)
        features = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.7)(features))
    features = layers.Dropout(0.1)(layers.GlobalAveragePooling2D()(features))
    model = keras.Model(picture, layers.Dense(len(SHADES), activation="softmax", name="answer")(features))
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(inputs, truth, batch_size=len(truth) // 4, epochs=10, verbose=0)
    return model


def hub_module(pixels: np.ndarray, truth: np.ndarray) -> Any:
    """A module with no signature that takes any size of [0, 1] and gives logits."""
    tf = heavy("tensorflow")
    trained = build_graph()
    fit_head(trained, pixels, truth)

    class Module(tf.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.kernels, self.head = trained.kernels, trained.head

        @tf.function
        def __call__(self, images: Any, training: bool = False) -> Any:
            features = images * 2 - 1
            for kernel in self.kernels:
                features = tf.nn.relu6(tf.nn.conv2d(features, kernel, 2, "SAME"))
            features = tf.reduce_mean(features, [1, 2])
            return tf.matmul(tf.nn.dropout(features, 0.5) if training else features, self.head[:-1]) + self.head[-1]

    module = Module()
    for training in (True, False):
        module.__call__.get_concrete_function(tf.TensorSpec((None, None, None, 3), tf.float32, "images"), training=training)
    return module


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    folder = tmp_path_factory.mktemp("zoo")
    save_shades(folder / "photos", N_PHOTOS)
    pixels, truth = load_shades(folder / "photos")
    floats = pixels.astype(np.float32)
    tf, keras2, keras3 = heavy("tensorflow"), heavy("tf_keras"), heavy("keras")
    with quiet():
        second = train_keras(keras2, TRAINED_ON["plus-minus-one"](floats), truth, rescale=False)
        second.save(folder / "keras2")
        second.save(folder / "file2.h5")
        third = train_keras(keras3, floats, truth, rescale=True)
        third.export(str(folder / "keras3"), verbose=False)
        third.save(folder / "file3.keras")
        third.save(folder / "legacy3.h5")
        hub = hub_module(pixels, truth)
        tf.saved_model.save(hub, str(folder / "hub"))
        of_second = second(TRAINED_ON["plus-minus-one"](floats), training=False).numpy()
        of_third = np.asarray(third(floats, training=False))
        of_hub = tf.nn.softmax(hub(tf.constant(floats / 255))).numpy()
    expected = {"keras2": of_second, "file2": of_second, "hub": of_hub}
    expected |= dict.fromkeys(("keras3", "file3", "legacy3"), of_third)
    return Zoo(folder, folder / "photos", pixels, expected)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of red, green and blue blobs, which their mean colour tells apart in any range."""
    folder = tmp_path_factory.mktemp("colours")
    save_photos(folder, N_PHOTOS, seed=5)
    return folder


@pytest.fixture(scope="session")
def opened(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Source]:
    """Each kind of model, opened once."""
    known: dict[str, Source] = {}

    def open_once(kind: str) -> Source:
        if kind not in known:
            size_hw = SIZE_HW if kind == "hub" else None
            scratch = tmp_path_factory.mktemp(kind)
            known[kind] = open_source(zoo.path(kind), scratch=scratch, photos=zoo.photos, labels=SHADES, size_hw=size_hw)
        return known[kind]

    return open_once


# ------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("kind", KINDS)
def test_the_wrapped_model_decides_as_the_original(kind: str, zoo: Zoo, opened: Callable[[str], Source]) -> None:
    source = opened(kind)
    scores, embeddings = source.model.outputs(zoo.pixels)
    assert np.abs(scores - zoo.expected[kind]).max() <= 1e-5
    assert (zoo.expected[kind].argmax(1) == np.repeat(range(len(SHADES)), N_PHOTOS)).mean() > 0.8, "it has learned something"
    assert embeddings.shape == (len(zoo.pixels), WIDTHS[-1] if kind == "hub" else 16)
    assert np.ptp(embeddings, axis=0).max() > 0
    assert (source.card.labels, source.card.input.size_hw, source.is_own) == (SHADES, SIZE_HW, False)
    assert (source.folder / "saved_model.pb").is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_its_range_of_pixels_is_found_and_said(kind: str, opened: Callable[[str], Source]) -> None:
    words = {"255": "0..255", "unit": "0..1", "plus-minus-one": "-1..1"}[SCALE_OF[kind]]
    said = "\n".join(opened(kind).sentences)
    assert f"takes pixels as {words}: " in said
    assert " photos right, against " in said
    assert f"holds {'logits' if kind == 'hub' else 'probabilities'}" in said
    assert opened(kind).warnings == ()


def test_what_is_said_of_a_keras_file(opened: Callable[[str], Source]) -> None:
    said = opened("file3").sentences
    assert said[0] == "file3.keras: a Keras 3 file, pictures of 48×48 pixels, center_crop"
    assert said[-1].startswith("its embedding is what enters the last layer, 16 numbers")
    assert opened("file2").sentences[0].startswith("file2.h5: a Keras 2 file")


def test_without_labels_the_folders_names_are_taken_and_said(zoo: Zoo, tmp_path: Path) -> None:
    source = open_source(zoo.path("file3"), scratch=tmp_path, photos=zoo.photos, unlock=("grey",), fit="stretch")
    assert (source.card.labels, source.card.unlock, source.card.input.fit) == (SHADES, ("grey",), "stretch")
    assert "labels are the photos' folders, sorted, as Keras does it: bright, dark, grey" in source.sentences
    assert "no operating point" in source.sentences[-1]
    assert not source.card.operating_points
    assert source.card.provenance == {"model": "a Keras 3 file", "pixels": "0..255"}


def test_our_own_folder_needs_nothing_else(pristine: Path, tmp_path: Path) -> None:
    source = open_source(pristine, scratch=tmp_path)
    assert (source.card.name, source.is_own, source.folder, source.sentences) == ("blobs", True, pristine, ())
    assert not list(tmp_path.iterdir())


def test_where_the_bundle_goes(tmp_path: Path) -> None:
    (tmp_path / "cats.keras").touch()
    assert bundle_folder(tmp_path / "cats.keras") == tmp_path / "cats-edge"
    assert bundle_folder(tmp_path) == tmp_path / "edge"


# ---------------------------------------------------------------------------------------- sabotage, and what it shows


def test_a_wrong_range_named_by_hand_changes_the_scores(zoo: Zoo, tmp_path: Path) -> None:
    source = open_source(zoo.path("file2"), scratch=tmp_path, photos=zoo.photos, labels=SHADES, scale="255")
    assert np.abs(source.model.outputs(zoo.pixels)[0] - zoo.expected["file2"]).max() > 0.3
    assert any("as 0..255, as --scale says: " in sentence for sentence in source.sentences)


def test_rotated_labels_are_warned_of_with_the_order_that_fits(zoo: Zoo, tmp_path: Path) -> None:
    source = open_source(zoo.path("file2"), scratch=tmp_path, photos=zoo.photos, labels=("grey", "bright", "dark"))
    (warning,) = source.warnings
    assert "labels may be in another order; --labels bright,dark,grey makes it" in warning
    assert "takes pixels as -1..1: " in "\n".join(source.sentences), "the range is found all the same"
    assert np.abs(source.model.outputs(zoo.pixels)[0] - zoo.expected["file2"]).max() <= 1e-5


def test_a_model_no_better_than_chance_is_warned_of(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    guess = module(lambda image: tf_nn().softmax(0 * tf_mean(image)))
    source = open_source(saved(guess, tmp_path / "model"), scratch=tmp_path, photos=colours)
    assert "not clearly better than chance (33%)" in source.warnings[0]


def test_ranges_that_the_photos_do_not_tell_apart_must_be_named(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    loudest = saved(module(lambda image: tf_nn().softmax(tf_mean(image)[:, ::-1])), tmp_path / "model")
    with pytest.raises(ModelCardError, match=r"36 photos do not tell .* --scale 255 or --scale unit or --scale plus-"):
        open_source(loudest, scratch=tmp_path, photos=colours)
    assert not (tmp_path / "source").exists()
    named = open_source(loudest, scratch=tmp_path, photos=colours, scale="unit")
    np.testing.assert_allclose(named.model.outputs(zoo.pixels)[0].sum(1), 1, atol=1e-6)


def test_where_few_photos_do_not_tell_more_are_asked(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "PHOTOS_TRIED", 4)
    source = open_source(zoo.path("file3"), scratch=tmp_path, photos=zoo.photos)
    assert "% of 16 photos right, against " in "\n".join(source.sentences)


def test_a_graph_that_normalises_each_picture_takes_them_as_they_are(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    own = module(lambda image: 4 * tf_mean(tf.image.per_image_standardization(image))[:, ::-1])
    source = open_source(saved(own, tmp_path / "model"), scratch=tmp_path, photos=colours)
    assert "it takes pixels of any range alike, so 0..255" in source.sentences


# ---------------------------------------------------------------------------------------------- shapes of graphs


def tf_nn() -> Any:
    return heavy("tensorflow").nn


def tf_mean(image: Any) -> Any:
    """Each picture's colour: (n, 3)."""
    return heavy("tensorflow").reduce_mean(image, [1, 2])


def module(graph: Callable[..., Any], *specs: Any) -> Any:
    """A module with one traced function `serve`, of a float32 picture unless specs say otherwise."""
    tf = heavy("tensorflow")
    made = tf.Module()
    made.serve = tf.function(graph, input_signature=specs or [tf.TensorSpec((None, *SIZE_HW, 3), tf.float32, name="image")])
    return made


def saved(made: Any, folder: Path) -> Path:
    tf = heavy("tensorflow")
    with quiet():
        outputs = made.serve.get_concrete_function().structured_outputs
        serve = made.serve if isinstance(outputs, dict) else tf.function(
            lambda *inputs: {"scores": made.serve(*inputs)}, input_signature=made.serve.input_signature)
        made.both = serve
        tf.saved_model.save(made, str(folder), signatures={"serving_default": serve})
    return folder


def colours_of_bytes(image: Any) -> Any:
    tf = heavy("tensorflow")
    return tf.nn.softmax(tf_mean(tf.cast(image, tf.float32) / 20)[:, ::-1])


def colours_of_inverted_bytes(image: Any) -> Any:
    return colours_of_bytes(255 - heavy("tensorflow").bitwise.invert(image))


@pytest.mark.parametrize(("graph", "n_casts"), [(colours_of_bytes, 0), (colours_of_inverted_bytes, 2)])
def test_bytes_are_cast_only_where_they_are_used_as_such(graph: Any, n_casts: int, zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    made = module(graph, tf.TensorSpec((1, *SIZE_HW, 3), tf.uint8, name="image"))
    source = open_source(saved(made, tmp_path / "model"), scratch=tmp_path, photos=colours)
    wanted = [made.serve(picture[None])[0] for picture in zoo.pixels[::12]]
    assert np.abs(source.model.outputs(zoo.pixels[::12])[0] - wanted).max() <= 1e-5
    assert "it takes pixels as 0..255, its input is uint8: " in "\n".join(source.sentences)
    definition = source.model.function.get_concrete_function().graph.as_graph_def()
    inner = [node.op for function in definition.library.function for node in function.node_def]
    assert (inner.count("Mean"), inner.count("Cast")) == (1, n_casts)
    with pytest.raises(ModelCardError, match="takes bytes"):
        open_source(tmp_path / "model", scratch=tmp_path, photos=colours, scale="unit")


def test_of_two_outputs_the_one_with_a_score_a_label_is_taken(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    made = module(lambda image: {"a_vector": tf.tile(tf_mean(image), [1, 3]), "logits": tf_mean(image)[:, ::-1] / 9})
    source = open_source(saved(made, tmp_path / "model"), scratch=tmp_path, photos=colours, scale="255")
    scores, embeddings = source.model.outputs(zoo.pixels[:2])
    np.testing.assert_allclose(embeddings, np.tile(zoo.pixels[:2].mean((1, 2)), (1, 3)), atol=1e-3)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-6)
    assert "its embedding is the output 'a_vector', 9 numbers" in source.sentences


def test_without_a_dense_layer_the_logits_stand_for_the_embedding(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    made = module(lambda image: tf_nn().softmax(tf_mean(image)[:, ::-1] / 9))
    source = open_source(saved(made, tmp_path / "model"), scratch=tmp_path, photos=colours, scale="255")
    np.testing.assert_allclose(source.model.outputs(zoo.pixels[:2])[1], zoo.pixels[:2].mean((1, 2))[:, ::-1] / 9, atol=1e-4)
    assert "ends in no dense layer" in source.sentences[-1]


def test_a_classifier_of_convolutions_has_an_embedding(zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    head = np.random.default_rng(0).normal(0, 0.02, (1, 1, 3, 3)).astype(np.float32)
    made = module(lambda image: tf.squeeze(tf.nn.conv2d(tf.reduce_mean(image, [1, 2], keepdims=True), head, 1, "SAME"), [1, 2]))
    source = open_source(saved(made, tmp_path / "model"), scratch=tmp_path, photos=colours, scale="255")
    np.testing.assert_allclose(source.model.outputs(zoo.pixels[:2])[1], zoo.pixels[:2].mean((1, 2)), atol=1e-3)


@pytest.mark.parametrize("ends_in", ["probability", "logit"])
def test_one_score_for_two_labels_becomes_two(ends_in: str, zoo: Zoo, colours: Path, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    for label in LABELS[1:]:
        shutil.copytree(colours / label, tmp_path / "photos" / label)

    def redness(image: Any) -> Any:
        logit = (tf_mean(image)[:, :1] - tf_mean(image)[:, 1:2]) / 5
        return tf.sigmoid(logit) if ends_in == "probability" else logit

    made = module(redness)
    source = open_source(saved(made, tmp_path / "model"), scratch=tmp_path, photos=tmp_path / "photos", scale="255")
    red = 1 / (1 + np.exp(-(zoo.pixels[:, :, :, 0].mean((1, 2)) - zoo.pixels[:, :, :, 1].mean((1, 2))) / 5))
    np.testing.assert_allclose(source.model.outputs(zoo.pixels)[0], np.c_[1 - red, red], atol=1e-4)
    assert (source.card.labels, source.warnings) == (("green", "red"), ())


# ---------------------------------------------------------------------------------------------------- bad input


def refused(path: Path, zoo: Zoo, scratch: Path, message: str, **options: Any) -> None:
    before = sorted(scratch.rglob("*"))
    with pytest.raises(ModelCardError, match=message):
        open_source(path, scratch=scratch, **{"photos": zoo.photos} | options)
    assert sorted(scratch.rglob("*")) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"photos": None}, r"comes without a pawlatch\.json.*add --photos DIR"),
        ({"labels": ("cat", "dog")}, r"each of the 2 labels \(cat, dog\), but .* gives 3 \(output_0\); name its labels"),
        ({"labels": ("bright", "dark", "grey", "violet")}, "each of the 4 labels"),
        ({"scale": "0..1"}, "one of auto, 255, unit, plus-minus-one, got '0..1'"),
        ({"size_hw": (64, 64)}, "takes pictures of 48×48 pixels, not 64×64"),
        ({"unlock": ("tiger",)}, "unlock must name labels"),
    ],
)
def test_options_at_odds_with_the_model(options: dict[str, Any], message: str, zoo: Zoo, tmp_path: Path) -> None:
    refused(zoo.path("file3"), zoo, tmp_path, message, **options)


def test_photos_of_other_labels(zoo: Zoo, tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match=r"named after the card's labels \(a, b, c\)"):
        open_source(zoo.path("file3"), scratch=tmp_path, photos=zoo.photos, labels=("a", "b", "c"))


@pytest.mark.parametrize("option", [{"labels": SHADES}, {"scale": "unit"}, {"unlock": ("red",)}, {"fit": "stretch"}])
def test_our_own_card_is_not_overruled(option: dict[str, Any], pristine: Path, zoo: Zoo, tmp_path: Path) -> None:
    refused(pristine, zoo, tmp_path, f"the card in .* leave out --{next(iter(option))}", **option)


@pytest.mark.parametrize("kind", ["file2", "file3"])
def test_a_truncated_file(kind: str, zoo: Zoo, tmp_path: Path) -> None:
    whole = zoo.path(kind).read_bytes()
    for share in (0.0, 0.5, 0.95):
        (tmp_path / zoo.path(kind).name).write_bytes(whole[: int(share * len(whole))])
        refused(tmp_path / zoo.path(kind).name, zoo, tmp_path, "is not a whole .* copy it again")


def test_a_truncated_saved_model(zoo: Zoo, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(zoo.path("keras3"), tmp_path / "model"))
    graph = (copy / "saved_model.pb").read_bytes()
    (copy / "saved_model.pb").write_bytes(graph[: len(graph) // 2])
    refused(copy, zoo, tmp_path, "no SavedModel that TensorFlow can read")


def test_weights_alone(zoo: Zoo, tmp_path: Path) -> None:
    with heavy("h5py").File(tmp_path / "weights.h5", "w") as file:
        file["kernel"] = np.zeros(3)
    refused(tmp_path / "weights.h5", zoo, tmp_path, "holds weights alone")


def test_a_keras_2_file_without_keras_2(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    with pytest.raises(MissingExtraError, match=r"written by Keras 2; type: pip install tf_keras"):
        open_source(zoo.path("file2"), scratch=tmp_path, photos=zoo.photos)


def test_neither_a_saved_model_nor_a_card(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", zoo, tmp_path, rf"holds no {CARD_NAME} and no saved_model\.pb")
    refused(tmp_path / "nowhere", zoo, tmp_path, "expected a model folder")
    (tmp_path / "model.pt").touch()
    refused(tmp_path / "model.pt", zoo, tmp_path, r"expected a folder, a \.keras or an \.h5 file")


def test_graphs_that_are_none_of_one_picture(zoo: Zoo, tmp_path: Path) -> None:
    tf = heavy("tensorflow")
    spec = tf.TensorSpec
    picture = spec((None, *SIZE_HW, 3), tf.float32, name="image")

    def colours(image: Any, *_: Any) -> Any:
        return tf.reduce_mean(tf.reshape(image, (-1, 3, 3)), 1)

    cases = {
        "expected one input, the picture": [picture, spec((None, 4), tf.float32, name="weather")],
        r"colours before its rows \(NCHW\)": [spec((None, 3, *SIZE_HW), tf.float32, name="image")],
        "expected a model of RGB pictures": [spec((None, 9), tf.float32, name="table")],
        "takes 8 pictures at a time": [spec((8, *SIZE_HW, 3), tf.float32, name="image")],
    }
    for i, (message, specs) in enumerate(cases.items()):
        refused(saved(module(colours, *specs), tmp_path / f"model{i}"), zoo, tmp_path, message)


def test_a_sigmoid_for_each_label(zoo: Zoo, tmp_path: Path) -> None:
    made = module(lambda image: heavy("tensorflow").sigmoid((tf_mean(image)[:, ::-1] - 100) / 20))
    refused(saved(made, tmp_path / "model"), zoo, tmp_path, "as of a sigmoid for each label")


def test_labels_from_a_file_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("나비\n흰둥이\n\n", encoding="utf-8")
    assert read_labels(str(tmp_path / "labels.txt")) == ("나비", "흰둥이")
    assert read_labels("cat, dog") == ("cat", "dog")
    for bad in ("cat", "cat,,dog", "cat,cat", ""):
        with pytest.raises(ModelCardError, match="at least two labels, all different"):
            read_labels(bad)


# ---------------------------------------------------------------------------------------------------- the photos


def test_photos_for_calibration_are_balanced_and_never_judge(zoo: Zoo, opened: Callable[[str], Source], tmp_path: Path) -> None:
    for label, n in zip(SHADES, (24, 8, 4), strict=True):
        for path in sorted((zoo.photos / label).iterdir())[:n]:
            (tmp_path / label).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / label)
    found = find_photos(tmp_path, tmp_path, opened("file3").card)
    assert [sum(photo.label == label for photo in found.calibration) for label in SHADES] == [12, 4, 2]
    assert not set(calibration_photos(found, most=999)) & set(found.heldout)
    assert calibration_photos(found, most=5) == found.calibration[:5]
    assert balanced(found.calibration, 3)[0] in found.calibration
