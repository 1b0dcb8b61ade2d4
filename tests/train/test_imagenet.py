"""ImageNet out of the box: its classes and groups, `classify --imagenet`, and the door for any dog."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.errors import ModelCardError, OutputError, PhotosError, WeightsError
from pawlatch.image import fit, read_image
from pawlatch_train.imagenet_classes import GROUPS, check_lines, class_lines, class_names, find_classes, group_indices

ANCHORS = {0: "tench", 151: "Chihuahua", 268: "Mexican hairless", 281: "tabby", 285: "Egyptian cat", 652: "military uniform",
           999: "toilet tissue"}


# --- classes and groups ---


def assert_anchors(names):
    assert len(names) == 1000
    assert {index: names[index] for index in ANCHORS} == ANCHORS


def test_the_class_list_is_whole_and_in_order():
    assert_anchors(class_names())
    assert len(set(class_names())) == 1000
    assert class_lines()[134] == class_lines()[517] == "crane"


def test_sabotage_a_list_with_the_background_in_front_is_noticed():
    with pytest.raises(AssertionError):
        assert_anchors(("background", *class_names()[:-1]))
    for shifted in (["background", *class_lines()], ["background", *class_lines()[:-1]], class_lines()[1:], []):
        with pytest.raises(ModelCardError, match="background"):
            check_lines(shifted)


def test_groups_are_the_stretches_that_were_read():
    stretches = {"dog": [(151, 268)], "cat": [(281, 285)], "bird": [(7, 24), (80, 100), (127, 146)], "rabbit": [(330, 332)],
                 "wild cat": [(286, 293)], "fox": [(277, 280)], "chicken": [(7, 8)], "bear": [(294, 297)], "horse": [(339, 339)]}
    for group, wanted in stretches.items():
        assert group_indices(group) == tuple(i for first, last in wanted for i in range(first, last + 1))
    for group in GROUPS:
        assert list(group_indices(group)) == sorted(set(group_indices(group)))
        for other in GROUPS.keys() - {group}:
            shared = set(group_indices(group)) & set(group_indices(other))
            assert not shared or {group, other} in ({"bird", "chicken"}, {"bird", "duck"}, {"bird", "parrot"})


def test_a_class_goes_by_any_of_its_names():
    assert find_classes("Dog").label == "dog"
    assert len(find_classes("dog").indices) == 118
    assert find_classes("beagle").indices == (162,)
    assert find_classes("puma").indices == find_classes("cougar").indices == (286,)
    assert find_classes("crane (134)").indices == (134,)


@pytest.mark.parametrize(("word", "near"), [("dgo", "did you mean dog"), ("crane", "crane (134), crane (517)"), ("xyzzy", "groups are")])
def test_an_unknown_or_ambiguous_class_is_refused_with_what_is_near(word, near):
    with pytest.raises(ModelCardError) as error:
        find_classes(word)
    assert near in str(error.value)


# --- classifiers ---

tf = pytest.importorskip("tensorflow", reason="needs the train extra")
SIDE = 96
RED, GREEN = (220, 20, 20), (20, 220, 20)


class Colours(tf.Module):
    """Red is tabby (281), green Chihuahua (151); with `background` the classes begin at 1."""

    def __init__(self, *, background: bool, softmax: bool):
        super().__init__()
        weights = np.zeros((3, 1000 + background), np.float32)
        weights[0, 281 + background] = weights[1, 151 + background] = 20
        self.weights, self.softmax = tf.Variable(weights), softmax

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 48, 3), tf.float32)])
    def __call__(self, inputs):
        tf.debugging.assert_less_equal(inputs, 1.0)
        logits = tf.reduce_mean(inputs, (1, 2)) @ self.weights
        return tf.nn.softmax(logits) if self.softmax else logits


def save_colours(folder: Path, *, background: bool = True, softmax: bool = False, signature: bool = True) -> Path:
    module = Colours(background=background, softmax=softmax)
    tf.saved_model.save(module, str(folder), signatures=module.__call__ if signature else None)
    return folder


def plain(colour) -> np.ndarray:
    return np.full((32, 48, 3), colour, np.uint8)


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Path:
    return save_colours(tmp_path_factory.mktemp("hub") / "colours")


@pytest.mark.parametrize("kind", [
    {"background": True, "softmax": False}, {"background": False, "softmax": False, "signature": False},
    {"background": True, "softmax": True, "signature": False}, {"background": False, "softmax": True},
])
def test_a_hub_classifier_names_with_or_without_a_background_logits_or_probabilities(tmp_path, kind):
    from pawlatch_train.imagenet_classifier import open_classifier

    classifier = open_classifier(f"hub:{save_colours(tmp_path / 'module', **kind)}", width=1.0)
    assert classifier.size_hw == (32, 48)
    scores = classifier(np.stack([plain(RED), plain(GREEN)]))
    assert [class_names()[i] for i in scores.argmax(1)] == ["tabby", "Chihuahua"]
    assert np.allclose(scores.sum(1), 1)
    assert scores.max() > 0.99


def test_sabotage_the_background_read_as_a_class_shifts_every_name():
    from pawlatch_train.imagenet_classifier import to_probabilities

    logits = np.zeros((1, 1001), np.float32)
    logits[0, 1 + 652] = 9
    assert class_names()[to_probabilities(logits, source="right").argmax()] == "military uniform"
    assert class_names()[to_probabilities(logits[:, :1000], source="shifted").argmax()] == "milk can"


@pytest.mark.parametrize("wrong", [np.zeros((1, 1280)), np.zeros((1, 5, 1001)), np.full((1, 1001), np.nan)])
def test_what_gives_no_thousand_scores_is_refused(wrong):
    from pawlatch_train.imagenet_classifier import to_probabilities

    with pytest.raises(WeightsError):
        to_probabilities(wrong.astype(np.float32), source="features")


def test_a_module_without_one_output_of_scores_is_refused(tmp_path):
    from pawlatch_train.imagenet_classifier import open_classifier

    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(WeightsError, match="neither a call nor a signature"):
        open_classifier(f"hub:{tmp_path / 'empty'}", width=1.0)
    pair = tf.function(lambda images: {"one": images, "two": images})
    spec = tf.TensorSpec((None, 32, 48, 3), tf.float32, name="images")
    tf.saved_model.save(tf.Module(), str(tmp_path / "pair"), signatures=pair.get_concrete_function(spec))
    with pytest.raises(WeightsError, match=r"no classifier: it must turn \(n, 32, 48, 3\) .*\(it gives one, two\)"):
        open_classifier(f"hub:{tmp_path / 'pair'}", width=1.0)(np.stack([plain(RED)]))


def test_a_file_that_is_no_such_weights_is_refused(tmp_path):
    from pawlatch_train.imagenet_classifier import open_classifier

    (tmp_path / "w.h5").write_bytes(b"nonsense")
    for wanted, words in ((str(tmp_path / "w.h5"), "does not hold"), ("nowhere.h5", "no file nowhere.h5"),
                          (f"hub:{tmp_path}", "cannot be had")):
        with pytest.raises(WeightsError, match=words):
            open_classifier(wanted, width=1.0)


# --- the command ---


def classify(*arguments: object) -> int:
    from pawlatch.commands.photos import classify

    return classify(["--imagenet", *map(str, arguments)])


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    cv2.imwrite(str(folder / "red.png"), plain(RED)[..., ::-1])
    cv2.imwrite(str(folder / "deeper" / "green.png"), plain(GREEN)[..., ::-1])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    return folder


def test_a_folder_is_named_at_any_depth_and_drawn(colours, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert classify(pictures, "--weights", f"hub:{colours}", "--json") == 0
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert {Path(line["photo"]).name: line["label"] for line in lines} == {"red.png": "tabby", "green.png": "Chihuahua"}
    assert all(len(line["scores"]) == 3 for line in lines)
    assert "set aside" in told.err
    assert "broken.jpg" in told.err
    grid = read_image(tmp_path / "imagenet.png")
    for colour in (RED, GREEN):
        assert (grid == colour).all(axis=2).sum() == 180 * 180
    with pytest.raises(OutputError, match="exists already"):
        classify(pictures, "--weights", f"hub:{colours}")


def test_a_grid_in_the_folder_is_not_taken_for_a_photo(colours, pictures, capsys):
    grid = pictures / "grid.png"
    for _ in range(2):
        assert classify(pictures, "--weights", f"hub:{colours}", "-o", grid, "--overwrite") == 0
        assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_photo_alone_makes_no_grid_and_one_that_cannot_be_read_is_status_2(colours, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert classify(pictures / "red.png", pictures / "broken.jpg", "--weights", f"hub:{colours}", "--top", 1) == 2
    assert capsys.readouterr().out == f"{pictures / 'red.png'}: tabby 100.0%\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pictures"]


def test_a_folder_without_a_picture_is_refused(colours, tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(PhotosError, match="holds no pictures"):
        classify(tmp_path / "notes", "--weights", f"hub:{colours}")
    (tmp_path / "notes" / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(PhotosError, match="can be read"):
        classify(tmp_path / "notes", "--weights", f"hub:{colours}", "-o", tmp_path / "grid.png")
    assert not (tmp_path / "grid.png").exists()


def test_grace_hopper_wears_a_military_uniform(shared, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KERAS_HOME", str(shared / "keras_home"))
    assert classify(shared / "data" / "imagenet", "-o", tmp_path / "grid.png", "--json") == 0
    told = capsys.readouterr()
    labels = {Path(line["photo"]).name: line["label"] for line in map(json.loads, told.out.splitlines())}
    assert labels == {"grace_hopper.bmp": "military uniform", "cat_720p.jpg": "Egyptian cat", "hot_dog.jpg": "hotdog",
                      "parrot.jpg": "macaw", "sunflower.bmp": "daisy"}
    assert ".tflite" in told.err
    assert min(read_image(tmp_path / "grid.png").shape[:2]) > 180


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "nowhere"))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def test_weights_that_cannot_be_had_are_one_sentence(no_weights, pictures, capsys):
    from pawlatch.cli import main

    assert main(["classify", "--imagenet", str(pictures / "red.png")]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "KERAS_HOME" in told.err


def test_without_tensorflow_it_says_what_to_install(pictures):
    code = ("import sys; sys.modules['tensorflow'] = None; from pawlatch.cli import main; "
            f"sys.exit(main(['classify', '--imagenet', {str(pictures / 'red.png')!r}]))")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert told.returncode == 2
    assert 'pip install "pawlatch[train]"' in told.stderr
    assert len(told.stderr.splitlines()) == 1


# --- the door ---


def make_door(shared, folder, *, size, pictures):
    from pawlatch_train import imagenet

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(shared / "keras_home"))
        patch.setattr(imagenet, "PICTURES", pictures)
        told = imagenet.imagenet_door("dog", folder / "model", size=size, progress=lambda line: None)
    return folder / "model", told


@pytest.fixture(scope="module")
def door(shared, tmp_path_factory) -> tuple[Path, str]:
    """A small one."""
    return make_door(shared, tmp_path_factory.mktemp("door"), size=SIDE, pictures={"calibration": 1, "heldout": 2})


@pytest.fixture(scope="module")
def whole_door(shared, tmp_path_factory) -> Path:
    """One at the size at which its weights were trained."""
    return make_door(shared, tmp_path_factory.mktemp("whole"), size=224, pictures={"calibration": 3, "heldout": 2})[0]


@pytest.fixture(scope="module")
def serve(door):
    return tf.saved_model.load(str(door[0])).signatures["serving_default"]


@pytest.fixture(scope="module")
def serve_whole(whole_door):
    return tf.saved_model.load(str(whole_door)).signatures["serving_default"]


def scores_of(serve, paths, *, size=224) -> np.ndarray:
    pixels = np.stack([fit(read_image(path), (size, size)) for path in paths]).astype(np.float32)
    return serve(image=tf.constant(pixels))["class_scores"].numpy()[:, 1]


def assert_dreamt(serve, folder, *, size):
    assert (scores_of(serve, (folder / "dog").iterdir(), size=size) > 0.9).all()
    assert (scores_of(serve, (folder / "_other").iterdir(), size=size) < 0.1).all()


def test_the_door_has_a_card_and_pictures_and_says_that_it_is_unmeasured(door):
    model, told = door
    card = read_card(model)
    assert card.labels == ("_other", "dog")
    assert card.unlock == ("dog",)
    assert card.input.size_hw == (SIDE, SIDE)
    assert card.threshold("int8") == 205 / 256
    assert card.provenance["imagenet"]["classes"] == list(range(151, 269))
    assert "no bound" in card.provenance["operating_point"]
    for split, count in (("calibration", 1), ("heldout", 2)):
        kept = [path.parent.name for path in (model / "assets.extra" / split).rglob("*.png")]
        assert sorted(kept) == ["_other"] * count + ["dog"] * count
    for words in ("without photos", "no bound", "drawn pictures", "--photos"):
        assert words in told


def test_the_door_keeps_the_contract(serve):
    (spec,) = serve.structured_input_signature[1].values()
    assert (spec.name, spec.dtype, spec.shape.as_list()) == ("image", tf.float32, [None, SIDE, SIDE, 3])
    outputs = serve(image=tf.constant(np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)), tf.float32))
    assert set(outputs) == {"class_scores", "embedding"}
    assert outputs["embedding"].shape == (2, 1280)
    assert np.allclose(outputs["class_scores"].numpy().sum(1), 1, atol=1e-5)


def test_the_door_can_be_a_backbone_itself(door):
    from pawlatch_train.backbones import open_backbone

    backbone = open_backbone(str(door[0]), weights="auto", width=None, size=None, target="desktop")
    assert backbone.model.output_shape == (None, SIDE // 32, SIDE // 32, 1280)


def test_the_scores_are_those_of_the_best_dog_against_the_best_of_the_rest(door, serve, shared):
    from pawlatch_train.imagenet import HANDICAP
    from pawlatch_train.imagenet_classifier import build_with_top

    weights = shared / "keras_home" / "models" / read_card(door[0]).provenance["backbone"]["weights_file"]
    pixels = fit(read_image(shared / "data" / "imagenet" / "cat_720p.jpg"), (SIDE, SIDE))[np.newaxis].astype(np.float32)
    (logits,) = build_with_top(weights, width=1.0, size=SIDE)(pixels / 127.5 - 1).numpy()
    is_dog = (np.arange(1000) >= 151) & (np.arange(1000) < 269)
    ahead = logits[is_dog].max() - HANDICAP - logits[~is_dog].max()
    assert serve(image=tf.constant(pixels))["class_scores"].numpy()[0, 1] == pytest.approx(1 / (1 + np.exp(-ahead)), abs=1e-4)


@pytest.mark.slow
def test_it_opens_for_dogs_and_not_for_cats_or_flowers(serve_whole, shared):
    data = shared / "data"
    dogs = sorted((data / "doggy_door" / "train" / "bo").iterdir())
    cats = sorted((data / "cats" / "valid" / "Chungdam").iterdir()) + sorted((data / "cats" / "valid" / "Hwamok").iterdir())
    flowers = sorted((data / "flowers" / "valid" / "roses").iterdir())[:10]
    assert (scores_of(serve_whole, dogs) >= 0.8).mean() >= 0.7
    assert (scores_of(serve_whole, [*cats, *flowers]) >= 0.8).mean() <= 0.05


def test_the_drawn_pictures_are_what_the_network_takes_them_for(door, serve):
    assert_dreamt(serve, door[0] / "assets.extra" / "heldout", size=SIDE)


def test_sabotage_pictures_under_the_wrong_label_are_noticed(door, serve, tmp_path):
    held_out = door[0] / "assets.extra" / "heldout"
    for label, other in (("dog", "_other"), ("_other", "dog")):
        (tmp_path / label).symlink_to(held_out / other)
    with pytest.raises(AssertionError):
        assert_dreamt(serve, tmp_path, size=SIDE)


def test_a_door_for_nothing_known_leaves_nothing(tmp_path, no_weights):
    from pawlatch_train.imagenet import imagenet_door

    for group, weights, error in (("dgo", "imagenet", ModelCardError), ("dog", "imagenet", WeightsError), ("dog", "none", WeightsError)):
        with pytest.raises(error):
            imagenet_door(group, tmp_path / "model", weights=weights, progress=lambda line: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_door_converts_to_integers_that_decide_alike_on_real_photos(whole_door, serve_whole, shared, command):
    from pawlatch.classify import Classifier

    told = command("convert", "--int8", whole_door)
    assert told.returncode == 0, told.stdout
    small = Classifier(whole_door, variant="int8")
    photos = [path for kind in ("bo", "not_bo") for path in sorted((shared / "data" / "doggy_door" / "valid" / kind).iterdir())]
    photos += sorted((shared / "data" / "cats" / "valid" / "Leo").iterdir())
    wanted = scores_of(serve_whole, photos)
    got = np.array([small(read_image(path)).score_of(("dog",)) for path in photos])
    assert ((wanted > 0.5) == (got > 0.5)).mean() >= 0.9
    assert np.abs(wanted - got).mean() < 0.05
