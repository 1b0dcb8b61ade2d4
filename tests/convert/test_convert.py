"""The whole conversion of a small model, through its public doors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pawlatch.card import read_card
from pawlatch.classify import Classifier
from pawlatch.files import sha256
from pawlatch.image import read_image
from pawlatch_convert import ConvertOptions, convert_model, render_table
from pawlatch_convert.bundle import kept_variants
from pawlatch_convert.census import take_census
from pawlatch_convert.cli import main
from pawlatch_convert.parity import ParityResult
from pawlatch_convert.recipes import RECIPES
from pawlatch_convert.savedmodel import SavedModel


def hashes(folder: Path) -> dict[str, str]:
    """Every file below, with its hash."""
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_variant_is_green_and_int8_is_deployed(result: ParityResult) -> None:
    assert [entry.variant for entry in result.variants] == list(RECIPES)
    assert {entry.variant: entry.reasons for entry in result.variants} == dict.fromkeys(RECIPES, ())
    assert (result.n_photos, result.n_heldout, result.deploy) == (54, 30, "int8")
    assert result.top1 > 0.9  # else the comparisons would mean little


def test_the_bundle_is_whole(converted: Path, result: ParityResult) -> None:
    edge = converted / "edge"
    card = read_card(edge)
    assert set(card.files) == set(RECIPES)
    assert card.deploy == "int8"
    for entry in card.files.values():
        assert sha256(edge / entry.name) == entry.sha256
        assert entry.sha256[:8] in entry.name
        assert (edge / entry.name).stat().st_size == entry.bytes
    assert {path.name for path in edge.iterdir()} == {
        "pawlatch.json", "parity.json", "parity.html", "selftest", *(entry.name for entry in card.files.values()),
    }
    assert json.loads((edge / "parity.json").read_text()) == json.loads(json.dumps(result.to_dict()))
    assert card.threshold("float32") == card.threshold("saved_model") == 0.6
    assert card.threshold("int8") == 154 / 256  # the next step up that an int8 softmax has
    assert card.parity["int8"]["agreement"] == result.variants[3].comparison.agreement  # type: ignore[union-attr]


def test_the_model_itself_is_not_touched(pristine: Path, converted: Path) -> None:
    after = {path: digest for path, digest in hashes(converted).items() if not path.startswith("edge/")}
    assert after == hashes(pristine)


@pytest.mark.parametrize("variant", RECIPES)
def test_the_runtime_classifies_with_each_variant(converted: Path, variant: str) -> None:
    classify = Classifier(converted, variant=variant)
    for label in classify.card.labels:
        prediction = classify(read_image(converted / "assets.extra" / "heldout" / label / "00.jpg"))
        assert prediction.label == label
        assert prediction.embedding.shape == (24,)


def test_the_census_counts_by_the_formula_and_tells_integers_from_floats(converted: Path) -> None:
    by_hand = 24 * 24 * 8 * 27 + 12 * 12 * 16 * 72 + 6 * 6 * 24 * 144 + 24 * 3
    card = read_card(converted / "edge")
    census = {name: take_census(converted / "edge" / entry.name) for name, entry in card.files.items()}
    assert {name: entry.macs for name, entry in census.items()} == dict.fromkeys(RECIPES, by_hand)
    integers = {"int8", "int16x8", "onnx_int8"}
    assert {name for name, entry in census.items() if entry.integer_share == 1} == integers
    assert {name for name, entry in census.items() if entry.integer_share == 0} == set(RECIPES) - integers
    assert (census["int8"].input_type, census["int8"].input_scale, census["int8"].input_zero_point) == ("uint8", 1.0, 0)
    assert census["int8"].float_operators == ()
    assert "CONV_2D" in census["float32"].float_operators


def test_smaller_precision_is_a_smaller_file(converted: Path) -> None:
    size = {name: entry.bytes for name, entry in read_card(converted / "edge").files.items()}
    assert size["float16"] < 0.75 * size["float32"]
    assert size["int8"] < 0.75 * size["float32"]


def test_a_second_run_gives_the_same_bytes_and_keeps_what_it_was_not_asked_for(converted: Path) -> None:
    before = read_card(converted / "edge")
    (converted / "edge" / "float16-00000000.tflite").write_bytes(b"of an older run")
    (converted / "edge" / "note.txt").write_text("the user's own")
    convert_model(converted, ConvertOptions(recipes=("int8",)))
    after = read_card(converted / "edge")
    assert after.files == before.files  # names and hashes: int8 and float32 anew, the others kept
    assert not (converted / "edge" / "float16-00000000.tflite").exists()
    assert (converted / "edge" / "note.txt").exists()


def test_another_models_variants_are_not_kept(converted: Path) -> None:
    card = read_card(converted)
    assert set(kept_variants(converted / "edge", card, ["int8"]).files) == set(RECIPES) - {"int8"}
    for provenance in ({"seed": 2}, {}):  # another training; nothing known
        assert not kept_variants(converted / "edge", replace(card, provenance=provenance), []).files
    (converted / "edge" / read_card(converted / "edge").files["float16"].name).write_bytes(b"rotten")
    assert "float16" not in kept_variants(converted / "edge", card, []).files


def test_the_command_prints_the_verdict_and_nothing_of_the_converters(
    model_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:
    (model_dir / "assets.extra" / "heldout" / "red" / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    status = main(["--int8", str(model_dir), "-o", str(tmp_path / "elsewhere"), "--json"])
    captured = capfd.readouterr()
    parity = json.loads(captured.out)
    assert status == 0
    assert [entry["variant"] for entry in parity["variants"]] == ["float32", "int8"]
    assert {entry["verdict"] for entry in parity["variants"]} == {"green"}
    ((path, reason),) = parity["set_aside"]
    assert path.endswith("broken.jpg")
    assert "ends early" in reason
    assert all(line.endswith(" s") and " … " in line for line in captured.err.splitlines()), captured.err
    assert read_card(tmp_path / "elsewhere").deploy == "int8"
    assert not (model_dir / "edge").exists()


def test_a_model_of_a_fixed_batch_of_one_is_run_photo_by_photo(pristine: Path, batch_of_one: Path) -> None:
    pixels = np.zeros((5, 48, 48, 3), np.uint8)
    scores = SavedModel(batch_of_one, read_card(pristine)).outputs(pixels)[0]
    np.testing.assert_allclose(scores, np.full((5, 3), 1 / 3), atol=1e-6)  # its head is still zeros


def test_each_recipe_has_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    usage = capsys.readouterr().out
    for flag in ("--float16", "--int8-dynamic", "--int8", "--int16x8", "--onnx", "--onnx-int8"):
        assert f"[{flag}]" in usage


def test_importing_the_room_is_cheap() -> None:
    program = "import sys, pawlatch_convert.cli; print(*{'tensorflow', 'onnx', 'onnxruntime'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.check_output([sys.executable, "-c", program], text=True, env=environment).strip() == ""


def test_the_table_fits_a_terminal(result: ParityResult) -> None:
    table = render_table(result)
    assert "deployed: int8" in table
    rows = table.split("\n\n")[1].splitlines()
    assert [row.split()[0] for row in rows] == ["variant", *RECIPES]
    assert all(row.endswith("green") for row in rows[1:])
    assert max(map(len, table.splitlines())) <= 100
