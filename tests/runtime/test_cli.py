"""The `pawlatch` command: its table, its exit statuses, and what it does not import."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch.cli import COMMANDS

HEAVY = {"tensorflow", "tf_keras", "keras", "onnx", "tf2onnx", "matplotlib", "pawlatch_train", "pawlatch_convert"}


def pawlatch(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", "from pawlatch.cli import main; raise SystemExit(main())", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, **options,
    )


def write_colour(path: Path, rgb, side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(-12, 13, (side, side, 3))
    cv2.imwrite(str(path), np.clip(np.array(rgb[::-1]) + noise, 0, 255).astype(np.uint8))
    return path


def test_every_command_is_listed_and_explains_itself():
    usage = pawlatch("--help")
    assert usage.returncode == 0
    for name in COMMANDS:
        assert f"  {name} " in usage.stdout


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.extra is None])
def test_device_commands_have_help(name):
    told = pawlatch(name, "--help")
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("usage: pawlatch " + name)


def test_bad_use_exits_with_two():
    assert pawlatch().returncode == 2
    unknown = pawlatch("unlock")
    assert unknown.returncode == 2
    assert "there is no command 'unlock'" in unknown.stderr


@pytest.mark.parametrize(("name", "extra"), [("train", "train"), ("convert", "convert")])
def test_a_missing_room_says_what_to_type(name, extra, tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not here', name='tensorflow')")
    for label in "ab":
        for i in range(4):
            write_colour(tmp_path / "photos" / label / f"{i}.jpg", (200, 30 * i, 30))
    (tmp_path / "model").mkdir()
    arguments = {"train": [tmp_path / "photos", "-o", tmp_path / "out"], "convert": ["--int8", tmp_path / "model"]}[name]
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pawlatch.cli import main; raise SystemExit(main())"
    told = subprocess.run([sys.executable, "-c", program, name, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert told.returncode == 2
    if name == "train":  # convert looks at the model first
        assert f'pip install "pawlatch[{extra}]"' in told.stderr
    assert not (tmp_path / "out").exists()


def test_device_commands_never_import_the_heavy_rooms(tiny_bundle, tmp_path):
    photo = write_colour(tmp_path / "photos" / "own" / "a.jpg", (220, 30, 30))
    write_colour(tmp_path / "photos" / "other" / "b.jpg", (30, 30, 220))
    program = (
        "import sys\nfrom pawlatch.cli import main\n"
        f"assert main(['classify', {str(tiny_bundle)!r}, {str(photo)!r}]) == 0\n"
        f"assert main(['evaluate', {str(tiny_bundle)!r}, {str(tmp_path / 'photos')!r}]) == 0\n"
        f"assert main(['replay', {str(tiny_bundle)!r}, 'scene:empty,own']) == 0\n"
        f"assert main(['doctor', {str(tiny_bundle)!r}]) in (0, 1)\n"
        f"found = {{name.split('.')[0] for name in sys.modules}} & {HEAVY!r}\n"
        "assert not found, found\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr


def test_classify_ranks_every_label(tiny_bundle, tmp_path):
    red, blue = write_colour(tmp_path / "red.png", (220, 30, 30)), write_colour(tmp_path / "blue.png", (30, 30, 220))
    told = pawlatch("classify", tiny_bundle, red, blue, "--json")
    assert told.returncode == 0, told.stderr
    first, second = map(json.loads, told.stdout.splitlines())
    assert (first["label"], second["label"]) == ("own", "other")
    assert list(first["scores"].values()) == sorted(first["scores"].values(), reverse=True)
    assert sum(first["scores"].values()) == pytest.approx(1.0, abs=0.02)
    assert "own" in pawlatch("classify", tiny_bundle, red).stdout


def test_classify_names_what_it_cannot_read_and_goes_on(tiny_bundle, tmp_path):
    red = write_colour(tmp_path / "red.png", (220, 30, 30))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    told = pawlatch("classify", tiny_bundle, tmp_path / "broken.jpg", red)
    assert told.returncode == 2
    assert "broken.jpg" in told.stderr
    assert "red.png" in told.stdout


def test_evaluate_prints_its_interface(tiny_bundle, tmp_path):
    for i in range(3):
        write_colour(tmp_path / "photos" / "own" / f"{i}.png", (200 + 10 * i, 30, 30))
        write_colour(tmp_path / "photos" / "other" / f"{i}.png", (30, 30, 200 + 10 * i))
    write_colour(tmp_path / "photos" / "own" / "wrong.png", (30, 30, 220))
    (tmp_path / "photos" / "own" / "bad.jpg").write_bytes(b"")
    told = pawlatch("evaluate", tiny_bundle, tmp_path / "photos", "--json")
    assert told.returncode == 0, told.stderr
    result = json.loads(told.stdout)
    assert set(result) >= {"variant", "accuracy", "n", "interval_95", "labels", "per_label", "confusion"}
    assert (result["n"], result["accuracy"]) == (7, pytest.approx(6 / 7))
    assert result["interval_95"][0] < 6 / 7 < result["interval_95"][1]
    assert result["confusion"][0][:2] == [3, 1]
    assert "bad.jpg" in told.stderr


def test_evaluate_refuses_labels_it_does_not_know(tiny_bundle, tmp_path):
    write_colour(tmp_path / "photos" / "horse" / "a.png", (220, 30, 30))
    told = pawlatch("evaluate", tiny_bundle, tmp_path / "photos")
    assert told.returncode == 2
    assert "horse" in told.stderr
    assert "own" in told.stderr


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    for folder, word in ((tmp_path / "nowhere", "none"), (tmp_path, "pawlatch.json")):
        told = pawlatch("classify", folder, "a.jpg")
        assert told.returncode == 2
        assert word in told.stderr


def test_doctor_goes_red_where_a_file_is_not_the_cards(tiny_bundle):
    assert pawlatch("doctor").returncode == 0
    (file,) = tiny_bundle.glob("float32-*.tflite")
    file.write_bytes(file.read_bytes()[:-10])
    told = pawlatch("doctor", tiny_bundle)
    assert told.returncode == 1
    assert "FAILED" in told.stdout


def test_bench_measures_every_variant_as_a_ratio(tiny_bundle):
    pytest.importorskip("onnxruntime", reason="the tiny bundle has an ONNX variant, which needs the onnx extra")
    rows = json.loads(pawlatch("bench", tiny_bundle, "--runs", "3", "--json").stdout)["rows"]
    assert rows["float32"]["ratio"] == pytest.approx(1.0)
    assert {"fit", "int8"} <= rows.keys()
