"""What goes wrong with exported models in practice, done on purpose: the public command must end with status 1 and say why.

Every test runs on a drawn model, in this process; the slow ones again on one that was trained on real photos, as a command.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pawlatch import cli
from pawlatch.card import VariantFile, read_card
from pawlatch.files import sha256
from pawlatch_convert.graph import Graph
from pawlatch_convert.photoset import find_photos
from pawlatch_convert.savedmodel import SavedModel

SCRIPT = Path(__file__).with_name("sabotages.py")
CONVERT = ("--int8", "--no-ladder")
PIXELS = ("bgr", "unit_scale", "nearest", "no_exif")
UPSIDE_DOWN = 3  # of EXIF's orientations
DECISIONS = {"top1", "agreement", "sure", "door"}

Run = Callable[..., tuple[int, dict[str, Any]]]


@dataclass(frozen=True)
class Subject:
    """A model folder with its own float32 and int8 bundle, and the int8 file of another model of the same shape."""

    model: Path
    other: Path
    is_drawn: bool

    @property
    def label(self) -> str:
        """One of its labels."""
        return read_card(self.model).labels[-1]

    def file(self, variant: str) -> Path:
        """One of its bundle's files."""
        return self.model / "edge" / read_card(self.model / "edge").files[variant].name

    @property
    def other_code(self) -> str:
        """What the other model's file does: the drawn one tells the same colours by other features, the real one knows flowers."""
        return "embedding" if self.is_drawn else "agreement"

    def copy(self, folder: Path) -> Path:
        """Its folder, to be doctored."""
        return Path(shutil.copytree(self.model, folder / "model"))


def turn_upside_down(path: Path) -> None:
    """The same picture as a camera that was held upside down writes it: turned, with a tag that says so."""
    turned = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[::-1, ::-1]
    jpeg = cv2.imencode(".jpg", turned, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tiff = b"II*\0\x08\0\0\0\x01\0" + b"\x12\x01\x03\0\x01\0\0\0" + UPSIDE_DOWN.to_bytes(4, "little") + b"\0\0\0\0"
    body = b"Exif\0\0" + tiff
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:])


@pytest.fixture(scope="session")
def drawn(pristine: Path, other_int8: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    model = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("drawn") / "model"))
    for path in sorted((model / "assets.extra" / "heldout").rglob("*.jpg"))[::2]:
        turn_upside_down(path)
    card = read_card(model)
    found = find_photos(model, None, card)
    samples = list(found.fitted(found.heldout, card, []))
    scores, _ = SavedModel(model, card).outputs(np.stack([sample.pixels for sample in samples]))
    told = {sample.name: dict(zip(card.labels, row.tolist(), strict=True)) for sample, row in zip(samples, scores, strict=True)}
    (model / "assets.extra" / "expected.json").write_text(json.dumps(told))
    assert cli.main(["convert", *CONVERT, str(model)]) == 0
    return Subject(model, other_int8, is_drawn=True)


@pytest.fixture(scope="session")
def trained(shared: Path, tmp_path_factory: pytest.TempPathFactory, command: Callable[..., Any]) -> Subject:
    folder = tmp_path_factory.mktemp("trained")

    def model_of(name: str, n_train: int, n_valid: int, *options: object) -> Path:
        for split, most in (("train", n_train), ("valid", n_valid)):
            for label in sorted((shared / "data" / name / split).iterdir()):
                (folder / name / split / label.name).mkdir(parents=True)
                for i, path in enumerate(sorted(label.iterdir())[:most]):
                    copy = shutil.copyfile(path, folder / name / split / label.name / f"{i:03}{path.suffix}")
                    if split == "valid" and i % 2:
                        turn_upside_down(copy)
        model = folder / f"{name}_model"
        for arguments in (("train", folder / name, "-o", model, "--width", 0.35, *options), ("convert", *CONVERT, model)):
            told = command(*arguments, KERAS_HOME=str(shared / "keras_home"))
            assert told.returncode == 0, told.stdout + told.stderr
        return model

    cats = model_of("cats", 24, 12, "--unlock", "Leo", "--head-epochs", 10, "--fine-tune-epochs", 1)
    flowers = model_of("flowers", 16, 8, "--head-epochs", 3, "--fine-tune-epochs", 0)
    return Subject(cats, flowers / "edge" / read_card(flowers / "edge").files["int8"].name, is_drawn=False)


@pytest.fixture(scope="session", params=["drawn", pytest.param("trained", marks=pytest.mark.slow)])
def subject(request: pytest.FixtureRequest) -> Subject:
    found: Subject = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def run(subject: Subject, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run(sabotage, *arguments)`: the exit status of `convert`, and the JSON that it prints."""

    def here(sabotage: str, *arguments: object) -> tuple[int, dict[str, Any]]:
        spec = importlib.util.spec_from_file_location("sabotages", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        capsys.readouterr()
        module.SABOTAGES[sabotage](monkeypatch.setattr)
        status = cli.main(["convert", "--json", *map(str, arguments)])
        monkeypatch.undo()
        told = capsys.readouterr()
        return status, json.loads(told.out) if told.out else {"error": told.err}

    def as_command(sabotage: str, *arguments: object) -> tuple[int, dict[str, Any]]:
        told = subprocess.run(
            [sys.executable, str(SCRIPT), sabotage, "--json", *map(str, arguments)], capture_output=True, text=True, timeout=600,
        )
        assert told.stdout or told.returncode, told.stderr
        return told.returncode, json.loads(told.stdout) if told.stdout else {"error": told.stderr}

    return here if subject.is_drawn else as_command


def reasons(parity: dict[str, Any]) -> dict[str, set[str]]:
    """The codes of each variant."""
    return {entry["variant"]: {reason["code"] for reason in entry["reasons"]} for entry in parity["variants"]}


# ---------------------------------------------------------------------------------------------------------- controls


def test_unsabotaged_it_is_green(subject: Subject, run: Run, tmp_path: Path) -> None:
    status, parity = run("none", *CONVERT, "-o", tmp_path / "edge", subject.model)
    assert (status, reasons(parity)) == (0, {"float32": set(), "int8": set()})
    assert read_card(tmp_path / "edge").files == read_card(subject.model / "edge").files  # byte for byte, each time
    before = {path.name: path.read_bytes() for path in (subject.model / "edge").rglob("*.*")}
    status, again = run("none", "--verify", subject.model)
    assert (status, reasons(again)) == (0, {"float32": set(), "int8": set()})
    measured = [[entry["comparison"] for entry in of["variants"]] for of in (parity, again)]
    assert measured[0] == measured[1]
    assert {path.name: path.read_bytes() for path in (subject.model / "edge").rglob("*.*")} == before
    for variant in ("float32", "int8"):
        status, alone = run("none", "--verify", subject.file(variant), subject.model)
        assert (status, reasons(alone)) == (0, {variant: set()})


# -------------------------------------------------------------------------- what photos become before the model sees them


@pytest.mark.parametrize("sabotage", PIXELS)
def test_photos_that_no_longer_reach_the_model_as_in_training_are_red(
    subject: Subject, run: Run, tmp_path: Path, sabotage: str,
) -> None:
    """Both sides share the preprocessing, so the two agree; what the SavedModel said when it was trained does not."""
    if subject.is_drawn:
        status, parity = run(sabotage, "--verify", subject.model)
    else:
        status, parity = run(sabotage, *CONVERT, "-o", tmp_path / "edge", subject.model)
        assert not (tmp_path / "edge").exists()
        assert json.loads((tmp_path / "edge.rejected" / "parity.json").read_text()) == parity
    assert status == 1
    assert all("pixels" in codes for codes in reasons(parity).values())


@pytest.mark.parametrize("sabotage", ["device_bgr", "device_unit_scale"])
def test_a_device_that_prepares_photos_otherwise_is_red(subject: Subject, run: Run, tmp_path: Path, sabotage: str) -> None:
    if subject.is_drawn:
        status, parity = run(sabotage, "--verify", subject.model)
    else:
        status, parity = run(sabotage, *CONVERT, "-o", tmp_path / "edge", subject.model)
        assert not (tmp_path / "edge").exists()
        assert "reference" in reasons(parity)["int8"]
    assert status == 1
    for codes in reasons(parity).values():
        assert codes & DECISIONS
        assert "pixels" not in codes


def test_nearest_does_no_harm_to_smooth_photos_and_turns_noisy_ones_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    assert run("device_nearest", "--verify", subject.model)[0] == 0
    rng = np.random.default_rng(0)
    times, noise = (6, 70) if subject.is_drawn else (1, 40)  # a sensor at dusk, of many pixels
    for path in sorted((subject.model / "assets.extra" / "heldout").rglob("*.*")):
        large = cv2.resize(cv2.imread(str(path)), None, fx=times, fy=times)
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        noisy = np.clip(large + rng.normal(0, noise, large.shape), 0, 255)
        cv2.imwrite(str(tmp_path / path.parent.name / path.name), noisy.astype(np.uint8))
    arguments = ("--verify", subject.file("float32"), subject.model, "--photos", tmp_path)
    assert run("none", *arguments)[0] == 0
    status, parity = run("device_nearest", *arguments)
    assert status == 1
    assert all(codes & DECISIONS for codes in reasons(parity).values())


def test_exif_ignored_does_no_harm_to_blobs_and_turns_cats_red(subject: Subject, run: Run) -> None:
    status, parity = run("device_no_exif", "--verify", subject.model)
    assert status == (0 if subject.is_drawn else 1)  # a blob upside down is a blob
    assert subject.is_drawn or all(codes & DECISIONS for codes in reasons(parity).values())


# ------------------------------------------------------------------------------------------------------- calibration


def recalibrate(model: Path, change: Callable[[np.ndarray], np.ndarray], *, only: str | None = None) -> None:
    """Change the photos to calibrate with, and leave those of one label alone."""
    for folder in (model / "assets.extra" / "calibration").iterdir():
        if only not in (None, folder.name):
            shutil.rmtree(folder)
            continue
        for path in folder.iterdir():
            cv2.imwrite(str(path), change(cv2.imread(str(path))).astype(np.uint8))


def in_fog(picture: np.ndarray) -> np.ndarray:
    return 127 + 0.03 * (picture - 127.0)


def test_one_label_to_calibrate_with_does_no_harm_where_all_are_lit_alike(subject: Subject, run: Run, tmp_path: Path) -> None:
    model = subject.copy(tmp_path)
    recalibrate(model, lambda picture: picture, only=subject.label)
    status, parity = run("none", *CONVERT, "-o", tmp_path / "edge", model)
    assert (status, reasons(parity)["int8"]) == (0, set())


def test_one_label_that_was_photographed_in_fog_to_calibrate_with_is_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    model = subject.copy(tmp_path)
    recalibrate(model, in_fog, only=subject.label)
    status, parity = run("none", *CONVERT, "-o", tmp_path / "edge", model)
    assert_int8_alone_is_red(status, parity, tmp_path / "edge")


def test_black_pictures_to_calibrate_with_are_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    model = subject.copy(tmp_path)
    recalibrate(model, np.zeros_like)
    status, parity = run("none", *CONVERT, "-o", tmp_path / "edge", model)
    if subject.is_drawn:  # random weights answer to black, which is -1 to them, as loudly as to anything
        assert status == 0
    else:
        assert_int8_alone_is_red(status, parity, tmp_path / "edge")


def test_ranges_far_too_wide_are_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    status, parity = run("ranges_ten_times_too_wide", *CONVERT, "-o", tmp_path / "edge", subject.model)
    if subject.is_drawn:  # three colours are told apart in 25 steps too
        assert status == 0
        status, parity = run("ranges_hundred_times_too_wide", *CONVERT, "-o", tmp_path / "edge", subject.model)
    assert_int8_alone_is_red(status, parity, tmp_path / "edge")


def assert_int8_alone_is_red(status: int, parity: dict[str, Any], edge: Path) -> None:
    assert status == 1
    assert reasons(parity)["float32"] == set()
    assert reasons(parity)["int8"] & {*DECISIONS, "embedding"}
    assert parity["deploy"] == read_card(edge).deploy
    assert parity["deploy"] in ("float32", "float16", "int8_dynamic")
    assert "int8" not in read_card(edge).files


# ---------------------------------------------------------------------------------------------------------- the file


def doctored(subject: Subject, variant: str, change: Callable[[Graph], None], path: Path) -> Path:
    graph = Graph(subject.file(variant).read_bytes())
    change(graph)
    path.write_bytes(graph.to_bytes())
    return path


def corrupt(graph: Graph) -> None:
    """The weights of one layer in the middle, shuffled."""
    layer = graph.convolutions()[len(graph.convolutions()) // 2]
    kernel, _ = graph.weights(layer)
    shuffled = np.random.default_rng(0).permutation(kernel.reshape(-1)).reshape(kernel.shape)
    graph.set_constant(layer.inputs[1], shuffled)


def rotate_labels(graph: Graph) -> None:
    for tensor in graph.convolutions()[-1].inputs[1:]:
        values = graph.constant(tensor)
        assert values is not None
        graph.set_constant(tensor, np.roll(values, 1, axis=0))


def flatten(graph: Graph) -> None:
    """The last layer sees nothing: its scores are those of its bias."""
    layer = graph.convolutions()[-1]
    graph.set_constant(layer.inputs[1], np.zeros_like(graph.weights(layer)[0]))


@pytest.mark.parametrize(
    ("variant", "change", "codes"),
    [
        ("int8", corrupt, {"agreement", "embedding"}),
        ("float32", corrupt, {"agreement", "embedding"}),
        ("float32", rotate_labels, {"top1", "agreement", "sure", "door"}),
        ("int8", flatten, {"scores", "agreement"}),
    ],
    ids=["corrupt int8", "corrupt float32", "rotated labels", "constant"],
)
def test_a_doctored_file_is_red(
    subject: Subject, run: Run, tmp_path: Path, variant: str, change: Callable[[Graph], None], codes: set[str],
) -> None:
    file = doctored(subject, variant, change, tmp_path / f"{variant}.tflite")
    status, parity = run("none", "--verify", file, subject.model)
    assert status == 1
    assert reasons(parity)[variant] >= codes


def test_a_float_file_renamed_to_int8_is_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    file = shutil.copyfile(subject.file("float32"), tmp_path / "int8.tflite")
    status, parity = run("none", "--verify", file, subject.model)
    assert (status, reasons(parity)) == (1, {"int8": {"integer", "input"}})
    file.rename(tmp_path / "mine.tflite")  # which promises nothing
    assert run("none", "--verify", tmp_path / "mine.tflite", subject.model)[0] == 0


def test_a_truncated_file_is_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "int8.tflite"
    data = subject.file("int8").read_bytes()
    for share in (0.9, 0.5, 0.01):
        file.write_bytes(data[: int(share * len(data))])
        status, parity = run("none", "--verify", file, subject.model)
        assert (status, reasons(parity)) == (1, {"int8": {"run"}})


def test_another_models_file_of_the_same_shape_is_red(subject: Subject, run: Run) -> None:
    status, parity = run("none", "--verify", subject.other, subject.model)
    assert status == 1
    assert subject.other_code in reasons(parity)["int8"]


# --------------------------------------------------------------------------------------------------------- the bundle


def vouch_for(bundle: Path, variant: str, file: Path) -> None:
    """Let the bundle's card name another file, with its right hash."""
    card = read_card(bundle)
    name = f"{variant}-{sha256(file)[:8]}.tflite"
    shutil.copyfile(file, bundle / name)
    entry = VariantFile(name, "tflite", card.files[variant].precision, file.stat().st_size, sha256(file))
    replace(card, files={**card.files, variant: entry}).write(bundle)


def test_a_bundle_whose_card_vouches_for_something_else_is_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    model = subject.copy(tmp_path)
    vouch_for(model / "edge", "int8", subject.file("float32"))
    status, parity = run("none", "--verify", model)
    assert status == 1
    assert reasons(parity)["float32"] == set()
    assert reasons(parity)["int8"] >= {"integer", "input"}
    vouch_for(model / "edge", "int8", subject.other)
    status, parity = run("none", "--verify", model)
    assert status == 1
    assert reasons(parity)["float32"] == set()
    assert subject.other_code in reasons(parity)["int8"]


def test_a_bundle_whose_card_rotates_the_labels_or_moves_the_threshold_is_red(
    subject: Subject, run: Run, tmp_path: Path,
) -> None:
    model = subject.copy(tmp_path)
    card = read_card(model / "edge")
    replace(card, labels=(*card.labels[1:], card.labels[0])).write(model / "edge")
    status, parity = run("none", "--verify", model)
    assert (status, reasons(parity)) == (1, {"float32": {"card"}, "int8": {"card"}})
    points = {**card.operating_points, "int8": {**card.operating_points["int8"], "threshold": 0.01}}
    replace(card, operating_points=points).write(model / "edge")
    status, parity = run("none", "--verify", model)
    assert (status, reasons(parity)) == (1, {"float32": set(), "int8": {"card"}})


def test_a_train_card_whose_labels_were_rotated_is_red(subject: Subject, run: Run, tmp_path: Path) -> None:
    """SavedModel and variants agree on the wrong names: only training remembers the right ones."""
    model = subject.copy(tmp_path)
    card = read_card(model)
    replace(card, labels=(*card.labels[1:], card.labels[0])).write(model)
    status, parity = run("none", *CONVERT, "-o", tmp_path / "edge", model)
    assert (status, reasons(parity)) == (1, {"float32": {"pixels"}, "int8": {"pixels"}})
    assert not (tmp_path / "edge").exists()


def test_a_flipped_byte_is_bad_input(subject: Subject, run: Run, tmp_path: Path) -> None:
    model = subject.copy(tmp_path)
    file = model / "edge" / subject.file("int8").name
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    status, told = run("none", "--verify", model)
    assert status == 2
    assert "not the file its card vouches for" in told["error"]
