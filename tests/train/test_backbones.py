"""Backbones: how each is laid out and scaled, where its weights come from, and what is refused in one sentence."""

from __future__ import annotations

import io
import socket
import urllib.request
from types import SimpleNamespace

import numpy as np
import pytest

from pawlatch import scene
from pawlatch.errors import PawlatchError, WeightsError
from pawlatch.image import fit, read_image

tf = pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train import backbones, families, layers, weights  # noqa: E402
from pawlatch_train.families import BACKBONES, IMAGENET_STD  # noqa: E402
from pawlatch_train.features import Weights  # noqa: E402
from pawlatch_train.keras import keras  # noqa: E402

SIZE = 64
FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{}_224_no_top.h5"
# name -> channels of the maps, the layer after which pixels are scaled, how keras.applications calls this scaling
FAMILIES = {
    "mobilenet_v2": (1280, "scale_to_plus_minus_one", "tf"),
    "mobilenet_v3_small": (576, "rescaling", "tf"),
    "mobilenet_v3_large": (960, "rescaling", "tf"),
    "efficientnet_b0": (1280, "normalization", "torch"),
    "vgg16": (512, "scale_caffe_bgr", "caffe"),
}


def open_backbone(name, *, weights="auto", width=None, size=None, target="desktop", cut_at=None):
    return backbones.open_backbone(name, weights=weights, width=width, size=size, target=target, cut_at=cut_at)


def drawn(size=SIZE, count=2):
    rng = np.random.default_rng(1)
    return np.stack([scene.draw(rng, scene.OWN, light=scene.LIGHTS[0], size_hw=(size, size)) for _ in range(count)]).astype(np.float32)


def enlivened(model):
    """Batch norm with statistics: at its initial ones random networks give next to nothing."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, *rest = layer.get_weights()
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in (gamma, *rest)])
    return model


@pytest.fixture(scope="module", params=[
    name if name in ("mobilenet_v2", "vgg16") else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES
])
def family(request):
    backbone = open_backbone(request.param, weights="none", width=0.35 if request.param == "mobilenet_v2" else None, size=SIZE)
    enlivened(backbone.model)
    return backbone


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine with no weights and no network."""
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tmp_path


# --- the families ---


def test_each_family_is_one_flat_network_from_pixels_to_maps(family):
    assert set(BACKBONES) == set(FAMILIES)
    channels, _, _ = FAMILIES[family.name]
    assert family.model.input_shape == (None, SIZE, SIZE, 3)
    assert family.model.output_shape == (None, SIZE // 32, SIZE // 32, channels)
    assert not any(isinstance(layer, keras.Model) for layer in family.model.layers)
    assert family.model(drawn()).numpy().std() > 0
    assert (family.weights.source, family.size, family.default_fine_tune_at) == ("none", SIZE, 0)


def test_each_family_scales_its_pixels_as_keras_applications_does(family):
    _, scaling, mode = FAMILIES[family.name]
    scaled = keras.Model(family.model.input, layers.output_of(family.model, scaling))(drawn())
    official = keras.applications.imagenet_utils.preprocess_input(drawn(), mode=mode, data_format="channels_last")
    np.testing.assert_allclose(scaled, official, rtol=0, atol=2e-6)


def test_each_family_cut_in_two_gives_what_the_whole_gives_to_the_bit(family):
    cuts = layers.cut_points(family.model)
    whole = family.model(drawn()).numpy()
    usual = layers.cut_before(family.model, layers.trainable_from(family.model, BACKBONES[family.name].fine_tune_at))
    for name in (cuts[0], usual, cuts[-2], cuts[-1]):
        stem, upper = layers.split_model(family.model, name)
        assert np.array_equal(upper(stem(drawn())), whole), name
        assert stem.count_params() + upper.count_params() == family.model.count_params()


def test_scaling_is_never_trained(family):
    trained = layers.trainable_from(family.model, 0, batch_norm_frozen=False)
    assert not {layer.name for layer in trained} & {"scale_caffe_bgr", "normalization", "rescaling"}
    assert trained[0].name in {"Conv1", "Conv", "stem_conv", "block1_conv1"}
    assert max(map(len, layers.list_layers(family.model, trained).splitlines())) <= 100


def test_each_family_begins_fine_tuning_where_maps_are_a_sixteenth(family):
    first = layers.trainable_from(family.model, BACKBONES[family.name].fine_tune_at)[0]
    index = family.model.layers.index(first)
    sides = [layers.output_of(family.model, layer.name).shape[1] for layer in family.model.layers[:index]]
    assert min(side for side in sides if side > 1) in (SIZE // 8, SIZE // 16)


def test_a_file_of_weights_comes_back_whole(family, tmp_path):
    """As Keras writes it, hence without our scaling; and as the starter is kept."""
    model = family.model
    expected = model(drawn()).numpy()
    core = weights._without_scaling(model)
    core.save_weights(tmp_path / "kept.h5")
    core.set_weights([np.ones_like(value) for value in core.get_weights()])
    assert not np.array_equal(model(drawn()), expected)
    weights.load_weights(model, Weights("file", str(tmp_path / "kept.h5"), None, SIZE))
    assert np.array_equal(model(drawn()), expected)
    if family.name == "mobilenet_v2":
        weights.save_npz(core, tmp_path / "kept.npz")
        weights.load_weights(model, Weights("file", str(tmp_path / "kept.npz"), None, SIZE))
        assert np.corrcoef(model(drawn()).numpy().ravel(), expected.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("variance", [IMAGENET_STD, np.square(IMAGENET_STD), (0.3, 0.3, 0.3)])
def test_deviations_for_variances_in_efficientnets_file_are_mended_and_nothing_else(tmp_path, variance):
    def model():
        return keras.Sequential([keras.layers.Normalization(input_shape=(8, 8, 3)), keras.layers.Conv2D(1, 1)])

    official, opened = model(), model()
    families.set_variance(official.layers[0], variance)
    official.save_weights(tmp_path / "official.h5")
    weights.load_weights(opened, Weights("file", str(tmp_path / "official.h5"), None, SIZE))
    expected = np.square(IMAGENET_STD) if variance is IMAGENET_STD else variance
    np.testing.assert_allclose(opened.layers[0].get_weights()[1], expected, rtol=1e-6)
    np.testing.assert_allclose(np.squeeze(opened.layers[0].variance), expected, rtol=1e-6)


# --- weights ---


@pytest.mark.parametrize(("name", "target", "width", "expected"), [
    ("mobilenet_v2", "pi-zero2", None, 0.35), ("mobilenet_v2", "pi5", None, 1.0), ("mobilenet_v2", "pi-zero2", 0.5, 0.5),
    ("mobilenet_v3_small", "pi-zero2", None, 1.0), ("vgg16", "pi5", None, None),
])
def test_the_target_picks_the_width(name, target, width, expected):
    assert backbones.find_weights(name, "none", width=width, size=None, target=target).width == expected


def test_auto_takes_the_starter_loudly_where_nothing_else_can_be_had(nowhere, caplog):
    backbone = open_backbone("mobilenet_v2")
    assert (backbone.weights.source, backbone.size, backbone.default_fine_tune_at) == ("starter", 128, 0)
    assert backbone.weights.width == 0.35
    assert "no route to host" in caplog.text
    kernels = [value for value in backbone.model.get_weights() if value.ndim == 4]
    assert all(np.isfinite(kernel).all() and kernel.std() > 0 for kernel in kernels)


@pytest.mark.parametrize(("name", "given", "words"), [
    ("mobilenet_v2", {"weights": "imagenet"}, "--weights starter"),
    ("mobilenet_v2", {"width": 1.4}, "cannot be downloaded"),
    ("mobilenet_v2", {"weights": "imagenet", "width": 0.6}, "widths 0.35, 0.5"),
    ("mobilenet_v2", {"weights": "starter", "width": 0.5}, "width 0.35"),
    ("mobilenet_v3_small", {}, "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5"),
    ("mobilenet_v3_large", {"width": 0.75}, "weights_mobilenet_v3_large_224_0.75_float_no_top_v2.h5"),
    ("mobilenet_v3_large", {"width": 0.5}, "widths 0.75, 1.0"),
    ("efficientnet_b0", {}, "--weights none"),
    ("vgg16", {"weights": "starter"}, "none for vgg16"),
    ("vgg16", {"width": 0.5, "weights": "none"}, "one width"),
    ("mobilenet_v2", {"size": 100, "weights": "none"}, "multiple of 32"),
    ("mobilenet_v2", {"width": -1.0, "weights": "none"}, "above 0"),
    ("mobilenet_v2", {"weights": "nowhere.h5"}, "no file nowhere.h5"),
    ("mobilenet_v2", {"cut_at": "block_3_add"}, "--cut-at"),
    ("mobilenet", {}, "mobilenet_v2, mobilenet_v3_small"),
    ("hub:nowhere", {}, "nowhere does not exist"),
    ("hub:x", {"cut_at": "block_3_add"}, "--cut-at"),
    ("hub:x", {"weights": "none"}, "brings its own"),
])
def test_what_cannot_be_had_is_told_in_one_sentence(nowhere, name, given, words):
    with pytest.raises(PawlatchError, match=words) as told:
        open_backbone(name, **given)
    assert "\n" not in str(told.value)
    assert list(nowhere.iterdir()) == []


def test_a_download_is_kept_where_keras_keeps_it(nowhere, monkeypatch):
    asked = []

    def answer(url, timeout):
        asked.append(url)
        return io.BytesIO(weights.HDF5 + b"...")

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    first, again = (backbones.find_weights("vgg16", "imagenet", width=None, size=None, target="pi5") for _ in range(2))
    assert first == again
    assert asked == [f"{families.STORAGE}vgg16/vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"]
    assert [str(path) for path in (nowhere / ".keras" / "models").iterdir()] == [first.origin]


def test_a_page_that_comes_instead_of_weights_is_not_kept(nowhere, monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"<html>please log in"))
    with pytest.raises(WeightsError, match="not HDF5"):
        open_backbone("vgg16")
    assert list(nowhere.rglob("*.h5")) == []


def test_imagenet_weights_of_a_size_are_preferred_and_224_stands_in(nowhere):
    models = nowhere / "keras" / "models"
    models.mkdir(parents=True)
    (models / FILE.format(0.5)).touch()
    found = [backbones.find_weights("mobilenet_v2", "imagenet", width=0.5, size=size, target="pi5") for size in (96, 256)]
    (models / FILE.format(0.5).replace("224", "96")).touch()
    found.append(backbones.find_weights("mobilenet_v2", "imagenet", width=0.5, size=96, target="pi5"))
    assert [one.trained_size for one in found] == [224, 224, 96]


def test_weights_of_another_network_are_refused(tmp_path):
    def network(width):
        return keras.Sequential([keras.layers.Conv2D(width, 1, input_shape=(8, 8, 3))], name="net_0.5")

    narrow, text, archive = (tmp_path / name for name in ("narrow.h5", "text.h5", "archive.npz"))
    network(4).save_weights(narrow)
    text.write_bytes(b"no weights")
    archive.write_bytes(b"PK\x03\x04 no")
    starter = backbones.find_weights("mobilenet_v2", "starter", width=None, size=None, target="pi5").origin
    for path in (narrow, text, archive, starter):
        with pytest.raises(WeightsError, match=r"does not hold the weights of net_0.5 .* same backbone and width") as told:
            weights.load_weights(network(8), Weights("file", str(path), 0.5, SIZE))
        assert "\n" not in str(told.value)


def test_real_weights_give_the_features_that_keras_gives(shared, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(shared / "keras_home"))
    backbone = open_backbone("mobilenet_v2", weights="imagenet", size=96, target="pi-zero2")
    assert (backbone.weights.source, backbone.weights.width, backbone.weights.trained_size) == ("imagenet", 0.35, 224)
    assert backbone.default_fine_tune_at == "block_6"
    official = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=backbone.weights.origin)
    pixels = np.stack([fit(read_image(shared / "data" / "imagenet" / name), (96, 96)) for name in ("grace_hopper.bmp", "parrot.jpg")])
    pixels = pixels.astype(np.float32)
    features = backbone.model(pixels).numpy()
    assert np.array_equal(features, official(pixels * np.float32(1 / 127.5) - 1))
    np.testing.assert_allclose(features, official(keras.applications.mobilenet_v2.preprocess_input(pixels.copy())), atol=1e-3)
    assert 0.05 < (features > 0).mean() < 0.95
    assert np.abs(features[0] - features[1]).max() > 0.1
    assert [layer.name for layer in layers.numbered(backbone.model)[1:]] == [layer.name for layer in official.layers[1:]]


# --- modules of TF-Hub ---


class Module(tf.Module):
    """What a plain SavedModel has: a call and variables, one of which is not trained."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3, 3, 8), (1, 2)))
        self.gain = tf.Variable(2.0, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32)])
    def __call__(self, images):
        return self.gain * tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, self.kernel, 2, "SAME")), (1, 2))


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """Folders: a plain module, one as Keras exports it, and one that has only a signature."""
    folder = tmp_path_factory.mktemp("hub")
    plain = Module()
    tf.saved_model.save(plain, str(folder / "plain"))

    pixels = keras.Input((None, None, 3))
    maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, strides=2)(pixels))
    keras.Model(pixels, maps).save(folder / "keras", save_format="tf")

    bare = tf.Module()
    bare.inner = plain
    signature = tf.function(lambda images: {"default": plain(images), "images": images})
    spec = tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="images")
    tf.saved_model.save(bare, str(folder / "signature"), signatures=signature.get_concrete_function(spec))

    both = tf.function(lambda images: {"one": plain(images), "two": images})
    tf.saved_model.save(tf.Module(), str(folder / "empty"))
    tf.saved_model.save(bare, str(folder / "pair"), signatures=both.get_concrete_function(spec))
    return SimpleNamespace(folder=folder, plain=plain)


@pytest.mark.parametrize(("name", "shape", "trainable", "frozen"), [
    ("plain", (8,), 1, 1), ("keras", (31, 31, 8), 4, 2), ("signature", (8,), 0, 0),
])
def test_a_module_is_frozen_or_fine_tuned_as_one_layer(modules, name, shape, trainable, frozen):
    backbone = open_backbone(f"hub:{modules.folder / name}", size=SIZE)
    model = backbone.model
    assert model.output_shape == (None, *shape)
    assert (backbone.size, backbone.weights.source) == (SIZE, "hub")
    trained = layers.trainable_from(model, backbone.default_fine_tune_at)
    assert [len(layer.trainable_weights) + len(layer.non_trainable_weights) for layer in trained] == (
        [trainable + frozen] if trainable else []
    )

    model.trainable = False
    before = model(drawn()).numpy()
    assert model.trainable_weights == []
    model.trainable = True
    for layer in model.layers:
        layer.trainable = layer in trained
    assert len(model.trainable_weights) == trainable
    if trainable:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(drawn(), training=True) ** 2)
        gradients = tape.gradient(loss, model.trainable_weights)
        assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in gradients)
        keras.optimizers.SGD(1e-6).apply_gradients(zip(gradients, model.trainable_weights, strict=True))
        assert not np.array_equal(model(drawn()), before)


def test_a_module_sees_pixels_between_0_and_1(modules):
    backbone = open_backbone(f"hub:{modules.folder / 'plain'}")
    assert backbone.size == SIZE
    assert np.array_equal(backbone.model(drawn()), modules.plain(drawn() * np.float32(1 / 255)))


def test_a_module_becomes_part_of_the_saved_model(modules, tmp_path):
    model = open_backbone(f"hub:{modules.folder / 'plain'}").model
    tf.saved_model.save(model, str(tmp_path / "saved"), signatures=tf.function(model).get_concrete_function(
        tf.TensorSpec((None, SIZE, SIZE, 3), tf.float32, name="image")))
    (reloaded,) = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](image=drawn()).values()
    assert np.array_equal(reloaded, model(drawn()))


@pytest.mark.parametrize(("name", "size", "words"), [
    ("plain", 96, "takes pictures of side 64, got --image-size 96"),
    ("pair", None, "gives one, two"), ("empty", None, "neither a call nor a signature"),
    ("", None, "cannot be had"),
])
def test_a_module_that_cannot_be_used_is_refused(modules, name, size, words):
    with pytest.raises(PawlatchError, match=words) as told:
        open_backbone(f"hub:{modules.folder / name}", size=size)
    assert "\n" not in str(told.value)


def test_a_handle_that_cannot_be_reached_is_refused_and_never_waited_for_long(nowhere, monkeypatch):
    patience = []

    def refuse(*_, **__):
        patience.append(socket.getdefaulttimeout())
        raise OSError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(nowhere / "hub"))
    with pytest.raises(WeightsError, match=r"tfhub.dev/google/.* cannot be had from TF-Hub \(no route .* TFHUB_CACHE_DIR") as told:
        open_backbone("hub:https://tfhub.dev/google/imagenet/mobilenet_v2_035_224/feature_vector/5")
    assert "\n" not in str(told.value)
    assert patience == [weights.TIMEOUT_S]
    assert socket.getdefaulttimeout() is None


# --- models ---


@pytest.fixture(scope="module")
def users(tmp_path_factory):
    """A model in the manner of the tutorials, with nested parts, in every format; and what its parts give."""
    folder = tmp_path_factory.mktemp("models")
    inside = keras.Input((SIZE, SIZE, 3))
    maps = keras.layers.Conv2D(8, 3, strides=2, padding="same", name="first", activation="relu")(inside)
    side = keras.layers.Conv2D(8, 3, padding="same", name="side")(maps)
    maps = keras.layers.Add(name="joined")([maps, side])
    maps = keras.layers.Conv2D(12, 3, strides=2, padding="same", name="last")(maps)
    base = keras.Model(inside, maps, name="base")
    pixels = keras.Input((SIZE, SIZE, 3))
    x = keras.Sequential([keras.layers.RandomFlip()], name="augment")(pixels)
    x = base(x / 127.5 - 1, training=False)
    x = keras.layers.GlobalAveragePooling2D(name="pooled")(x)
    x = keras.layers.Dense(5, activation="relu", name="hidden")(x)
    model = keras.Model(pixels, keras.layers.Dense(3, name="logits")(x))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save(folder / "saved", save_format="tf")
    model.save(folder / "lean", save_format="tf", save_traces=False)
    model.save_weights(folder / "weights.h5")
    tf.saved_model.save(model, str(folder / "foreign"))
    (folder / "text.keras").write_text("no model")
    return SimpleNamespace(folder=folder, model=model, base=base)


@pytest.mark.parametrize("file", ["model.keras", "model.h5", "saved", "lean"])
def test_a_model_in_any_format_is_cut_at_a_layer_within_its_parts(users, file):
    whole, cut = (open_backbone(str(users.folder / file), cut_at=at) for at in ("hidden", "joined"))
    expected = keras.Model(users.model.input, users.model.get_layer("hidden").output)
    assert np.array_equal(whole.model(drawn()), expected(drawn(), training=False))
    expected = keras.Model(users.base.input, users.base.get_layer("joined").output)
    assert np.array_equal(cut.model(drawn()), expected(drawn() / np.float32(127.5) - 1))
    assert not any(isinstance(layer, keras.Model | keras.layers.RandomFlip) for layer in cut.model.layers)
    assert (cut.size, cut.weights.source, cut.weights.trained_size) == (SIZE, "model", SIZE)


def test_a_model_is_cut_at_its_last_maps_unless_told_and_laid_out_for_another_size(users):
    path = str(users.folder / "model.keras")
    assert open_backbone(path).model.output_shape == (None, SIZE // 4, SIZE // 4, 12)
    larger = open_backbone(path, size=96)
    assert larger.model.output_shape == (None, 24, 24, 12)
    assert larger.weights.trained_size == SIZE


@pytest.mark.parametrize(("layer", "mode"), [("block1_conv1", "caffe"), ("block_1_expand", "tf"), ("conv_dw_1", "tf")])
def test_a_model_without_scaling_gets_that_of_its_family_once(tmp_path, caplog, layer, mode):
    model = keras.Sequential([keras.layers.Conv2D(4, 3, name=layer, input_shape=(SIZE, SIZE, 3))])
    model.save(tmp_path / "bare.h5")
    opened = open_backbone(str(tmp_path / "bare.h5"))
    official = keras.applications.imagenet_utils.preprocess_input(drawn(), mode=mode, data_format="channels_last")
    np.testing.assert_allclose(opened.model(drawn()), model(official), atol=1e-4)
    assert caplog.text == ""
    opened.model.save(tmp_path / "again.keras")
    assert np.array_equal(open_backbone(str(tmp_path / "again.keras")).model(drawn()), opened.model(drawn()))


def test_a_model_of_unknown_scaling_is_given_pixels_as_they_are_and_says_so(tmp_path, caplog):
    model = keras.Sequential([keras.layers.Conv2D(4, 3, input_shape=(SIZE, SIZE, 3)), keras.layers.Flatten(),
                              keras.layers.Dense(7, name="hidden"), keras.layers.Dense(2)], name="mine")
    model.save(tmp_path / "mine.keras")
    opened = open_backbone(str(tmp_path / "mine.keras"))
    assert np.array_equal(opened.model(drawn()), model.layers[0](drawn()))
    assert caplog.text.count("mine has no scaling that pawlatch knows") == 1
    assert open_backbone(str(tmp_path / "mine.keras"), cut_at="hidden").model.output_shape == (None, 7)
    with pytest.raises(PawlatchError, match="cannot be laid out for pictures of side 96"):
        open_backbone(str(tmp_path / "mine.keras"), cut_at="hidden", size=96)


@pytest.mark.parametrize(("file", "cut_at", "words"), [
    ("model.keras", "joinde", "did you mean joined"),
    ("model.keras", "side", "the next that can is joined"),
    ("weights.h5", None, r"\(No model config found in the file\); weights alone go to --weights"),
    ("foreign", None, "--backbone hub:"),
    ("text.keras", None, "no model that Keras 2 can load"),
])
def test_a_model_that_cannot_be_used_is_refused(users, file, cut_at, words):
    with pytest.raises(PawlatchError, match=words) as told:
        open_backbone(str(users.folder / file), cut_at=cut_at)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("shape", [(SIZE, SIZE, 1), (7,)])
def test_a_model_that_takes_no_colour_pictures_is_refused(tmp_path, shape):
    keras.Sequential([keras.layers.Flatten(input_shape=shape), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    with pytest.raises(PawlatchError, match="takes pictures"):
        open_backbone(str(tmp_path / "m.keras"))


def test_a_model_of_pawlatch_is_no_hub_module(tmp_path):
    (tmp_path / "pawlatch.json").write_text("{}")
    with pytest.raises(PawlatchError, match="give it as --backbone"):
        open_backbone(f"hub:{tmp_path}")
