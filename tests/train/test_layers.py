"""Where a network can be cut, what fine-tuning would train, and the table of layers."""

from __future__ import annotations

import numpy as np
import pytest

from pawlatch.errors import PawlatchError

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train import layers
from pawlatch_train.keras import keras, tf

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)


def residual(x, block, *, squeeze=False):
    """Expand, (squeeze and excite with operators in place of layers,) add, as MobileNets do."""
    y = keras.layers.Conv2D(8, 1, name=f"{block}_expand")(x)
    y = keras.layers.BatchNormalization(name=f"{block}_BN")(y)
    if squeeze:
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{block}_se")(y)
        y = keras.layers.Multiply(name=f"{block}_mul")([y, keras.layers.ReLU(6.0, name=f"{block}_relu")(gate + 3.0) * (1 / 6)])
    return keras.layers.Add(name=f"{block}_add")([x, y])


@pytest.fixture(scope="module")
def model():
    pixels = keras.Input((16, 16, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, name="scale_to_unit")(pixels)
    x = keras.layers.Conv2D(8, 3, strides=2, name="Conv1")(x)
    for block in range(1, 13):
        x = residual(x, f"block_{block}", squeeze=block == 2)
    return keras.Model(pixels, keras.layers.Conv2D(4, 1, name="Conv_1")(x), name="net")


def names(found):
    return [layer.name for layer in found]


def test_only_what_everything_passes_through_is_a_cut_point(model):
    assert layers.cut_points(model) == ["scale_to_unit", "Conv1", *(f"block_{i}_add" for i in range(1, 13)), "Conv_1"]


def test_the_order_of_building_does_not_decide_what_passes_by():
    """A tensor that jumps over everything leaves nothing to cut but the end."""
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.ReLU(name="a")(pixels)
    x = keras.layers.ReLU(name="b")(x)
    x = keras.layers.Concatenate(name="joined")([x, pixels])
    assert layers.cut_points(keras.Model(pixels, x)) == ["joined"]


def test_a_layer_that_is_used_twice_or_feeds_an_output_on_the_side_is_no_place_to_cut():
    pixels = keras.Input((8, 8, 3))
    twice = keras.layers.Conv2D(3, 1, name="twice")
    side = twice(keras.layers.ReLU(name="between")(twice(pixels)))
    end = keras.layers.ReLU(name="end")(keras.layers.ReLU(name="last")(side))
    assert layers.cut_points(keras.Model(pixels, end)) == ["between", "last", "end"]
    assert layers.cut_points(keras.Model(pixels, [side, end])) == ["between"]


def test_every_cut_gives_what_the_whole_gives_to_the_bit_in_either_mode(model):
    whole, predicted = model(PIXELS).numpy(), model.predict(PIXELS, verbose=0)
    for name in layers.cut_points(model):
        stem, upper = layers.split_model(model, name)
        assert np.array_equal(upper(stem(PIXELS)), whole), name
    for name in ("Conv1", "block_2_add"):  # split models can be split again
        stem, upper = layers.split_model(model, name)
        assert np.array_equal(upper.predict(stem.predict(PIXELS, verbose=0), verbose=0), predicted), name
        middle, rest = layers.split_model(upper, "block_9_add")
        assert np.array_equal(rest(middle(stem(PIXELS))), whole)


def test_no_cut_is_all_upper(model):
    assert layers.split_model(model, None) == (None, model)


def test_the_parts_share_their_layers_with_the_whole(model):
    _, upper = layers.split_model(model, "block_11_add")
    assert upper.get_layer("block_12_expand") is model.get_layer("block_12_expand")


@pytest.mark.parametrize(("name", "words"), [
    ("block_2_mul", "pass it by; the next that can is block_2_add"), ("block_2_ad", "did you mean block_2_add"),
    ("image", "block 'image'|cannot be cut behind image|next that can is scale_to_unit"),
])
def test_a_cut_elsewhere_is_refused(model, name, words):
    with pytest.raises(PawlatchError, match=words):
        layers.split_model(model, name)


@pytest.mark.parametrize(("at", "first", "count"), [
    (0, "Conv1", 14), ("Conv_1", "Conv_1", 1), ("block_12", "block_12_expand", 2), ("block_1", "block_1_expand", 13),
    ("block_1[12]_*", "block_11_expand", 3), ("*_add", "block_2_expand", 12), (-1, "Conv_1", 1), ("-1", "Conv_1", 1),
    (1, "Conv1", 14), ("2", "block_1_expand", 13), (None, None, 0), ("none", None, 0),
])
def test_fine_tuning_begins_at_an_index_a_layer_a_block_or_a_pattern(model, at, first, count):
    found = names(layers.trainable_from(model, at))
    assert (found[0] if found else None, len(found)) == (first, count)


def test_frozen_layers_and_batch_norm_are_left_out(model):
    assert names(layers.trainable_from(model, "block_11", batch_norm_frozen=False)) == [
        "block_11_expand", "block_11_BN", "block_12_expand", "block_12_BN", "Conv_1"]
    assert names(layers.trainable_from(model, 0, freeze=["block_1", "block_[2-9]_*", "Conv1", "-1"])) == [
        "block_10_expand", "block_11_expand", "block_12_expand"]


def test_what_is_trainable_does_not_depend_on_what_is_frozen_now(model):
    before = names(layers.trainable_from(model, "block_5"))
    model.trainable = False
    try:
        assert names(layers.trainable_from(model, "block_5")) == before
    finally:
        model.trainable = True


@pytest.mark.parametrize(("at", "freeze", "words"), [
    ("blok_12", [], "--fine-tune-at 'blok_12' is no layer.*did you mean block_12"), (99, [], "index below 44, got 99"),
    ("block_77", [], "block_7"), ("xyz*", [], "--layers lists them"), (0, ["Cnv1"], "--freeze 'Cnv1'.*did you mean Conv1"),
])
def test_unknown_names_are_refused_with_what_is_near(model, at, freeze, words):
    with pytest.raises(PawlatchError, match=words):
        layers.trainable_from(model, at, freeze=freeze)


@pytest.mark.parametrize(("at", "cut"), [
    ("block_7", "block_6_add"), ("block_7_BN", "block_7_add"), (0, "scale_to_unit"), ("Conv_1", "block_12_add"), (None, "Conv_1"),
])
def test_the_stem_reaches_up_to_what_is_trained_and_no_further(model, at, cut):
    trained = layers.trainable_from(model, at)
    assert layers.cut_before(model, trained) == cut
    stem, _ = layers.split_model(model, cut)
    assert not set(names(trained)) & set(names(stem.layers))


def test_the_table_lists_every_layer_within_100_columns(model):
    table = layers.list_layers(model, layers.trainable_from(model, "block_12"))
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    row = next(line.split() for line in lines if "block_12_expand" in line)
    assert row == ["40", "block_12_expand", "Conv2D", "7x7x8", "72", "trained"]
    row = next(line.split() for line in lines if "block_11_add" in line)
    assert row == ["39", "block_11_add", "*", "Add", "7x7x8", "-"]
    row = next(line.split() for line in lines if "block_11_BN" in line)
    assert row[-1] == "frozen"
    assert next(line.split() for line in lines if "scale_to_unit" in line)[0] == "-"
    assert {f"block_{i}:" for i in range(1, 13)} <= set(lines)
    trained = 8 * 8 + 8 + 8 * 4 + 4
    assert lines[-1] == (f"44 layers, {model.count_params():,} parameters: {trained} would be trained, "
                         f"{model.count_params() - trained:,} stay frozen")


@pytest.mark.parametrize(("name", "block"), [
    ("block_13_expand", "block_13"), ("expanded_conv/project", "expanded_conv"), ("block4a_se_reduce", "block4a"),
    ("expanded_conv_10/squeeze_excite/Conv_1", "expanded_conv_10"), ("block5_conv1", "block5"), ("Conv_1_bn", "Conv_1"),
    ("conv2_block1_out", "conv2_block1"), ("re_lu_3", None), ("block_13", "block_13"), ("blocky_1", None),
])
def test_a_layers_name_tells_its_block(name, block):
    assert layers.block_of(name) == block


def test_flattening_keeps_the_outputs_and_shares_the_weights(model):
    inner = keras.Sequential([keras.layers.Dense(5, name="inner", input_shape=(4,)), keras.layers.ReLU()], name="nested")
    pixels = keras.Input((16, 16, 3))
    flipped = keras.layers.RandomFlip()(pixels)
    pooled = keras.layers.GlobalAveragePooling2D()(model(flipped, training=False))
    nested = keras.Model(pixels, {"features": inner(pooled), "pooled": pooled})
    fresh = keras.Input((16, 16, 3))
    flat = keras.Model(fresh, layers.flatten(nested, fresh))
    assert {"Conv1", "inner", "block_2_add"} <= set(names(flat.layers))
    assert not any(isinstance(layer, keras.Model | keras.layers.RandomFlip) for layer in flat.layers)
    assert flat.get_layer("Conv1") is model.get_layer("Conv1")
    expected = nested(PIXELS, training=False)
    for ours, theirs in zip(flat(PIXELS), tf.nest.flatten(expected), strict=True):
        assert np.array_equal(ours, theirs)
    assert "inner" in layers.cut_points(keras.Model(fresh, flat.outputs[0]))


def test_a_network_without_layers_to_cut_between_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(PawlatchError, match="no functional or built Sequential"):
        layers.cut_points(Subclassed())
    one, other = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(PawlatchError, match="2 inputs"):
        layers.flatten(keras.Model([one, other], keras.layers.Add()([one, other])), one)
