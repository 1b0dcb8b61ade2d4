"""A small SavedModel that tells red, green and blue blobs apart, with its card and its photos. TensorFlow only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pawlatch.card import InputSpec, ModelCard, read_card
from pawlatch.image import fit, read_image
from pawlatch.photos import list_splits
from pawlatch.quiet import quiet
from pawlatch_convert import ConvertOptions, convert_model
from pawlatch_convert.heavy import heavy
from pawlatch_convert.parity import ParityResult

LABELS = ("blue", "green", "red")
SIZE_HW = (48, 48)
WIDTHS = (3, 8, 16, 24)
N_HELDOUT, N_CALIBRATION = 10, 8


def draw_photo(label: str, rng: np.random.Generator) -> np.ndarray:
    """A blob of one colour before a noisy grey wall: RGB, (64, 80, 3), uint8."""
    image = rng.normal(rng.uniform(80, 170), 25, (64, 80, 3))
    channel = {"red": 0, "green": 1, "blue": 2}[label]
    rows, columns = np.mgrid[:64, :80]
    blob = np.hypot(rows - rng.uniform(24, 40), columns - rng.uniform(30, 50)) < rng.uniform(14, 22)
    image[blob] += np.where(np.arange(3) == channel, 90, -60)
    return np.clip(image, 0, 255).astype(np.uint8)


def save_photos(folder: Path, n: int, *, seed: int) -> None:
    """`n` photos of each label, as JPEG."""
    rng = np.random.default_rng(seed)
    for label in LABELS:
        (folder / label).mkdir(parents=True)
        for i in range(n):
            cv2.imwrite(str(folder / label / f"{i:02}.jpg"), draw_photo(label, rng)[..., ::-1])


def load_photos(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    photos = list_splits(folder)[""]
    pixels = np.stack([fit(read_image(photo.path), SIZE_HW) for photo in photos])
    return pixels, np.array([LABELS.index(photo.label) for photo in photos])


def build_graph(*, batch: int | None = None, pooled: Callable[[Any], Any] = lambda embedding: embedding, seed: int = 1) -> Any:
    """Random convolutions, mean pooling (and what `pooled` makes of it), and a head of zeros."""
    tf = heavy("tensorflow")
    rng = np.random.default_rng(seed)
    module = tf.Module()
    module.kernels = [
        tf.Variable(rng.normal(0, (2 / (9 * n_in)) ** 0.5, (3, 3, n_in, n_out)).astype(np.float32))
        for n_in, n_out in pairwise(WIDTHS)
    ]
    module.head = tf.Variable(np.zeros((WIDTHS[-1] + 1, len(LABELS)), np.float32))

    @tf.function(input_signature=[tf.TensorSpec((batch, *SIZE_HW, 3), tf.float32, name="image")])
    def serve(image: Any) -> Any:
        features = image / 127.5 - 1.0
        for kernel in module.kernels:
            features = tf.nn.relu6(tf.nn.conv2d(features, kernel, 2, "SAME"))
        embedding = pooled(tf.reduce_mean(features, [1, 2]))
        return {
            "class_scores": tf.nn.softmax(embedding @ module.head[:-1] + module.head[-1]),
            "embedding": embedding,
        }

    module.serve = serve
    return module


def fit_head(module: Any, pixels: np.ndarray, truth: np.ndarray) -> None:
    """Logistic regression on the embedding, by plain gradient descent on standardized features."""
    embedding = module.serve(pixels.astype(np.float32))["embedding"].numpy()
    mean, deviation = embedding.mean(0), embedding.std(0) + 1e-3
    features = np.c_[(embedding - mean) / deviation, np.ones(len(truth))]
    head = np.zeros((features.shape[1], len(LABELS)))
    for _ in range(500):
        scores = np.exp(features @ head)
        scores /= scores.sum(1, keepdims=True)
        head += 0.5 * features.T @ (np.eye(len(LABELS))[truth] - scores) / len(truth)
    weights = head[:-1] / deviation[:, None]
    module.head.assign(np.r_[weights, [head[-1] - mean @ weights]].astype(np.float32))


def make_model(folder: Path, *, seed: int = 1, build: Callable[..., Any] = build_graph) -> Path:
    """A model folder as train would leave it, of a graph with a head of zeros, which is fitted to the photos."""
    tf = heavy("tensorflow")
    with quiet():
        module = build(seed=seed)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
        save_photos(folder / "assets.extra" / "calibration", N_CALIBRATION, seed=2)
        save_photos(folder / "assets.extra" / "heldout", N_HELDOUT, seed=3)
        fit_head(module, *load_photos(folder / "assets.extra" / "calibration"))
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    card = ModelCard(
        "blobs", LABELS, InputSpec(SIZE_HW), unlock=("red",), operating_points={"saved_model": {"threshold": 0.6}},
        provenance={"seed": seed},
    )
    card.write(folder)
    return folder


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder as train would leave it. Not to be changed: use `model_dir`."""
    return make_model(tmp_path_factory.mktemp("pristine") / "model")


@pytest.fixture(scope="session")
def other_int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The int8 file of another model of the same shape, with weights of its own."""
    folder = make_model(tmp_path_factory.mktemp("other") / "model", seed=2)
    convert_model(folder, ConvertOptions(recipes=("int8",), ladder=False))
    return folder / "edge" / read_card(folder / "edge").files["int8"].name


@pytest.fixture(scope="session")
def make() -> Callable[..., Path]:
    """`make(folder, build=...)`: a model folder of another graph; see `make_model`."""
    return make_model


@pytest.fixture
def model_dir(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, not yet converted."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


@pytest.fixture
def batch_of_one(tmp_path: Path) -> Path:
    """A SavedModel, without card and photos, that takes one photo at a time."""
    folder = tmp_path / "batch_of_one"
    graph = build_graph(batch=1)
    with quiet():
        heavy("tensorflow").saved_model.save(graph, str(folder), signatures={"serving_default": graph.serve})
    return folder


@pytest.fixture
def unconvertible(pristine: Path, tmp_path: Path) -> Path:
    """A model folder whose graph holds an operator that TFLite does not have."""
    tf = heavy("tensorflow")
    folder = Path(shutil.copytree(pristine, tmp_path / "unconvertible"))
    graph = build_graph(pooled=tf.math.digamma)
    with quiet():
        tf.saved_model.save(graph, str(folder), signatures={"serving_default": graph.serve})
    return folder


@pytest.fixture(scope="session")
def _converted(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParityResult]:
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("converted") / "model"))
    return folder, convert_model(folder)


@pytest.fixture(scope="session")
def result(_converted: tuple[Path, ParityResult]) -> ParityResult:
    """The verdict on all variants."""
    return _converted[1]


@pytest.fixture
def converted(_converted: tuple[Path, ParityResult], tmp_path: Path) -> Path:
    """A copy of the model folder with every variant converted."""
    return Path(shutil.copytree(_converted[0], tmp_path / "converted"))
