"""A training that is killed or interrupted: what it leaves behind, and how `--resume` goes on with it."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch.cli import main
from pawlatch_train.history import History
from pawlatch_train.work import same_training, workspace

WORK = ".model.0.training"
HEAD, TUNE = 60, 40  # epochs; enough that a signal sent at the second arrives before the last
RECIPE = ("--epochs", HEAD, "--fine-tune-epochs", TUNE, "--early-stopping", 0, "--views", 1)


@pytest.fixture(scope="module")
def arguments(drawn_photos, tiny_backbone):
    return [str(word) for word in (drawn_photos, "--backbone", tiny_backbone, *RECIPE)]


def heed_interrupts() -> None:
    """A shell's background jobs ignore Ctrl-C, and hand that on to what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def stopped(folder: Path, arguments, *, at: str, by: signal.Signals):
    """Run `train` in a process of its own until it says `at`, send it a signal, and tell what it said and how it ended."""
    program = [str(Path(sysconfig.get_path("scripts")) / "train"), *arguments, "-o", str(folder / "model")]
    process = subprocess.Popen(program, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts)
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith(at):
            process.send_signal(by)
            break
    said += process.stderr.readlines()
    return SimpleNamespace(folder=folder, said=said, status=process.wait())


def kept(folder: Path, stage: str) -> list[str]:
    """The rows of the history that a stage had written down when it was stopped, without the header."""
    with np.load(folder / WORK / f"{stage}.npz") as file:
        return json.loads(str(file["told"]))["epochs"].splitlines()[1:]


def moved_on(folder: Path, to: Path) -> Path:
    """A copy of what a stopped run left, to go on from."""
    shutil.copytree(folder / WORK, to / WORK)
    return to


def printed(said, stage: str) -> list[str]:
    return [line for line in said if line.startswith(f"{stage} ") and " of " in line]


@pytest.fixture(scope="module")
def killed_frozen(arguments, tmp_path_factory):
    return stopped(tmp_path_factory.mktemp("frozen"), arguments, at=f"frozen 2 of {HEAD}", by=signal.SIGKILL)


@pytest.fixture(scope="module")
def killed_tuning(killed_frozen, arguments, tmp_path_factory):
    folder = moved_on(killed_frozen.folder, tmp_path_factory.mktemp("tuning"))
    return stopped(folder, [*arguments, "--resume"], at=f"fine-tuned 2 of {TUNE}", by=signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def history(model: Path) -> list[str]:
    return (model / "history.csv").read_text().splitlines()[1:]


def test_a_kill_leaves_what_it_takes_to_go_on_and_no_half_model(killed_frozen):
    assert killed_frozen.status == -signal.SIGKILL
    assert names(killed_frozen.folder) == [WORK]
    assert 2 <= len(printed(killed_frozen.said, "frozen")) <= len(kept(killed_frozen.folder, "frozen")) < HEAD


def test_resume_goes_on_behind_the_last_epoch_that_was_written_down(killed_frozen, killed_tuning):
    done = len(kept(killed_frozen.folder, "frozen"))
    assert killed_tuning.status == -signal.SIGKILL
    assert printed(killed_tuning.said, "frozen")[0].startswith(f"frozen {done + 1} of {HEAD}:")
    assert not any("frozen 1 of" in line for line in killed_tuning.said)
    rows = kept(killed_tuning.folder, "fine-tuned")
    assert rows[:done] == kept(killed_frozen.folder, "frozen")  # to the bit, the seconds too
    assert HEAD + 2 <= len(rows) < HEAD + TUNE
    assert names(killed_tuning.folder) == [WORK]


def test_a_run_that_was_killed_twice_ends_with_a_whole_model_and_each_epoch_once(killed_tuning, arguments, tmp_path, capsys):
    folder = moved_on(killed_tuning.folder, tmp_path)
    before = kept(folder, "fine-tuned")
    assert main(["train", *arguments, "-o", str(folder / "model"), "--resume"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert printed(said, "frozen") == []
    assert printed(said, "fine-tuned")[0].startswith(f"fine-tuned {len(before) - HEAD + 1} of {TUNE}:")
    rows = history(folder / "model")
    assert rows[: len(before)] == before
    assert [row.split(",")[:2] for row in rows] == [
        [str(epoch), "frozen" if epoch <= HEAD else "fine-tuned"] for epoch in range(1, HEAD + TUNE + 1)]
    batches = History.from_csv((folder / "model/history.csv").read_text(), (folder / "model/batches.csv").read_text()).batch_loss
    assert len({batch[:3] for batch in batches}) == len(batches)
    assert {batch.epoch for batch in batches} == set(range(1, HEAD + TUNE + 1))
    assert {"saved_model.pb", "pawlatch.json", "report.html"} <= set(names(folder / "model"))
    assert names(folder) == ["model"]


def test_an_interrupt_ends_with_130_and_can_be_resumed(arguments, tmp_path):
    run = stopped(tmp_path, arguments, at=f"frozen 2 of {HEAD}", by=signal.SIGINT)
    assert run.status == 130
    assert not any("Traceback" in line for line in run.said)
    assert names(tmp_path) == [WORK]
    assert len(kept(tmp_path, "frozen")) >= 2


class Interrupted(io.StringIO):
    """A standard error that presses Ctrl-C once a line begins with `at`."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def write(self, text: str) -> int:
        super().write(text)
        if text.startswith(self.at):
            raise KeyboardInterrupt
        return len(text)


def first_line_of(stage: str, folder: Path, arguments, monkeypatch) -> str:
    """What a training in `folder` says of the first epoch of this stage that it does; it is interrupted then."""
    stream = Interrupted(f"{stage} ")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        assert main(["train", *map(str, arguments), "-o", str(folder / "model")]) == 130
    assert names(folder) == [WORK]
    return stream.getvalue().splitlines()[-1]


def test_without_resume_it_begins_anew(killed_frozen, arguments, tmp_path, monkeypatch):
    folder, done = moved_on(killed_frozen.folder, tmp_path), len(kept(killed_frozen.folder, "frozen"))
    assert first_line_of("frozen", folder, arguments, monkeypatch).startswith(f"frozen 1 of {HEAD}")
    again = moved_on(killed_frozen.folder, tmp_path / "again")
    assert first_line_of("frozen", again, [*arguments, "--resume"], monkeypatch).startswith(f"frozen {done + 1} of {HEAD}")


@pytest.mark.parametrize("change", [("--dropout", 0.3), ("--seed", 1), ("--image-size", 96)])
def test_another_training_begins_anew(change, killed_frozen, arguments, tmp_path, monkeypatch):
    folder = moved_on(killed_frozen.folder, tmp_path)
    assert first_line_of("frozen", folder, [*arguments, *change, "--resume"], monkeypatch).startswith(f"frozen 1 of {HEAD}")


def test_other_photos_begin_anew(killed_frozen, arguments, tmp_path, monkeypatch):
    photos = Path(shutil.copytree(arguments[0], tmp_path / "photos"))
    changed = next((photos / "_empty").iterdir())
    cv2.imwrite(str(changed), cv2.imread(str(changed))[:, ::-1])
    folder = moved_on(killed_frozen.folder, tmp_path / "out")
    words = [photos, *arguments[1:], "--resume"]
    assert first_line_of("frozen", folder, words, monkeypatch).startswith(f"frozen 1 of {HEAD}")


@pytest.fixture(scope="module")
def teacher(arguments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher") / "model"
    assert main(["train", *arguments[:3], "-o", str(folder), "--epochs", "1", "--fine-tune-epochs", "0", "--views", "1"]) == 0
    return folder


@pytest.mark.parametrize("given", ["teacher", "backbone"])
def test_what_was_given_and_has_changed_at_its_place_begins_anew(given, teacher, arguments, tmp_path, monkeypatch):
    backbone = shutil.copyfile(arguments[2], tmp_path / "tiny.keras")
    teacher = shutil.copytree(teacher, tmp_path / "teacher")
    words = [*arguments[:2], backbone, *arguments[3:], "--distill", teacher, "--resume"]
    (tmp_path / "out").mkdir()
    assert first_line_of("frozen 3", tmp_path / "out", words, monkeypatch).startswith(f"frozen 3 of {HEAD}")
    again = moved_on(tmp_path / "out", tmp_path / "again")
    assert not first_line_of("frozen", again, words, monkeypatch).startswith(f"frozen 1 of {HEAD}")
    changed = {"teacher": teacher / "variables/variables.data-00000-of-00001", "backbone": backbone}[given]
    changed.write_bytes(changed.read_bytes())  # the same size, another time
    assert first_line_of("frozen", tmp_path / "out", words, monkeypatch).startswith(f"frozen 1 of {HEAD}")


def test_a_fold_that_was_finished_is_not_done_again(arguments, tmp_path, monkeypatch, capsys):
    words = [*arguments[:-8], "--epochs", 2, "--fine-tune-epochs", 1, "--views", 1, "--folds", 3, "--resume"]
    assert first_line_of("fold 2", tmp_path, words, monkeypatch).startswith("fold 2 of 3")
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / WORK).glob("fold-[12]/*.npz")}
    assert len(written) == 4
    assert first_line_of("fold 3", tmp_path, words, monkeypatch).startswith("fold 3 of 3")
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_the_work_folder_outlives_an_interrupt_and_nothing_else(tmp_path):
    model = tmp_path / "model"
    with workspace(model, resume=False) as work:
        assert names(tmp_path) == [work.name] == [WORK]
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="bad"), workspace(model, resume=False):
        raise ValueError("bad")
    assert names(tmp_path) == []
    with pytest.raises(KeyboardInterrupt), workspace(model, resume=False):
        raise KeyboardInterrupt
    (tmp_path / WORK / "maps").touch()
    with workspace(model, resume=True) as work:
        assert names(work) == ["maps"]
    with pytest.raises(KeyboardInterrupt), workspace(model, resume=True):
        raise KeyboardInterrupt
    with workspace(model, resume=False) as work:
        assert names(work) == []


def test_another_fingerprint_clears_all_but_the_pixels(tmp_path):
    assert not same_training(tmp_path, "one")
    for name in ("pixels-64", "maps", "features", "frozen.npz"):
        (tmp_path / name).touch()
    (tmp_path / "logs").mkdir()
    assert same_training(tmp_path, "one")
    assert {"maps", "frozen.npz", "logs"} < set(names(tmp_path))
    assert not same_training(tmp_path, "another")
    assert names(tmp_path) == ["pixels-64", "training"]
    assert same_training(tmp_path, "another")
