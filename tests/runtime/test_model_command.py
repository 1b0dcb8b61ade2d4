"""`pawlatch model`: who made it, is it worse at this door, and back again."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pawlatch import cli
from pawlatch.bundle import PREVIOUS_NAME, installed, locked
from pawlatch.card import CARD_NAME, read_card, verified_file
from pawlatch.classify import Classifier
from pawlatch.errors import OutputError
from pawlatch.files import sha256, write_atomic
from pawlatch.records import JournalReader
from pawlatch.rejudge import Judged
from pawlatch.schema import write_truth
from pawlatch.selftest import FOLDER, name_of, selftest
from pawlatch.signature import SIGNATURE_NAME
from pawlatch.swap import ModelSlot
from pawlatch.trial import Row, Trial

SWAPPED = {"labels": ["other", "own", "_empty"]}  # takes every stranger for an own animal, and the other way round
SHY = {"operating_points": {"saved_model": {"threshold": 0.9999}}}  # opens for nobody


@pytest.fixture
def old(published) -> Path:
    return published("old")


@pytest.fixture
def journal(old, recorded, draw_clip) -> Path:
    """Event 1 is the own animal, 2 a stranger; nobody has labelled them."""
    return recorded(old, draw_clip("day", [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)]))


def model(capsys, *arguments: object, status: int = 0) -> str:
    """What `pawlatch model` says; on stderr where it complains."""
    assert cli.main(["model", *map(str, arguments)]) == status, capsys.readouterr()
    said = capsys.readouterr()
    return said.err if status == 2 else said.out


def version(folder: Path) -> str:
    return installed(folder)[1]


# ---------------------------------------------------------------------------------------------------------- signatures


@pytest.fixture
def key(tmp_path) -> Path:
    """A private key; its public half lies beside it."""
    return new_key(tmp_path / "key")


def new_key(path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is absent")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "somebody", "-f", path], check=True)
    return path


@pytest.fixture
def signed(capsys, published, key) -> Path:
    bundle = published("signed")
    assert SIGNATURE_NAME in model(capsys, "sign", bundle, "--key", key)
    return bundle


def test_looking_changes_nothing_and_tells_what_is_published(capsys, published, old, tmp_path):
    new, before = published("new"), sorted(old.rglob("*"))
    told = json.loads(model(capsys, "look", new, "--into", old, "--json"))
    assert (told["version"].split()[0], told["before"].split()[0]) == ("new", "old")
    assert f"{told['version']} is at {new}" in model(capsys, "look", new, "--into", old)
    assert sorted(old.rglob("*")) == before
    assert "name where the bundle is" in model(capsys, "look", "--into", old, status=2)
    assert "pawlatch.json" in model(capsys, "look", tmp_path / "absent", "--into", old, status=2)


def test_a_signed_bundle_is_taken_and_its_signer_kept(capsys, signed, old, key):
    assert f"signed by {key}.pub" in model(capsys, "pull", signed, "--into", old, "--key", f"{key}.pub")
    assert version(old).startswith("signed ")
    told = json.loads(model(capsys, "status", "--into", old, "--json"))
    assert [row["version"].split()[0] for row in told["models"]] == ["signed", "old"]
    assert told["models"][0]["origin"]["key"] == f"{key}.pub"
    out = model(capsys, "list", "--into", old)
    assert f"from {signed} at 20" in out
    assert "copied by hand" in out


def change_card(bundle: Path, key: Path) -> None:
    write_card(bundle, unlock=["other"])


def change_file(bundle: Path, key: Path) -> None:
    path = bundle / read_card(bundle).files["onnx_float32"].name
    path.write_bytes(path.read_bytes()[::-1])


def lose_signature(bundle: Path, key: Path) -> None:
    (bundle / SIGNATURE_NAME).unlink()


def other_key(bundle: Path, key: Path) -> None:
    assert cli.main(["model", "sign", str(bundle), "--key", str(new_key(key.with_name("other")))]) == 0


def other_purpose(bundle: Path, key: Path) -> None:
    done = subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", "git"], input=(bundle / CARD_NAME).read_bytes(),
                          capture_output=True, check=True)
    (bundle / SIGNATURE_NAME).write_bytes(done.stdout)


def no_signature_at_all(bundle: Path, key: Path) -> None:
    (bundle / SIGNATURE_NAME).write_text("-----BEGIN SSH SIGNATURE-----\n")


@pytest.mark.parametrize(("sabotage", "told"), [
    (change_card, "is not signed by"), (change_file, "is not the file its card vouches for"), (lose_signature, "must be signed by"),
    (other_key, "is not signed by"), (other_purpose, "is not signed by"), (no_signature_at_all, "is not signed by"),
])
def test_what_the_key_did_not_sign_is_refused_whoever_insists(capsys, signed, old, key, sabotage, told):
    (old / read_card(old).files["onnx_float32"].name).unlink()
    sabotage(signed, key)
    before = (old / CARD_NAME).read_bytes()
    capsys.readouterr()
    assert told in model(capsys, "pull", signed, "--into", old, "--key", f"{key}.pub", "--even-if-worse", status=2)
    assert (old / CARD_NAME).read_bytes() == before


def test_one_of_several_keys_is_enough_and_the_settings_key_is_the_rule(capsys, signed, old, key, tmp_path):
    keys = tmp_path / "publishers.pub"
    keys.write_text("# two of them\n" + new_key(tmp_path / "other").with_suffix(".pub").read_text())
    settings = tmp_path / "door.toml"
    settings.write_text(f'[model]\nbundle = "{old}"\n[update]\nurl = "{signed}"\nkey = "{keys}"\n[journal]\nfolder = "{tmp_path}/none"\n')
    assert "is not signed by" in model(capsys, "pull", "--config", settings, status=2)
    keys.write_text(keys.read_text() + key.with_suffix(".pub").read_text())
    assert "there is no journal" in model(capsys, "pull", "--config", settings)


@pytest.mark.parametrize(("text", "told"), [(None, "cannot read the public key"), ("", "must hold public keys"),
                                            ('cert-authority,namespaces="*" ssh-ed25519 AAAA', "must hold public keys")])
def test_a_key_file_that_is_none(capsys, signed, old, tmp_path, text, told):
    if text is not None:
        (tmp_path / "k.pub").write_text(text)
    assert told in model(capsys, "pull", signed, "--into", old, "--key", tmp_path / "k.pub", status=2)


def test_a_key_that_cannot_sign(capsys, old, tmp_path):
    assert "cannot sign" in model(capsys, "sign", old, "--key", tmp_path / "absent", status=2)
    assert not (old / SIGNATURE_NAME).exists()


# --------------------------------------------------------------------------------------------- champion and challenger


def write_card(bundle: Path, **changes: object) -> None:
    card = json.loads((bundle / CARD_NAME).read_text())
    (bundle / CARD_NAME).write_text(json.dumps(card | changes))


def test_a_model_that_lets_a_stranger_in_does_not_take_over(capsys, published, old, journal):
    write_truth(journal, {1: "own", 2: "other"})
    before = version(old)
    out = model(capsys, "pull", published("new", **SWAPPED), "--into", old, "--journal", journal, status=1)
    first, second = (re.split(r"  +", line.strip()) for line in out.splitlines() if "2026-01-02" in line)
    assert (first[0], first[2], first[3][:11], first[4:]) == ("1", "own", "opens after", ["stays shut", "locks out"])
    assert (second[0], second[2], second[3], second[4][:11], second[5:]) == ("2", "other", "stays shut", "opens after", ["lets in"])
    assert f"old ({before}): 0 of 1 strangers' visits let in (at most 95.0%), 0 of 1 own visits locked out" in out
    assert "1 of 1 strangers' visits let in (at most 100.0%), 1 of 1 own visits locked out" in out
    assert "the new model is worse: 1 let in of those that should stay out, 1 locked out of those that may pass" in out
    assert "1 own and 1 strangers' visits are labelled, 20 and 20 are needed" in out
    assert version(old) == before
    assert "now holds new" in model(capsys, "pull", old.with_name("new"), "--into", old, "--journal", journal, "--even-if-worse")


def test_a_model_that_locks_the_own_animal_out_does_not_take_over(capsys, published, old, journal):
    write_truth(journal, {1: "own"})
    told = json.loads(model(capsys, "pull", published("new", **SHY), "--into", old, "--journal", journal, "--json", status=1))
    assert told["status"] == "worse"
    assert [(row["event"], row["harm"], row["new"]) for row in told["trial"]["differences"]] == [(1, "locks out", None)]


def test_a_model_that_opens_for_whom_nobody_labelled_does_not_take_over(capsys, published, old, journal):
    out = model(capsys, "pull", published("new", **SWAPPED), "--into", old, "--journal", journal, status=1)
    assert "worse: 1 opened for whom nobody has labelled, 1 kept shut to whom nobody has labelled" in out


@pytest.mark.parametrize("changes", [SHY, {"unlock": []}], ids=["opens for nobody", "may open for nobody"])
def test_a_model_that_opens_no_more_does_not_take_over_where_nothing_is_labelled(capsys, published, old, journal, changes):
    out = model(capsys, "pull", published("new", **changes), "--into", old, "--journal", journal, status=1)
    assert "worse: 1 kept shut to whom nobody has labelled" in out


def test_whom_the_new_model_alone_may_open_for_is_told(capsys, published, old, journal):
    new = published("new", unlock=["own", "other"])
    told = json.loads(model(capsys, "compare", old, new, "--journal", journal, "--json", status=1))
    assert "the new model may open for other too, for whom the old one does not" in told["doubts"]
    assert not any("may open for" in doubt for doubt in json.loads(
        model(capsys, "compare", new, old, "--journal", journal, "--json", status=1))["doubts"])


def test_a_model_that_decides_alike_takes_over(capsys, published, old, journal):
    write_truth(journal, {1: "own", 2: "other"})
    out = model(capsys, "pull", published("new"), "--into", old, "--journal", journal)
    assert "not worse on 2 visits, of which 0 are decided otherwise" in out
    assert version(old).startswith("new ")


def test_who_may_pass_is_what_the_old_card_says(capsys, published, old, journal):
    write_truth(journal, {2: "other"})
    out = model(capsys, "pull", published("new", unlock=["own", "other"]), "--into", old, "--journal", journal, status=1)
    assert "1 let in of those that should stay out" in out


def test_by_hand_beside_a_service_it_is_the_services_journal_that_counts(capsys, published, old, journal, tmp_path, monkeypatch):
    settings = tmp_path / "door.toml"
    settings.write_text(f'[model]\nbundle = "{old}"\n')
    monkeypatch.setattr("pawlatch.journal_options.SERVICE_FOLDER", journal)
    assert "the new model is worse" in model(capsys, "pull", published("new", **SWAPPED), "--config", settings, status=1)


def service_settings(folder: Path, bundle: Path, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What /etc/pawlatch/door.toml says on this machine."""
    path = folder / "service.toml"
    path.write_text(f'[model]\nbundle = "{bundle}"\n[journal]\nfolder = "{folder}/none"\n{more}')
    monkeypatch.setattr("pawlatch.commands.model.SERVICE_CONFIG", path)


def test_the_bundle_of_the_service_named_by_hand_has_the_services_key(capsys, signed, published, old, key, tmp_path, monkeypatch):
    service_settings(tmp_path, old, f'[update]\nkey = "{key}.pub"\n', monkeypatch)
    (tmp_path / "link").symlink_to(old)
    for into in (old, tmp_path / "link"):
        assert "must be signed by" in model(capsys, "pull", published("new" + into.name), "--into", into, status=2)
    assert f"signed by {key}.pub" in model(capsys, "pull", signed, "--into", old)
    assert ", not signed" in model(capsys, "pull", tmp_path / "newold", "--into", tmp_path / "elsewhere")  # none of the service's


def test_compare_decides_as_the_service_does(capsys, published, old, journal, tmp_path, monkeypatch):
    new = published("new", **SHY)
    assert "worse" in model(capsys, "compare", old, new, "--journal", journal, status=1)
    service_settings(tmp_path, old, "[decision]\nthreshold = 0.5\n", monkeypatch)
    assert "0 are decided otherwise" in model(capsys, "compare", old, new, "--journal", journal)


def test_compare_is_the_table_alone(capsys, published, old, journal):
    new, before = published("new", **SWAPPED), version(old)
    assert "opened for whom" in model(capsys, "compare", old, new, "--journal", journal, status=1)
    write_truth(journal, {1: "own"})  # labelled visits first, then the newest
    told = json.loads(model(capsys, "compare", old, new, "--journal", journal, "--json", "--visits", 1, status=1))
    assert (told["visits"], [row["harm"] for row in told["differences"]]) == (1, ["locks out"])
    assert "1 more visits have pictures and were not judged (--visits)" in told["doubts"]
    assert "not worse on 2 visits" in model(capsys, "compare", new, new, "--journal", journal)
    assert version(old) == before


def test_a_damaged_recording_is_told_and_the_others_count(capsys, published, old, journal):
    with JournalReader(journal) as reader:
        reader.events(ids=[1])[0].pictures["data"].write_bytes(b"rotten")
    out = model(capsys, "pull", published("new"), "--into", old, "--journal", journal)
    assert "the pictures of the events 1 are damaged" in out
    assert "not worse on 1 visits" in out


def test_a_damaged_model_can_be_mended(capsys, published, old, journal):
    (old / read_card(old).files["int8"].name).write_bytes(b"rotten")
    assert "nothing to compare with" in model(capsys, "pull", published("new"), "--into", old, "--journal", journal)
    assert selftest(Classifier(old)).photos == 3


def test_a_model_that_does_not_work_is_in_no_ones_way(capsys, published, old, journal):
    write_card(old, parity={}, labels=["own", "other", "_empty", "more"])
    out = model(capsys, "pull", published("new"), "--into", old, "--journal", journal)
    assert "the card has 4 labels, but the model gives 3 scores" in out
    assert "now holds new" in out


@pytest.mark.parametrize("suffix", [".tflite", ".jpg"])
def test_a_damaged_model_can_be_mended_by_the_same_one(capsys, published, old, suffix):
    again = Path(shutil.copytree(old, old.with_name("again")))
    next(old.rglob(f"*{suffix}")).write_bytes(b"rotten")
    out = model(capsys, "pull", again, "--into", old)
    assert f"{old} now holds {version(old)}\n" in out  # and no word of a way back
    assert selftest(Classifier(old)).photos == 3
    assert not (old / PREVIOUS_NAME).exists()
    assert "holds old" in (out := model(capsys, "pull", again, "--into", old))
    assert out.endswith("already\n")


def row(event: int, who: str, *, old: bool, new: bool) -> Row:
    truth = {"own": "own", "stranger": "fox", "unknown": None}[who]
    opened, shut = Judged(0.5, ""), Judged(None, "")
    return Row(event, datetime(2026, 1, 2, tzinfo=UTC), truth, who, 12, opened if old else shut, opened if new else shut)


ENOUGH = [*(row(i, "own", old=True, new=True) for i in range(20)), *(row(20 + i, "stranger", old=False, new=False) for i in range(20))]


def test_with_enough_labels_an_unlabelled_visit_is_only_a_difference():
    trial = Trial((*ENOUGH, row(40, "unknown", old=False, new=True)), 0, ())
    assert trial.is_labelled
    assert not trial.is_worse
    assert len(trial.differences) == 1
    assert trial.doubts == []
    assert trial.new.let_in_upper == pytest.approx(1 - 0.05 ** (1 / 20))
    fewer = replace(trial, rows=trial.rows[1:])
    assert not fewer.is_labelled
    assert fewer.harms == {40: "opens for whom?"}
    shut = replace(fewer, rows=(*fewer.rows[:-1], row(40, "unknown", old=True, new=False)))
    assert shut.harms == {40: "shut to whom?"}


@pytest.mark.parametrize("harm", [row(40, "stranger", old=False, new=True), row(40, "own", old=True, new=False)])
def test_one_visit_is_enough_and_no_gain_makes_up_for_it(harm):
    gains = [row(50 + i, "own", old=False, new=True) for i in range(9)] + [row(60 + i, "stranger", old=True, new=False) for i in range(9)]
    assert not Trial((*ENOUGH, *gains), 0, ()).is_worse
    assert Trial((*ENOUGH, *gains, harm), 0, ()).harms.keys() == {40}


# ------------------------------------------------------------------------------------------------------ there and back


def test_rollback_undoes_a_pull_and_itself(capsys, published, old):
    first, files = version(old), {path.name for path in old.glob("*.tflite")}
    model(capsys, "pull", published("new"), "--into", old)
    second = version(old)
    assert f"holds {first} again, {second} is the previous one" in model(capsys, "rollback", "--into", old)
    assert version(old) == first
    assert {path.name for path in old.glob("*.tflite")} == files
    model(capsys, "rollback", "--into", old)
    assert version(old) == second


def without_onnx(bundle: Path) -> Path:
    card = json.loads((bundle / CARD_NAME).read_text())
    del card["files"]["onnx_float32"]
    write_card(bundle, files=card["files"])
    return bundle


def test_a_previous_one_that_no_longer_goes_here_stays_the_previous_one(capsys, published, old, tmp_path):
    """Its door would stay locked from the next start on."""
    pytest.importorskip("onnxruntime", reason='ONNX Runtime is absent; pip install "pawlatch[onnx]"')
    settings = tmp_path / "door.toml"
    settings.write_text(f'[model]\nbundle = "{without_onnx(old)}"\nvariant = "onnx_float32"\n')
    model(capsys, "pull", published("new"), "--config", settings)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    assert "has no variant 'onnx_float32'" in model(capsys, "rollback", "--config", settings, status=2)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_a_previous_one_that_fails_its_self_test_now_stays_the_previous_one(capsys, published, old, monkeypatch):
    model(capsys, "pull", published("new"), "--into", old)
    monkeypatch.setattr("pawlatch.selftest.pixels_sha256", lambda fitted: "of another OpenCV")
    assert "becomes other pixels here" in model(capsys, "rollback", "--into", old, status=2)
    assert version(old).startswith("new ")


def test_a_previous_card_that_cannot_be_read_is_told(capsys, old):
    for text in ("rotten", "{}"):
        (old / PREVIOUS_NAME).write_text(text)
        assert f"{PREVIOUS_NAME} is not a usable card" in model(capsys, "status", "--into", old, status=2)


def test_without_a_previous_one_there_is_no_way_back(capsys, old):
    assert "keeps no pawlatch.previous.json" in model(capsys, "rollback", "--into", old, status=2)


def test_a_third_model_sweeps_the_first_and_nothing_of_the_owner(capsys, published, old):
    (old / "notes.txt").write_text("mine")
    second, third = published("second"), published("third")
    for bundle in (second, third):
        model(capsys, "pull", without_onnx(bundle), "--into", old)
    assert not list(old.glob("*.onnx"))
    assert (old / "notes.txt").read_text() == "mine"
    assert json.loads((old / PREVIOUS_NAME).read_text())["name"] == "second"


PLUGS = """
import os, shutil, signal, sys
from itertools import count
from pathlib import Path
from pawlatch.bundle import adopt
given, staged, work = map(Path, sys.argv[1:])
for k in count():
    bundle, mine = work / str(k) / "edge", work / str(k) / "edge" / ".pull"
    shutil.copytree(given, bundle)
    shutil.copytree(staged, mine)
    child = os.fork()
    if not child:
        operations = count()
        for name in ("replace", "rename", "unlink", "mkdir", "fsync"):
            def fused(*arguments, honest=getattr(os, name), **named):
                if next(operations) == k:
                    os.kill(os.getpid(), signal.SIGKILL)
                return honest(*arguments, **named)
            setattr(os, name, fused)
        adopt(bundle, mine, (mine / "pawlatch.json").read_bytes(), signature=b"somebody's")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        break
"""


def test_at_any_operation_of_a_switch_a_good_bundle_is_in_place(published, old, tmp_path):
    new = published("new", deploy="float32")
    (tmp_path / "work").mkdir()
    done = subprocess.run([sys.executable, "-c", PLUGS, old, new, tmp_path / "work"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    dead = sorted((tmp_path / "work").iterdir(), key=lambda path: int(path.name))
    found = []
    for edge in (path / "edge" for path in dead):
        found.append(version(edge).split()[0])
        assert selftest(Classifier(edge)).photos == 3
        for variant in (card := read_card(edge)).files:
            verified_file(edge, card, variant)
        if found[-1] == "new":
            assert cli.main(["model", "rollback", "--into", str(edge)]) == 0  # also when it was killed just after the commit
            assert version(edge).startswith("old ")
    assert len(dead) > 10
    assert found == sorted(found, reverse=True)  # old, old, old ... and from one rename on new
    assert set(found) == {"old", "new"}


def test_two_updates_at_once_are_one(capsys, published, old):
    with locked(old):
        for action in (("pull", published("new")), ("rollback",)):
            assert "another update" in model(capsys, *action, "--into", old, status=2)


def test_a_running_slot_takes_what_was_pulled_and_what_was_rolled_back(capsys, published, old):
    slot, now_s = ModelSlot(Classifier(old), folder=old, load=lambda: Classifier(old)), iter(range(100))

    def taken() -> str | None:
        for _ in range(3):
            slot.poll(float(next(now_s)))
            slot.close()
        classifier = slot.take()
        return classifier and classifier.card.name

    assert taken() is None
    model(capsys, "pull", published("new"), "--into", old)
    assert taken() == "new"
    model(capsys, "rollback", "--into", old)
    assert taken() == "old"
    assert slot.refusal is None


@pytest.mark.parametrize(("arguments", "told"), [
    (("pull",), "name the door's settings"),
    (("pull", "--into", "{}/old"), "name where the bundle is"),
    (("pull", "{}/nothing", "--into", "{}/old"), "cannot fetch pawlatch.json"),
    (("status", "--into", "{}/nothing"), "expected a model folder"),
    (("compare", "{}/old", "{}/nothing"), "expected a model folder"),
    (("compare", "{}/old", "{}/old", "--journal", "{}/nothing"), "there is no journal"),
    (("push", "{}/old", "-oProxyCommand=x"), "a device is named as"),
    (("push", "{}/old", "pi x"), "a device is named as"),
    (("push", "{}/old", "pi@[::1"), "a device is named as"),
    (("pull", "https://[::1/edge", "--into", "{}/old"), "is no address"),
    (("pull", "https://localhost:99999999999999999999/edge", "--into", "{}/old"), "cannot fetch pawlatch.json"),
])
def test_bad_use_is_told(capsys, old, tmp_path, arguments, told, monkeypatch):
    monkeypatch.setattr("pawlatch.commands.model.SERVICE_CONFIG", tmp_path / "absent")
    if "-oProxyCommand=x" in arguments:
        arguments = ("push", "{}/old", "--", "-oProxyCommand=x")
    assert told in model(capsys, *(word.format(tmp_path) for word in arguments), status=2)


def test_a_trained_model_that_was_not_converted_is_no_place(capsys, published, tmp_path):
    trained = published("trained")
    write_card(trained, files={}, deploy=None)
    before = (trained / CARD_NAME).read_bytes()
    assert "holds no converted model" in model(capsys, "pull", published("new"), "--into", trained, status=2)
    assert "names no converted file" in model(capsys, "pull", trained, "--into", tmp_path / "x", status=2)
    assert (trained / CARD_NAME).read_bytes() == before
    assert not (tmp_path / "x").exists()


def write_answers(bundle: Path, change: Callable[[dict], object]) -> None:
    """Other answers for the self-test, for which the card vouches."""
    card = json.loads((bundle / CARD_NAME).read_text())
    (answers,) = (bundle / FOLDER).glob("*.json")
    expected = json.loads(answers.read_text())
    change(expected)
    answers.write_text(json.dumps(expected))
    digest = sha256(answers)
    answers.rename(answers.with_name(name_of(digest)))
    write_card(bundle, parity=card["parity"] | {FOLDER: digest})


def test_a_photo_that_stands_twice_in_the_self_test(capsys, published, old):
    """As `convert` writes it where two held-out photos are the same file."""
    def twice(expected: dict) -> None:
        for each in (expected["photos"], *(answers["scores"] for answers in expected["variants"].values())):
            each.append(each[0])

    new = published("new")
    write_answers(new, twice)
    assert "passed: 4 photos" in model(capsys, "pull", new, "--into", old)
    assert selftest(Classifier(old)).photos == 4


def no_photos(expected: dict) -> None:
    for each in (expected["photos"], *(answers["scores"] for answers in expected["variants"].values())):
        each.clear()


@pytest.mark.parametrize("strip", [lambda bundle: write_card(bundle, parity={}), lambda bundle: write_answers(bundle, no_photos)])
def test_without_a_self_test_nothing_is_taken(capsys, published, old, strip):
    """Its card may say whatever it likes of the outputs, and the door would end at the first frame."""
    new = published("new", labels=["own", "other", "_empty", "more"])
    strip(new)
    before = (old / CARD_NAME).read_bytes()
    assert "brings no self-test" in model(capsys, "pull", new, "--into", old, "--even-if-worse", status=2)
    assert (old / CARD_NAME).read_bytes() == before


def test_settings_that_the_new_model_does_not_know(capsys, published, old, tmp_path):
    settings = tmp_path / "door.toml"
    settings.write_text(f'[model]\nbundle = "{old}"\n[door.labels.own]\npasses = "in"\n[journal]\nfolder = "{tmp_path}/none"\n')
    new = published("new", labels=["rex", "other", "_empty"], unlock=["rex"])
    assert "a rule for 'own'" in model(capsys, "pull", new, "--config", settings, "--even-if-worse", status=2)


def places(value: object, path: tuple = ()) -> list[tuple]:
    """Where something stands in a card."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inner for place in places(each, (*path, key)))]


def test_whatever_a_card_holds_the_bundle_works_afterwards(capsys, published, old):
    new = published("new")
    honest = (new / CARD_NAME).read_text()
    refused = 0
    for place in places(json.loads(honest))[1:]:
        for odd in (None, "x", []):
            card = json.loads(honest)
            target = card
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = odd
            (new / CARD_NAME).write_text(json.dumps(card))
            refused += cli.main(["model", "pull", str(new), "--into", str(old)]) == 2
            assert selftest(Classifier(old)).ok
    capsys.readouterr()
    assert refused > 60


FULL = """
import resource, sys
from pawlatch.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # no file may become longer: the disk refuses in the middle of int8
sys.exit(main(sys.argv[1:]))
"""


def test_a_disk_that_refuses_leaves_the_old_bundle(published, old):
    new = published("new")
    (old / read_card(old).files["onnx_float32"].name).unlink()
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    done = subprocess.run([sys.executable, "-c", FULL, "model", "pull", new, "--into", old], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_a_disk_that_is_full_at_the_signature_leaves_the_old_bundle(capsys, signed, old, key, monkeypatch):
    def full(path: Path, data: bytes | str) -> None:
        if path.name.startswith(SIGNATURE_NAME):
            raise OutputError(f"cannot write {path}")
        write_atomic(path, data)

    monkeypatch.setattr("pawlatch.bundle.write_atomic", full)
    assert "cannot write" in model(capsys, "pull", signed, "--into", old, "--key", f"{key}.pub", status=2)
    assert version(old).startswith("old ")


@pytest.mark.parametrize("program", ["'", " "])
def test_a_program_that_is_none(capsys, old, program):
    with pytest.raises(SystemExit) as ended:
        cli.main(["model", "push", str(old), "pi", "--program", program])
    assert ended.value.code == 2
    assert "--program" in capsys.readouterr().err


def test_a_place_that_cannot_be_made(capsys, published, old):
    told = model(capsys, "pull", published("new"), "--into", old / CARD_NAME / "edge", status=2)
    assert "cannot make the folder" in told
