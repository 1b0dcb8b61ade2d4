"""What each option of `train` does, through the command line, and which combinations it refuses."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.cli import main
from pawlatch.errors import PawlatchError
from pawlatch.image import fit, read_image

tf = pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch_train import folds as folds_module  # noqa: E402
from pawlatch_train.backbones import open_backbone  # noqa: E402
from pawlatch_train.calibrate import softmax  # noqa: E402
from pawlatch_train.distribute import open_cluster  # noqa: E402
from pawlatch_train.features import Backbone, Weights  # noqa: E402
from pawlatch_train.fit import prepare  # noqa: E402
from pawlatch_train.keras import keras  # noqa: E402
from pawlatch_train.network import build_network  # noqa: E402
from pawlatch_train.recipe import TrainRecipe, read_recipe  # noqa: E402
from pawlatch_train.store import ArrayFile  # noqa: E402
from pawlatch_train.teacher import Teacher  # noqa: E402

SIDE = 64
SHORT = ("--epochs", 2, "--fine-tune-epochs", 1, "--views", 1)
LABELS = ("_empty", "_other", "초코")


def train(*words):
    """`train words...` in this process: its exit status and what it said."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(["train", *map(str, words)])
        except SystemExit as left:  # argparse
            status = left.code
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


def trained(*words):
    told = train(*words)
    assert told.status == 0, told.err
    return told


def refused(folder: Path, *words) -> str:
    """What a command says that is refused, which must be one sentence, and leave nothing in `folder`."""
    before = sorted(folder.rglob("*"))
    told = train(*words)
    assert told.status == 2, told.err
    assert "Traceback" not in told.err
    assert sorted(folder.rglob("*")) == before
    assert told.out == ""
    return told.err.strip().splitlines()[-1]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def pictures(photos: Path, side: int = SIDE) -> np.ndarray:
    paths = sorted((photos / "초코").iterdir())[:4] + sorted((photos / "_empty").iterdir())[:3]
    return np.stack([fit(read_image(path), (side, side), policy="stretch") for path in paths]).astype(np.float32)


def served(model: Path, images: np.ndarray) -> dict[str, np.ndarray]:
    told = tf.saved_model.load(str(model)).signatures["serving_default"](image=tf.constant(images))
    return {name: value.numpy() for name, value in told.items()}


def epochs_of(model: Path) -> list[dict[str, str]]:
    """`history.csv` without the seconds."""
    rows = csv.DictReader((model / "history.csv").open(encoding="utf-8"))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


# ------------------------------------------------------------------------------------------------ formats and recipes


@pytest.fixture(scope="module", params=["tiny", pytest.param("starter", marks=pytest.mark.slow)])
def backbone(request, tiny_backbone):
    """What `train` and `open_backbone` are told, and a layer to cut at that gives 16 channels."""
    if request.param == "tiny":
        return SimpleNamespace(words=("--backbone", tiny_backbone), name=str(tiny_backbone), weights="auto", cut_at="block_3_bn")
    return SimpleNamespace(words=("--weights", "starter", "--image-size", SIDE), name="mobilenet_v2", weights="starter",
                           cut_at="block_3_project_BN")


@pytest.fixture(scope="module")
def saved(backbone, drawn_photos, tmp_path_factory) -> Path:
    """A model in every format, by a recipe of a file and of flags."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "recipe.toml").write_text('head_epochs = 7\ndropout = 0.3\noptimizer = "adamw"\nlabel_smoothing = 0.05\nmixup = 0.2\n')
    trained(drawn_photos, "-o", folder / "model", *backbone.words, "--recipe", folder / "recipe.toml", *SHORT, "--seed", 5,
            "--save", "keras", "--save", "h5", "--save", "weights")
    return folder / "model"


def test_flags_come_before_the_file_and_the_file_before_the_defaults(saved):
    recipe = TrainRecipe().with_values(read_recipe(saved / "recipe.toml"))
    assert (recipe.head_epochs, recipe.dropout, recipe.optimizer, recipe.seed, recipe.batch) == (2, 0.3, "adamw", 5, 32)
    assert [row["stage"] for row in epochs_of(saved)] == ["frozen", "frozen", "fine-tuned"]
    assert read_card(saved).provenance["recipe"]["label_smoothing"] == 0.05


def test_every_format_says_what_the_saved_model_says_to_the_bit(saved, backbone, drawn_photos):
    images = pictures(drawn_photos)
    expected = served(saved, images)
    anew = build_network(
        open_backbone(backbone.name, weights=backbone.weights, width=None, size=SIDE, target="desktop"),
        TrainRecipe().with_values(read_recipe(saved / "recipe.toml")), labels=3, fine_tune_at=0).whole
    before = anew(images, training=False)["class_scores"]
    anew.load_weights(saved / "model.weights.h5")
    for model in (anew, *(keras.models.load_model(saved / name) for name in ("model.keras", "model.h5", "."))):
        told = tf.function(lambda pixels, model=model: model(pixels, training=False))(tf.constant(images))
        assert {name: np.array_equal(value, expected[name]) for name, value in told.items()} == {"class_scores": True, "embedding": True}
    assert not np.allclose(before, expected["class_scores"], atol=1e-4)


def test_the_recipe_of_a_model_makes_the_same_model_again(saved, backbone, drawn_photos, tmp_path):
    again = tmp_path / "again"
    trained(drawn_photos, "-o", again, *backbone.words, "--recipe", saved / "recipe.toml")
    assert epochs_of(again) == epochs_of(saved)
    assert (again / "batches.csv").read_bytes() == (saved / "batches.csv").read_bytes()
    assert (again / "recipe.toml").read_bytes() == (saved / "recipe.toml").read_bytes()
    images = pictures(drawn_photos)
    one, other = served(saved, images), served(again, images)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_another_seed_makes_another_model(drawn_photos, tiny_backbone, tmp_path):
    for seed in (0, 1):
        trained(drawn_photos, "-o", tmp_path / f"{seed}", "--backbone", tiny_backbone, "--epochs", 1, "--fine-tune-epochs", 0,
                "--views", 1, "--seed", seed)
    assert epochs_of(tmp_path / "0") != epochs_of(tmp_path / "1")
    assert read_card(tmp_path / "0").provenance["splits"] != read_card(tmp_path / "1").provenance["splits"]


# ------------------------------------------------------------------------------------------------ backbones


def test_a_model_that_was_trained_is_a_backbone_cut_at_a_layer(saved, backbone, drawn_photos, tmp_path):
    told = trained(drawn_photos, "-o", tmp_path / "model", "--backbone", saved, "--cut-at", backbone.cut_at, *SHORT)
    assert f"backbone: model:{saved}" in told.err
    assert served(tmp_path / "model", pictures(drawn_photos))["embedding"].shape == (7, 16)
    assert read_card(tmp_path / "model").provenance["backbone"]["weights"] == "model"


def hub_module(folder: Path):
    """A feature vector as TF-Hub has them: pixels in 0..1 to (n, 12), with a variable that may be trained."""
    module = tf.train.Checkpoint()
    kernel = np.random.default_rng(0).normal(0, 0.3, (8, 8, 3, 12)).astype(np.float32)
    module.variables = module.trainable_variables = [tf.Variable(kernel, name="kernel")]
    module.regularization_losses = []

    @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3)), tf.TensorSpec((), tf.bool)])
    def call(pixels, training=False):
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(pixels, module.variables[0], 4, "VALID")), (1, 2))

    module.__call__ = call
    tf.saved_model.save(module, str(folder))
    return call


@pytest.mark.parametrize("fine_tune", [0, 2])
def test_a_module_of_tf_hub_is_a_backbone_frozen_and_fine_tuned(fine_tune, drawn_photos, tmp_path):
    module = hub_module(tmp_path / "module")
    told = trained(drawn_photos, "-o", tmp_path / "model", "--backbone", f"hub:{tmp_path / 'module'}", "--epochs", 2,
                   "--fine-tune-epochs", fine_tune, "--fine-tune-rate", 0.05, "--views", 1, "--save", "keras")
    assert re.search(r"[1-9][\d,]* more in fine-tuning", told.err)
    assert [row["stage"] for row in epochs_of(tmp_path / "model")] == ["frozen"] * 2 + ["fine-tuned"] * fine_tune
    images = pictures(drawn_photos)
    embedding = served(tmp_path / "model", images)["embedding"]
    is_as_it_was = np.allclose(embedding, module(tf.constant(images / 255), False), atol=1e-5)
    assert is_as_it_was == (read_card(tmp_path / "model").provenance["kept_stage"] == "frozen")
    layer = {"KerasLayer": pytest.importorskip("tensorflow_hub").KerasLayer}
    again = keras.models.load_model(tmp_path / "model" / "model.keras", custom_objects=layer)
    assert np.allclose(again(images, training=False)["embedding"], embedding, atol=1e-5)


def test_a_module_that_keras_could_not_load_again_is_not_saved_by_it(drawn_photos, tmp_path):
    class Secretive(tf.Module):
        def __init__(self):
            super().__init__()
            self.kernel = tf.Variable(tf.ones((8, 8, 3, 12)))

        @tf.function(input_signature=[tf.TensorSpec((None, SIDE, SIDE, 3))])
        def __call__(self, pixels):
            return tf.reduce_mean(tf.nn.conv2d(pixels, self.kernel, 4, "VALID"), (1, 2))

    tf.saved_model.save(Secretive(), str(tmp_path / "module"))
    words = [drawn_photos, "-o", tmp_path / "model", "--backbone", f"hub:{tmp_path / 'module'}", *SHORT]
    for name in ("keras", "h5"):
        assert "does not list its variables" in refused(tmp_path, *words, "--save", name)
    trained(*words, "--save", "weights")


@pytest.mark.slow
def test_other_families_train_from_nothing(drawn_photos, tmp_path):
    told = trained(drawn_photos, "-o", tmp_path / "model", "--backbone", "mobilenet_v3_small", "--weights", "none", "--image-size", SIDE,
                   *SHORT)
    assert "backbone: mobilenet_v3_small 1, weights: none" in told.err
    assert served(tmp_path / "model", pictures(drawn_photos))["embedding"].shape == (7, 576)


def test_layers_are_listed_with_what_would_be_trained(tmp_path, monkeypatch, tiny_backbone):
    monkeypatch.chdir(tmp_path)
    told = trained("--layers", "--backbone", tiny_backbone, "--fine-tune-at", "block_4")
    lines = told.out.splitlines()
    assert sum(line.endswith(" trained") for line in lines) == 1
    assert next(line for line in lines if line.endswith(" trained")).split()[1] == "block_4_conv"
    assert lines[-1].startswith("14 layers, ")
    assert names(tmp_path) == []


def test_a_check_alone_writes_the_page_that_was_asked_for(drawn_photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "36 photos of 3 labels" in trained(drawn_photos, "--check").out
    assert names(tmp_path) == []
    trained(drawn_photos, "--check", "--html", tmp_path / "photos.html")
    assert names(tmp_path) == ["photos.html"]


# ------------------------------------------------------------------------------------------------ heads


def two_labels(drawn_photos: Path, folder: Path) -> Path:
    for label in ("초코", "_empty"):
        shutil.copytree(drawn_photos / label, folder / label)
    return folder


def test_one_logit_is_a_model_of_two_labels(drawn_photos, tiny_backbone, tmp_path):
    photos = two_labels(drawn_photos, tmp_path / "photos")
    trained(photos, "-o", tmp_path / "model", "--backbone", tiny_backbone, "--head", "logit", "--unlock", "초코", "--save", "keras", *SHORT)
    told = served(tmp_path / "model", pictures(drawn_photos))
    model = keras.models.load_model(tmp_path / "model" / "model.keras")
    kernel, bias = model.get_layer("head").get_layer("logits").get_weights()
    assert kernel.shape == (24, 1)
    logit = (told["embedding"] @ kernel + bias)[:, 0]
    assert np.allclose(told["class_scores"][:, 1], 1 / (1 + np.exp(-logit)), atol=1e-6)
    assert np.allclose(told["class_scores"].sum(1), 1, atol=1e-6)


# ------------------------------------------------------------------------------------------------ folds


@pytest.fixture(scope="module")
def folded(drawn_photos, tiny_backbone, tmp_path_factory):
    model = tmp_path_factory.mktemp("folded") / "model"
    told = trained(drawn_photos, "-o", model, "--backbone", tiny_backbone, "--folds", 3, "--unlock", "초코", *SHORT)
    return model, told


def test_folds_judge_every_photo_and_the_final_model_trains_on_all(folded, counts):
    model, told = folded
    provenance = read_card(model).provenance
    assert provenance["folds"] == 3
    assert provenance["metrics"]["judged_by"] == "out-of-fold predictions"
    assert provenance["metrics"]["held_out_photos"] == sum(counts.values()) == len(set(provenance["splits"]["fit"]))
    assert provenance["splits"]["choose"] == provenance["splits"]["held_out"] == []
    assert [line[:11] for line in told.err.splitlines() if line.startswith("fold ")] == [f"fold {n} of 3" for n in (1, 2, 3)]
    assert "on out-of-fold predictions" in told.out
    assert "36 photos train; each is judged by a model of 3" in told.err
    assert re.search(r"earned its place in \d of 3 folds", told.err)
    assert "out-of-fold predictions" in (model / "report.html").read_text(encoding="utf-8")
    assert names(model.parent) == ["model"]


def test_no_accuracy_is_called_validation_where_nothing_validates(folded):
    model, told = folded
    assert {row["val_accuracy"] for row in epochs_of(model)} <= {"nan"}
    assert "valid accuracy" not in told.err


@pytest.fixture
def noise(tmp_path):
    """Photos of noise with labels by lot, which can be learnt by heart and by nothing else, and a network of one layer."""
    rng = np.random.default_rng(0)
    pixels = ArrayFile(tmp_path / "pixels", (8, 8, 3), np.uint8)
    pixels.append(rng.integers(0, 256, (48, 8, 8, 3), dtype=np.uint8))
    data = SimpleNamespace(labels=("a", "b"), pixels=pixels, large=None, targets=rng.permutation(48) % 2)
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    vector = keras.layers.Dense(96)(keras.layers.Flatten()(keras.layers.Rescaling(1 / 64, offset=-2.0)(image)))
    recipe = TrainRecipe(views=0, head_epochs=8, head_rate=0.1, head_batch=8, dropout=0.0, l2=0.0, fine_tune_epochs=0, early_stopping=0)
    backbone = Backbone("noise", keras.Model(image, vector), Weights("none", "", None, 8), 8, None)
    network = build_network(backbone, recipe, labels=2, fine_tune_at=None)
    return network, prepare(network, data, recipe, np.arange(48), tmp_path), recipe, data.targets


def out_of_fold_accuracy(noise, work: Path) -> float:
    network, material, recipe, targets = noise
    order = np.random.default_rng(1).permutation(48)
    (work / "folds").mkdir()
    said = folds_module.cross_validate(network, material, recipe, np.array_split(order, 3), cluster=open_cluster(None, progress=print),
                                       work=work / "folds", say=lambda line: None)
    assert sorted(said.photos) == list(range(48))
    assert np.array_equal(said.photos, order)
    return float((said.logits.argmax(1) == targets[said.photos]).mean())


def test_what_cannot_be_known_is_guessed_out_of_fold(noise, tmp_path):
    assert 0.25 <= out_of_fold_accuracy(noise, tmp_path) <= 0.75


def test_a_fold_that_has_seen_its_own_photos_knows_them(noise, tmp_path, monkeypatch):
    """The sabotage of the test above."""
    honest = folds_module.Fitting

    def leaky(*args, fit, choose, **how):
        return honest(*args, fit=np.arange(48), choose=np.arange(48), **how)

    monkeypatch.setattr(folds_module, "Fitting", leaky)
    assert out_of_fold_accuracy(noise, tmp_path) > 0.9


# ------------------------------------------------------------------------------------------------ comparing


@pytest.mark.parametrize(("field", "values"), [
    ("optimizer", ("sgd", "adam")), pytest.param("dropout", ("0.0", "0.5"), marks=pytest.mark.slow),
])
def test_a_comparison_trains_each_value_and_draws_all_in_one_plot(field, values, drawn_photos, tiny_backbone, tmp_path):
    told = trained(drawn_photos, "-o", tmp_path / "out", "--backbone", tiny_backbone, *SHORT, "--compare", f"{field}={','.join(values)}")
    models = [f"{field}-{value}" for value in values]
    assert names(tmp_path / "out") == sorted(["comparison.png", "comparison.txt", *models])
    assert names(tmp_path) == ["out"]
    table = (tmp_path / "out" / "comparison.txt").read_text()
    assert sorted(line.split()[0] for line in table.splitlines()[1:]) == sorted(values)
    assert table.strip() in told.out
    assert min(read_image(tmp_path / "out" / "comparison.png").shape[:2]) > 300
    for model, value in zip(models, values, strict=True):
        assert str(read_card(tmp_path / "out" / model).provenance["recipe"][field]) == value
    assert epochs_of(tmp_path / "out" / models[0]) != epochs_of(tmp_path / "out" / models[1])


@pytest.mark.parametrize(("compared", "words"), [
    ("optimizer=sgd,lion", "optimizer must be one of"), ("speed=1,2", "there is no 'speed'"), ("dropout=0.1", "two or more values"),
    ("dropout", "two or more values"), ("dropout=0,2", "dropout must be from 0"), ("batch=8,many", "a whole number"),
])
def test_a_comparison_of_what_cannot_be_is_refused_before_anything_is_trained(compared, words, drawn_photos, tiny_backbone, tmp_path):
    told = refused(tmp_path, drawn_photos, "-o", tmp_path / "out", "--backbone", tiny_backbone, *SHORT, "--compare", compared)
    assert words in told


# ------------------------------------------------------------------------------------------------ strangers


@pytest.mark.parametrize("kept", ["frozen", "fine-tuned"])
def test_photos_that_chose_know_strangers_too_where_the_head_alone_learned(kept, drawn_photos, tiny_backbone, tmp_path, monkeypatch):
    """Fine-tuned features fit the photos that trained, so that there the others must choose the threshold."""
    seen = []
    monkeypatch.setattr("pawlatch_train.trust.stranger_model", lambda photos, labels, *, choose: seen.append((photos, choose)))
    monkeypatch.setattr("pawlatch_train.fit.MIN_GAIN", -1e9)  # fine-tuning, where there is any, is kept
    trained(drawn_photos, "-o", tmp_path / "model", "--backbone", tiny_backbone, *SHORT, "--fine-tune-epochs", int(kept != "frozen"))
    provenance = read_card(tmp_path / "model").provenance
    assert provenance["kept_stage"] == kept
    fit, choose = (len(provenance["splits"][name]) for name in ("fit", "choose"))
    [(photos, others)] = seen
    assert photos.views.shape[1] == len(photos) == (fit + choose if kept == "frozen" else fit)
    assert len(others or ()) == (0 if kept == "frozen" else choose)


# ------------------------------------------------------------------------------------------------ a teacher


def test_a_teacher_of_another_network_and_size_teaches(saved, drawn_photos, tiny_backbone, tmp_path):
    """The student sees 96 pixels where its teacher sees 64; its targets are the teacher's scores alone."""
    words = [drawn_photos, "--backbone", tiny_backbone, "--image-size", 96, "--epochs", 2, "--fine-tune-epochs", 0, "--views", 1,
             "--class-weights", "no", "--distill-weight", 1]
    trained(*words, "-o", tmp_path / "student", "--distill", saved)
    trained(*words, "-o", tmp_path / "alone")
    assert read_card(tmp_path / "student").input.size_hw == (96, 96)
    assert epochs_of(tmp_path / "student")[0]["loss"] != epochs_of(tmp_path / "alone")[0]["loss"]
    assert names(tmp_path) == ["alone", "student"]


def test_a_teacher_gives_softened_scores(saved, drawn_photos):
    images = pictures(drawn_photos)
    scores = served(saved, images)["class_scores"]
    assert np.allclose(Teacher(saved, LABELS, policy="stretch", temperature=1.0)(images.astype(np.uint8)), scores, atol=1e-6)
    softened = Teacher(saved, LABELS, policy="stretch", temperature=3.0)(images.astype(np.uint8))
    assert np.allclose(softened, softmax(np.log(scores) / 3), atol=1e-5)
    assert np.allclose(softened.sum(1), 1, atol=1e-6)
    assert (softened.max(1) < scores.max(1)).all()
    assert Teacher(saved, LABELS, policy="stretch", temperature=1.0).side == SIDE


def test_a_teacher_that_cannot_teach_is_refused(saved, drawn_photos, tmp_path):
    with pytest.raises(PawlatchError, match=r"must know the same labels .*; train it on the same photos"):
        Teacher(saved, ("_empty", "초코"), policy="stretch", temperature=1.0)
    with pytest.raises(PawlatchError, match="was trained with --fit stretch; add it"):
        Teacher(saved, LABELS, policy="letterbox", temperature=1.0)
    shutil.copyfile(saved / "pawlatch.json", tmp_path / "pawlatch.json")
    with pytest.raises(PawlatchError, match="holds no saved_model"):
        Teacher(tmp_path, LABELS, policy="stretch", temperature=1.0)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(("words", "told"), [
    (["--fine-tune-at", "blok_3"], "did you mean block_3"),
    (["--fine-tune-at", 99], "must be an index below"),
    (["--freeze", "nothing*"], "--freeze 'nothing*' is no layer"),
    (["--cut-at", "blok_3"], "has no layer 'blok_3'"),
    (["--backbone", "mobilenet_v2", "--weights", "starter", "--cut-at", "block_3"], "--cut-at is for --backbone path/to/model"),
    (["--backbone", "hub:nowhere"], "cannot be had from TF-Hub"),
    (["--backbone", "hub:nowhere", "--width", 0.5], "--weights and --width are for"),
    (["--backbone", "nowhere"], "there is nothing at nowhere"),
    (["--backbone", "mobilenet_v2", "--weights", "none", "--width", "nan"], "--width"),
    (["--backbone", "mobilenet_v2", "--weights", "none", "--width", "-1"], "--width"),
    (["--weights", "none"], "--weights and --width are for"),
    (["--folds", 2], "--folds must be 3 or more"),
    (["--folds", -1], "--folds must be 3 or more"),
    (["--folds", 40], "expected 2 to"),
    (["--folds", 3, "--strategy", "mirrored"], "leave --strategy away"),
    (["--max-false-unlock", 2], "a rate must be above 0"),
    (["--max-false-unlock", "nan"], "a rate must be above 0"),
    (["--distill", "nowhere"], "nowhere"),
    (["--strategy", "tpu"], "TPU"),
    (["--strategy", "parameter-server"], "left out"),
    (["--strategy", "multiworker"], "TF_CONFIG"),
    (["--head", "logit"], "there are 3; use --head softmax"),
    (["--optimizer", "lion"], "invalid choice"),
    (["--dropout", "half"], "dropout takes a number"),
    (["--epochs", -1], "head_epochs must be from"),
    (["--recipe", "nowhere.toml"], "cannot be read"),
    (["--image-size", 100], "multiple of 32"),
    (["--save", "onnx"], "invalid choice"),
    (["--unlock", "cat"], "--unlock must name labels"),
    (["--compare", "dropout=0,0.5", "--resume"], "leave --resume away"),
], ids=lambda part: "-".join(map(str, part)).strip("-") if isinstance(part, list) else "")
def test_what_cannot_be_is_one_sentence_and_nothing_half_written(words, told, drawn_photos, tiny_backbone, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    given = [] if "--backbone" in words else ["--backbone", tiny_backbone]
    sentence = refused(tmp_path, drawn_photos, "-o", tmp_path / "deep" / "model", *given, *SHORT, *words)
    assert told in sentence


def test_a_teacher_of_other_labels_is_refused_before_anything_is_trained(saved, drawn_photos, tiny_backbone, tmp_path):
    photos = two_labels(drawn_photos, tmp_path / "photos")
    told = refused(tmp_path, photos, "-o", tmp_path / "model", "--backbone", tiny_backbone, *SHORT, "--distill", saved)
    assert "a teacher must know the same labels" in told
