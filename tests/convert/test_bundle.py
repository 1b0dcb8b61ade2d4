"""The bundle survives whatever happens while it is replaced, and can be taken back."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pawlatch import cli
from pawlatch.bundle import roll_back
from pawlatch.card import CARD_NAME, ModelCard, read_bundle, read_card, verified_file
from pawlatch.classify import Classifier
from pawlatch_convert import pipeline
from pawlatch_convert.bundle import promote
from pawlatch_convert.parity import ParityResult

SCRIPT = Path(__file__).with_name("sabotages.py")
PREVIOUS = "pawlatch.previous.json"

# Forks for every k a process that dies before its k-th operation on a file, or is interrupted by Ctrl-C after it. One that dies
# before it has forced its bytes to the disk leaves half of them. No TensorFlow is loaded here, so that a fork is cheap and safe.
PLUGS = """
import os, pickle, shutil, signal, sys
from itertools import count
from pathlib import Path
from pawlatch.bundle import roll_back
from pawlatch_convert.bundle import promote

def killed(function, *arguments, **named):
    if isinstance(arguments[0], int):
        os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
    os.kill(os.getpid(), signal.SIGKILL)

def interrupted(function, *arguments, **named):
    try:
        function(*arguments, **named)
    finally:  # whatever it found
        raise KeyboardInterrupt

def fused(function, operations, k):
    return lambda *arguments, **named: (end if next(operations) == k else call)(function, *arguments, **named)

def call(function, *arguments, **named):
    return function(*arguments, **named)

INTERRUPTED = 42
given, work, name, how, arguments = pickle.loads(Path(sys.argv[1]).read_bytes())
end = {"killed": killed, "interrupted": interrupted}[how]
for k in count():
    edge = work / str(k) / "edge"
    shutil.copytree(given, edge) if given.exists() else edge.parent.mkdir(parents=True)
    child = os.fork()
    if not child:
        operations = count()
        for operation in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
            setattr(os, operation, fused(getattr(os, operation), operations, k))
        try:
            {"promote": promote, "roll_back": roll_back}[name](edge, *arguments)
        except KeyboardInterrupt:
            os._exit(INTERRUPTED)
        sys.exit(0)
    ending = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ending not in (-signal.SIGKILL, INTERRUPTED):  # it lived to the end
        sys.exit(ending)
"""


@dataclass(frozen=True)
class Promotion:
    """What `promote` was given, kept: the files it takes, the card, the verdict and the page."""

    staged: Path
    card: ModelCard
    result: ParityResult
    page: Path

    @property
    def arguments(self) -> tuple[Path, ModelCard, ParityResult, Path]:
        """After the bundle's folder."""
        return self.staged, self.card, self.result, self.page


@dataclass(frozen=True)
class Twice:
    """A model folder that was converted twice, with other photos to calibrate with, and what was there before and after."""

    model: Path
    old: Path
    new: Path
    promotion: Promotion


@pytest.fixture(scope="session")
def twice(pristine: Path, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    folder = tmp_path_factory.mktemp("twice")
    model = Path(shutil.copytree(pristine, folder / "model"))
    assert cli.main(["convert", "--int8", "--no-ladder", str(model)]) == 0
    shutil.copytree(model / "edge", folder / "old")
    for path in list((model / "assets.extra" / "calibration").rglob("*.jpg"))[::2]:
        path.unlink()
    caught: list[Promotion] = []

    def caught_promote(edge: Path, staged: Path, card: ModelCard, result: ParityResult, page: Path) -> None:
        kept = Path(shutil.copytree(staged, folder / "staged"))
        caught.append(Promotion(kept, card, result, kept / page.name))
        promote(edge, staged, card, result, page)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "promote", caught_promote)
        assert cli.main(["convert", "--int8", "--no-ladder", str(model)]) == 0
    shutil.copytree(model / "edge", folder / "new")
    return Twice(model, folder / "old", folder / "new", caught[0])


@pytest.fixture
def model(twice: Twice, tmp_path: Path) -> Path:
    """A copy of the model folder, converted twice."""
    return Path(shutil.copytree(twice.model, tmp_path / "model"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def named_by(*texts: str) -> set[str]:
    """The files that cards name."""
    return {entry["name"] for text in texts for entry in json.loads(text)["files"].values()}


def assert_whole_and_usable(edge: Path) -> None:
    bundle, card = read_bundle(edge)
    for variant in card.files:
        verified_file(bundle, card, variant)
        scores = Classifier(edge, variant=variant).predict(np.full((48, 48, 3), 90, np.uint8)).scores
        assert abs(scores.sum() - 1) < 0.02


# ---------------------------------------------------------------------------------------------------------- rollback


def test_two_conversions_gave_two_int8_files_and_both_are_kept(twice: Twice) -> None:
    old, new = ((folder / CARD_NAME).read_text() for folder in (twice.old, twice.new))
    assert len(named_by(old, new)) == 3  # one float32
    assert {path.name for path in twice.new.iterdir()} == {
        CARD_NAME, PREVIOUS, "parity.json", "parity.html", "selftest", *named_by(old, new),
    }
    assert (twice.new / PREVIOUS).read_text() == old


def test_rolled_back_twice_it_is_as_it_was(model: Path, twice: Twice, capsys: pytest.CaptureFixture[str]) -> None:
    edge = model / "edge"
    assert cli.main(["convert", "--rollback", str(model)]) == 0
    assert "the previous bundle is back: blobs, float32, int8; deployed: int8" in capsys.readouterr().out
    assert (edge / CARD_NAME).read_text() == (twice.old / CARD_NAME).read_text()
    assert (edge / PREVIOUS).read_text() == (twice.new / CARD_NAME).read_text()
    assert not (edge / "parity.json").exists()  # it told of the other
    assert_whole_and_usable(edge)
    assert cli.main(["convert", "--rollback", str(model)]) == 0
    kept = {name: data for name, data in contents(twice.new).items() if not name.startswith("parity.")}
    assert contents(edge) == kept


def test_a_damaged_previous_file_is_refused(
    model: Path, twice: Twice, capsys: pytest.CaptureFixture[str],
) -> None:
    edge = model / "edge"
    (edge / read_card(twice.old).files["int8"].name).write_bytes(b"rotten")
    before = contents(edge)
    assert cli.main(["convert", "--rollback", str(model)]) == 2
    assert "is not the file its card vouches for" in capsys.readouterr().err
    assert contents(edge) == before


@pytest.mark.parametrize(("missing", "told"), [(PREVIOUS, "keeps no pawlatch.previous.json"), (CARD_NAME, "holds no pawlatch.json")])
def test_without_a_previous_card_there_is_nothing_to_go_back_to(
    model: Path, capsys: pytest.CaptureFixture[str], missing: str, told: str,
) -> None:
    (model / "edge" / missing).unlink()
    before = contents(model)
    assert cli.main(["convert", "--rollback", str(model)]) == 2
    assert told in capsys.readouterr().err
    assert contents(model) == before


# --------------------------------------------------------------------------------------------------- the plug is pulled


def pull_plugs(given: Path, work: Path, function: str, how: str, *arguments: object) -> Iterator[Path]:
    """The bundles of processes that ended at `function`, each one operation later than the one before."""
    work.mkdir()
    (work / "given.pickle").write_bytes(pickle.dumps((given, work, function, how, arguments)))
    done = subprocess.run(
        [sys.executable, "-c", PLUGS, str(work / "given.pickle")], capture_output=True, text=True, timeout=120,
        env={**os.environ, "TMPDIR": str(work)},
    )
    assert done.returncode == 0, done.stderr
    dead = sorted((path for path in work.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    assert len(dead) > 3
    return (path / "edge" for path in dead)


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_at_any_operation_of_a_promotion_a_good_bundle_is_in_place(twice: Twice, tmp_path: Path, how: str) -> None:
    cards = [(folder / CARD_NAME).read_text() for folder in (twice.old, twice.new)]
    found = []
    for edge in pull_plugs(twice.old, tmp_path / "work", "promote", how, *twice.promotion.arguments):
        assert_whole_and_usable(edge)
        found.append(cards.index((edge / CARD_NAME).read_text()))
        assert how == "killed" or found[-1] or contents(edge) == contents(twice.old)  # interrupted, it cleans up
        promote(edge, *twice.promotion.arguments)  # the next conversion
        after = contents(edge)
        assert after.pop(PREVIOUS, None) in (cards[0].encode(), None)
        assert {name: data for name, data in contents(twice.new).items() if name in after} == after  # and nothing is left over
    assert found == sorted(found)  # old, old, old ... and from one rename on new
    assert {0, 1} <= set(found)


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_at_any_operation_of_the_first_promotion_there_is_no_half_bundle(twice: Twice, tmp_path: Path, how: str) -> None:
    for edge in pull_plugs(tmp_path / "nothing", tmp_path / "work", "promote", how, *twice.promotion.arguments):
        if (edge / CARD_NAME).exists():
            assert_whole_and_usable(edge)
        promote(edge, *twice.promotion.arguments)
        names = {CARD_NAME, "parity.json", "parity.html", "selftest", *named_by(twice.promotion.card.to_json())}
        assert {path.name for path in edge.iterdir()} == names


@pytest.mark.parametrize("how", ["killed", "interrupted"])
def test_at_any_operation_of_a_rollback_a_good_bundle_is_in_place(twice: Twice, tmp_path: Path, how: str) -> None:
    cards = [(folder / CARD_NAME).read_text() for folder in (twice.new, twice.old)]
    found = []
    for edge in pull_plugs(twice.new, tmp_path / "work", "roll_back", how):
        assert_whole_and_usable(edge)
        found.append(cards.index((edge / CARD_NAME).read_text()))
        roll_back(edge)
        assert_whole_and_usable(edge)
    assert found == sorted(found)
    assert {0, 1} <= set(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sabotage", "status", "is_committed"),
    [
        ("kill_after_staging", -9, False),
        ("kill_after_the_first_file", -9, False),
        ("kill_before_the_commit", -9, False),
        ("interrupt_before_the_commit", 130, False),
        ("kill_after_the_commit", -9, True),
        ("kill_before_the_sweep", -9, True),
    ],
)
def test_the_command_killed_leaves_the_last_good_bundle(
    twice: Twice, pristine: Path, tmp_path: Path, command: Callable[..., Any], sabotage: str, status: int, is_committed: bool,
) -> None:
    model = Path(shutil.copytree(pristine, tmp_path / "model"))  # converting it gives the old int8 file again
    edge = Path(shutil.copytree(twice.new, model / "edge"))
    (edge / PREVIOUS).unlink()
    (edge / read_card(twice.old).files["int8"].name).unlink()
    before = contents(edge)
    told = subprocess.run([sys.executable, SCRIPT, sabotage, "--int8", "--no-ladder", model], capture_output=True, text=True, timeout=600)
    assert told.returncode == status, told.stderr
    assert "Traceback" not in told.stderr
    assert_whole_and_usable(edge)
    old = json.loads((twice.old / CARD_NAME).read_text())
    assert (json.loads((edge / CARD_NAME).read_text())["files"] == old["files"]) == is_committed
    if status == 130:
        assert contents(edge) == before
    told = command("convert", "--int8", "--no-ladder", model)
    assert told.returncode == 0, told.stderr
    after = (edge / CARD_NAME).read_text()
    assert json.loads(after)["files"] == old["files"]
    previous = [(edge / PREVIOUS).read_text()] if (edge / PREVIOUS).exists() else []
    assert {path.name for path in edge.iterdir()} - {PREVIOUS} == {
        CARD_NAME, "parity.json", "parity.html", "selftest", *named_by(after, *previous),
    }
    assert {path.name for path in model.iterdir()} == {path.name for path in pristine.iterdir()} | {"edge"}


# ---------------------------------------------------------------------------------------------------- what it leaves alone


def remove_photos(model: Path) -> list[object]:
    shutil.rmtree(model / "assets.extra" / "heldout")
    return []


def spoil_card(model: Path) -> list[object]:
    (model / CARD_NAME).write_text("{")
    return []


def empty_graph(model: Path) -> list[object]:
    (model / "saved_model.pb").write_bytes(b"")
    return []


def damage_weights(model: Path) -> list[object]:
    (model / "variables" / "variables.index").write_bytes(b"rotten")
    return []


def ask_for_half(model: Path) -> list[object]:
    return ["--qat"]


def name_no_photos(model: Path) -> list[object]:
    return ["--photos", model / "nowhere"]


@pytest.mark.parametrize("spoil", [remove_photos, spoil_card, empty_graph, damage_weights, ask_for_half, name_no_photos])
def test_bad_input_leaves_the_bundle_untouched(
    model: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], list[object]],
) -> None:
    arguments = spoil(model)
    before = contents(model)
    assert cli.main(["convert", "--int8", *map(str, arguments), str(model)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].startswith("pawlatch: ")
    assert contents(model) == before


def test_verifying_writes_nothing(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(model)
    assert cli.main(["convert", "--verify", str(model)]) == 0
    assert "deployed: int8" in capsys.readouterr().out
    assert contents(model) == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


@pytest.mark.parametrize("arguments", [["--verify", "MODEL/pawlatch.json", "MODEL"], ["--verify", "nowhere.tflite", "MODEL"], ["a", "b"]])
def test_what_cannot_be_verified_is_bad_input(
    model: Path, capsys: pytest.CaptureFixture[str], arguments: list[str],
) -> None:
    given = [argument.replace("MODEL", str(model)) for argument in arguments]
    try:
        status = cli.main(["convert", *given])
    except SystemExit as ending:  # argparse
        status = int(ending.code or 0)
    assert status == 2
    told = capsys.readouterr().err
    assert "--verify takes a .tflite or an .onnx file" in told or "expected one model, got 2" in told


# ------------------------------------------------------------------------------------------------------- reproducible


def without_clocks(value: Any) -> Any:
    """A parity without what was measured in seconds, or follows from it."""
    if isinstance(value, dict):
        return {key: without_clocks(item) for key, item in value.items()
                if key not in ("speed", "seconds", "deploy", "deploy_reason")}
    return [without_clocks(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_two_runs_give_the_same_files_and_the_same_numbers(
    pristine: Path, tmp_path: Path, command: Callable[..., Any],
) -> None:
    parities = []
    for name in ("one", "another"):
        folder = tmp_path / name
        told = command("convert", "--json", "-o", folder / "edge", pristine, PYTHONHASHSEED=str(len(name)))
        assert told.returncode == 0, told.stderr
        parities.append(without_clocks(json.loads(told.stdout)))
    measured = [[(entry["variant"], entry["comparison"]) for entry in parity["variants"]] for parity in parities]
    assert measured[0] == measured[1]
    assert len(measured[0]) == 7
    tflite = [[entry for entry in parity["variants"] if not entry["variant"].startswith("onnx")] for parity in parities]
    assert tflite[0] == tflite[1]  # of ONNX tf2onnx makes up the names, in an order that follows Python's hash seed
    files = [{path.name: path.read_bytes() for path in (tmp_path / name / "edge").glob("*.tflite")} for name in ("one", "another")]
    assert files[0] == files[1]
    assert len(files[0]) == 5
