"""The graph in its parts: what they share, what a training changes and leaves, and what comes back from disk."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from pawlatch import scene
from pawlatch.errors import PawlatchError

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train.backbones import open_backbone
from pawlatch_train.calibrate import softmax
from pawlatch_train.cases import Case
from pawlatch_train.distribute import open_cluster
from pawlatch_train.features import Backbone, Weights
from pawlatch_train.fit import Fitting, predict, prepare
from pawlatch_train.keras import keras, tf
from pawlatch_train.network import OUTPUTS, build_network, divide_logits, runner, save_network
from pawlatch_train.recipe import RecipeError, TrainRecipe
from pawlatch_train.served import FORMATS, Served, save_formats
from pawlatch_train.store import ArrayFile

SIDE, EACH = 64, 6
RECIPE = TrainRecipe(views=1, head_epochs=1, fine_tune_epochs=1, batch=8, early_stopping=0)
TUNE = Case(1, 1e-2, "told to")  # others have found that fine-tuning earns its place


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What `prepare` wants of a dataset: two labels of drawn photos."""
    rng = np.random.default_rng(0)
    images = np.stack([scene.draw(rng, who, light=scene.LIGHTS[0], size_hw=(SIDE, SIDE))
                       for who in (scene.OWN, scene.OTHER) for _ in range(EACH)])
    pixels = ArrayFile(tmp_path_factory.mktemp("drawn") / "pixels", (SIDE, SIDE, 3), np.uint8)
    pixels.append(images)
    return SimpleNamespace(labels=("_other", "rex"), pixels=pixels, large=None, targets=np.repeat([0, 1], EACH), images=images)


@pytest.fixture
def network(tiny_backbone):
    """`network(recipe, fine_tune_at)` on a backbone of its own."""
    def build(recipe=RECIPE, *, at="block_3", labels=2):
        keras.utils.set_random_seed(recipe.seed)
        backbone = open_backbone(str(tiny_backbone), weights="auto", width=None, size=None, target="desktop")
        return build_network(backbone, recipe, labels=labels, fine_tune_at=at)

    return build


def fit(network, drawn, recipe, work, *, teacher=None, case=TUNE):
    """A fitting to every other photo; without a case the rest choose."""
    material = prepare(network, drawn, recipe, np.arange(2 * EACH), work, teacher=teacher)
    choose = np.arange(1, 2 * EACH, 2) if case is None else np.arange(0)
    return Fitting(network, material, recipe, fit=np.arange(0, 2 * EACH, 2), choose=choose, case=case,
                   cluster=open_cluster(None, progress=print), quiet=True), material


def whole(network, images):
    told = network.whole(images.astype(np.float32), training=False)
    return told[OUTPUTS.class_scores].numpy(), told[OUTPUTS.embedding].numpy()


@pytest.mark.parametrize("at", [0, "block_3", "block_4_conv", "block_4_bn", None])
def test_the_parts_say_what_the_whole_says(network, drawn, at):
    made = network(at=at)
    scores, embedding = whole(made, drawn.images)
    maps = drawn.images.astype(np.float32) if made.stem is None else runner(made.stem)(drawn.images)
    assert np.allclose(softmax(runner(made.tuned)(maps)), scores, atol=1e-6)
    assert np.allclose(runner(made.embed)(maps), embedding, atol=1e-5)
    assert np.allclose(runner(made.features)(drawn.images), embedding, atol=1e-5)
    assert np.allclose(softmax(runner(made.head)(embedding)), scores, atol=1e-6)
    assert embedding.shape == (2 * EACH, 24)


def test_what_is_predicted_from_the_kept_maps_is_what_the_whole_says(network, drawn, tmp_path):
    made = network()
    _, material = fit(made, drawn, RECIPE, tmp_path)
    logits, embeddings = predict(made, material, np.array([3, 7]), kept="fine-tuned")
    scores, embedding = whole(made, drawn.images[[3, 7]])
    assert np.allclose(softmax(logits), scores, atol=2e-3)  # maps are kept in half precision
    assert np.allclose(embeddings, embedding, atol=5e-3)
    fresh = predict(made, material, np.array([3, 7]), kept="fine-tuned", view=5)[1]  # a view that nobody kept
    assert np.allclose(fresh, whole(made, material.variations.views([3, 7], [5, 5]))[1], atol=5e-3)


@pytest.mark.parametrize(("head", "labels"), [("softmax", 2), ("softmax", 3), ("logit", 2)])
def test_a_temperature_divides_the_logits_and_nothing_else(network, drawn, head, labels):
    made = network(dataclasses.replace(RECIPE, head=head), labels=labels)
    before, embedding = whole(made, drawn.images)
    logits = runner(made.head)(embedding)
    divide_logits(made, 2.5)
    scores, after = whole(made, drawn.images)
    assert np.allclose(scores, softmax(logits / 2.5), atol=1e-6)
    assert not np.allclose(scores, before, atol=1e-3)
    assert np.array_equal(after, embedding)


def test_one_logit_gives_its_sigmoid_and_the_rest(network, drawn):
    made = network(dataclasses.replace(RECIPE, head="logit"))
    scores, embedding = whole(made, drawn.images)
    kernel, bias = made.head.get_layer("logits").get_weights()
    assert kernel.shape == (24, 1)
    assert np.allclose(scores[:, 1], 1 / (1 + np.exp(-(embedding @ kernel + bias)[:, 0])), atol=1e-6)
    assert np.allclose(scores.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("labels", [3, 5])
def test_one_logit_for_more_labels_is_refused(network, labels):
    with pytest.raises(PawlatchError, match=f"there are {labels}; use --head softmax"):
        network(dataclasses.replace(RECIPE, head="logit"), labels=labels)


# ------------------------------------------------------------------------------------------------ what a training changes


def weights(network):
    return {weight.name: weight.numpy() for layer in network.backbone.model.layers for weight in layer.weights}


def changed_by(network, drawn, recipe, work, **how) -> set[str]:
    before = weights(network)
    fit(network, drawn, recipe, work, **how)[0].run()
    return {name.removesuffix(":0") for name, value in weights(network).items() if not np.array_equal(value, before[name])}


@pytest.mark.parametrize(("at", "freeze", "expected"), [
    ("block_3", (), {"block_3_conv/kernel", "block_4_conv/kernel"}),
    (0, (), {f"block_{block}_conv/kernel" for block in range(1, 5)}),
    (0, ("block_[12]*", "block_4_conv"), {"block_3_conv/kernel"}),
    ("none", (), set()),
])
def test_fine_tuning_changes_what_it_was_told_to_and_no_batch_norm(network, drawn, tmp_path, at, freeze, expected):
    recipe = dataclasses.replace(RECIPE, freeze=freeze)
    assert changed_by(network(recipe, at=at), drawn, recipe, tmp_path) == expected


def test_batch_norm_learns_where_it_may_and_only_there(network, drawn, tmp_path):
    recipe = dataclasses.replace(RECIPE, batch_norm_frozen=False, batch=16)
    own = {f"block_4_bn/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")}
    assert changed_by(network(recipe, at="block_4"), drawn, recipe, tmp_path) == {"block_4_conv/kernel"} | own


def test_the_head_alone_leaves_the_backbone_as_it_was(network, drawn, tmp_path):
    recipe = dataclasses.replace(RECIPE, fine_tune_epochs=0)
    made = network(recipe)
    before = made.head.get_weights()
    assert changed_by(made, drawn, recipe, tmp_path) == set()
    assert not np.array_equal(made.head.get_weights()[0], before[0])


def test_fine_tuning_that_gains_nothing_is_taken_back(network, drawn, tmp_path):
    recipe = dataclasses.replace(RECIPE, fine_tune_rate=1e-9)
    made = network(recipe)
    before = weights(made)
    fitting, _ = fit(made, drawn, recipe, tmp_path, case=None)
    fitted = fitting.run()
    assert fitted.kept == "frozen"
    assert all(np.array_equal(value, before[name]) for name, value in weights(made).items())


def test_a_head_that_never_learns_is_an_error_and_no_model(network, drawn, tmp_path):
    made = network()
    fitting, _ = fit(made, drawn, RECIPE, tmp_path)
    made.head.set_weights([np.full_like(value, np.nan) for value in made.head.get_weights()])
    with pytest.raises(RecipeError, match="never a finite number; lower --head-rate"):
        fitting.run()


def test_features_that_are_no_numbers_are_an_error(drawn, tmp_path):
    image = keras.Input((SIDE, SIDE, 3))
    nothing = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(float("nan")))
    model = keras.Model(image, nothing(keras.layers.Flatten()(image)))
    made = build_network(Backbone("broken", model, Weights("none", "", None, SIDE), SIDE, None), RECIPE, labels=2, fine_tune_at=None)
    with pytest.raises(PawlatchError, match="must be finite numbers"):
        fit(made, drawn, RECIPE, tmp_path)


# ------------------------------------------------------------------------------------------------ targets


def test_a_teacher_has_its_share_of_the_targets_of_each_view(network, drawn, tmp_path):
    def teacher(pixels):
        share = pixels.mean((1, 2, 3)) / 255
        return np.stack([share, 1 - share], 1).astype(np.float32)

    recipe = dataclasses.replace(RECIPE, distill_weight=0.25, label_smoothing=0.1)
    fitting, material = fit(network(recipe), drawn, recipe, tmp_path, teacher=teacher)
    photos, views = np.array([2, 8]), np.array([1, 0])
    said = teacher(material.variations.views(photos, views))
    mixed = 0.75 * np.eye(2)[[0, 1]] + 0.25 * said
    assert fitting._targets(photos, views) == pytest.approx(0.9 * mixed + 0.05, abs=1e-6)
    assert fitting._targets(photos, views).sum(1) == pytest.approx(1, abs=1e-6)


def test_mixup_mixes_inputs_targets_and_weights_alike(network, drawn, tmp_path):
    fitting, material = fit(network(), drawn, dataclasses.replace(RECIPE, mixup=1.0), tmp_path)
    inputs, targets, _ = fitting._prepared(material.features, np.arange(6), np.zeros(6, np.int64), epoch=3)
    features = material.features.take(np.arange(0, 12, 2))
    share = np.linalg.lstsq(features.T, inputs.T, rcond=None)[0].T  # each row: which photos it is made of
    assert np.allclose(share.sum(1), 1, atol=1e-2)
    assert np.allclose(share @ material.targets[::2], targets, atol=1e-2)
    assert ((targets > 0.01) & (targets < 0.99)).any()


# ------------------------------------------------------------------------------------------------ on disk


@pytest.mark.parametrize("head", ["softmax", "logit"])
def test_every_format_comes_back_to_the_bit(network, drawn, tmp_path, head):
    recipe = dataclasses.replace(RECIPE, head=head)
    made = network(recipe)
    divide_logits(made, 0.7)
    expected = whole(made, drawn.images)
    served = Served(tmp_path, save_network(made, tmp_path))
    save_formats(made, tmp_path, tuple(FORMATS))
    assert all(np.allclose(one, other, atol=1e-6) for one, other in zip(served(drawn.images), expected, strict=True))
    anew = network(dataclasses.replace(recipe, seed=1))
    assert not np.array_equal(whole(anew, drawn.images)[0], expected[0])
    anew.whole.load_weights(tmp_path / FORMATS["weights"])
    loaded = [keras.models.load_model(tmp_path / FORMATS[name]) for name in ("keras", "h5")]
    for told in (whole(SimpleNamespace(whole=model), drawn.images) for model in (anew.whole, *loaded)):
        assert all(np.array_equal(one, other) for one, other in zip(told, expected, strict=True))


def test_a_saved_model_that_says_something_else_is_noticed(network, drawn, tmp_path):
    made = network()
    written = save_network(made, tmp_path)
    served = Served(tmp_path, written)
    served(drawn.images)
    divide_logits(made, 1.01)
    with pytest.raises(PawlatchError, match="other outputs than the trained model"):
        served(drawn.images)
    assert tf.saved_model.contains_saved_model(str(tmp_path))
