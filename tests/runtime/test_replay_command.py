from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from pawlatch import cli
from pawlatch.card import read_card
from pawlatch.decide import DecisionOptions

WHO = {"own": "own", "other": "other"}


@pytest.fixture
def clips(draw_clip, tmp_path):
    """Two clips in a folder of their own, and the truth of them."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name, script in (("day", [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)]), ("still", [(2, None)])):
        shutil.move(draw_clip(name, script), folder)
    truth = tmp_path / "truth.csv"
    truth.write_text("clip,start_s,end_s,label\nday.mp4,1,3,own\nday.mp4,7,9,other\n")
    return folder, truth


def said(capsys, *arguments, status=0):
    assert cli.main([*map(str, arguments)]) == status, capsys.readouterr().err
    return capsys.readouterr()


def test_lists_visits_by_the_policy_that_is_named(capsys, tiny_bundle, clips):
    folder, _ = clips
    out = said(capsys, "replay", tiny_bundle, folder / "day.mp4").out
    assert "opens for own, by evidence" in out
    assert "opened after 0.1 s: evidence 6.9 of 6.9 in 2 frames that say own" in out
    rows = json.loads(said(capsys, "replay", tiny_bundle, folder, "--policy", "consensus", "--json").out)
    assert (rows["policy"], [len(clip["visits"]) for clip in rows["clips"]]) == ("consensus", [2, 0])
    own, other = rows["clips"][0]["visits"]
    assert (own["unlocked"], own["time_to_unlock_s"], other["unlocked"]) == (True, 0.2, False)


def test_settings_come_from_the_doors_file(capsys, tiny_bundle, clips, tmp_path):
    (tmp_path / "door.toml").write_text('[decision]\npolicy = "consensus"\nmin_frames = 5\n')
    out = said(capsys, "replay", tiny_bundle, clips[0] / "day.mp4", "--config", tmp_path / "door.toml").out
    assert "opened after 0.4 s: 5 of 5 frames" in out


def test_counts_every_policy_against_the_truth(capsys, tiny_bundle, clips):
    folder, truth = clips
    told = json.loads(said(capsys, "replay", tiny_bundle, folder, "--truth", truth, "--json").out)
    assert [row["policy"] for row in told["counts"]] == ["evidence", "consensus", "single"]
    for row in told["counts"]:
        assert (row["false_unlocks"], row["strangers"], row["lock_outs"], row["own"], row["elsewhen"]) == (0, 1, 0, 1, 0)
        assert row["false_unlock_upper_95"] == pytest.approx(0.95)
    assert [row["time_p50_s"] for row in told["counts"]] == pytest.approx([0.1, 0.2, 0.0])
    own, other = told["visits"]
    assert own["unlock_s"] == pytest.approx({"evidence": 0.1, "consensus": 0.2, "single": 0.0})
    assert other["unlock_s"] == {"evidence": None, "consensus": None, "single": None}
    table = said(capsys, "replay", tiny_bundle, folder, "--truth", truth).out
    assert "evidence             0 of 1    95.0%           0      0 of 1    95.0%   0.10   0.10      1/1" in table


def test_the_truths_own_clips_where_none_are_named(capsys, tiny_bundle, clips, tmp_path):
    folder, _ = clips
    (folder / "truth.csv").write_text('clip,start_s,end_s,label\nday.mp4,1,3,own\n"scene:empty?fps=2",0,1,other\n')
    told = json.loads(said(capsys, "replay", tiny_bundle, "--truth", folder / "truth.csv", "--json").out)
    assert [visit["clip"] for visit in told["visits"]] == ["day.mp4", "scene:empty?fps=2"]


def test_a_false_unlock_of_the_chosen_policy_is_status_1(capsys, tiny_bundle, clips):
    folder, truth = clips
    truth.write_text("clip,start_s,end_s,label\nday.mp4,1,3,burglar\n")
    out = said(capsys, "replay", tiny_bundle, folder, "--truth", truth, status=1).out
    assert "LET IN" in out
    truth.write_text("clip,start_s,end_s,label\nday.mp4,7,9,other\n")  # and for nobody
    said(capsys, "replay", tiny_bundle, folder, "--truth", truth, status=1)


@pytest.mark.parametrize(("text", "complaint"), [
    ("start,end\n", "must be clip,start_s,end_s,label"),
    ("clip,start_s,end_s,label\nnight.mp4,1,3,own\n", "'night.mp4' must be one of"),
    ("clip,start_s,end_s,label\nday.mp4,3,1,own\n", "line 2"),
])
def test_a_bad_truth_is_status_2(capsys, tiny_bundle, clips, text, complaint):
    folder, truth = clips
    truth.write_text(text)
    assert complaint in said(capsys, "replay", tiny_bundle, folder, "--truth", truth, status=2).err


@pytest.mark.parametrize("arguments", [[], ["model"], ["--journal", "j", "model", "clip.mp4"], ["--policy", "oracle", "model", "a.mp4"]])
def test_bad_use_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["replay", *arguments])


# ---------------------------------------------------------------------------------------------------------------- journal


@pytest.fixture
def journal(tiny_bundle, clips, recorded):
    """A journal with the two visits of the day, decided by evidence."""
    return recorded(tiny_bundle, clips[0] / "day.mp4")


def test_explains_a_recorded_visit(capsys, journal):
    out = said(capsys, "explain", 1, "--journal", journal).out
    assert "event 1" in out
    assert "evidence: opened after 0.1 s: evidence 6.9 of 6.9 in 2 frames that say own" in out
    assert "- without the frame at 0.0 s" in out or "no single one" in out
    out = said(capsys, "explain", 2, "--journal", journal).out
    assert "evidence: stayed shut: other" in out
    assert "neither a lower threshold" in out


def test_explains_it_as_another_policy_would(capsys, journal):
    told = json.loads(said(capsys, "explain", 1, "--journal", journal, "--policy", "consensus", "--json").out)
    assert (told["policy"], told["unlock_s"]) == ("consensus", pytest.approx(0.2))


def test_the_recorded_visit_gets_the_very_verdicts_of_the_live_door(capsys, journal):
    told = json.loads(said(capsys, "explain", 1, "--journal", journal, "--json").out)
    assert told["after_s"] == pytest.approx(told["unlock_s"])


def test_an_event_that_is_not_there(capsys, journal, tmp_path):
    assert "99" in said(capsys, "explain", 99, "--journal", journal, status=2).err
    assert "absent" in said(capsys, "explain", 1, "--journal", tmp_path / "absent", status=2).err
    assert "99" in said(capsys, "replay", "--journal", journal, 99, status=2).err


def test_judges_recorded_visits_by_another_policy(capsys, journal):
    out = said(capsys, "replay", "--journal", journal, "--policy", "consensus").out
    assert "consensus on its" in out
    assert "opened after 0.2 s: 3 of 3 frames" in out
    rows = json.loads(said(capsys, "replay", "--journal", journal, 1, "--policy", "single", "--json").out)["visits"]
    assert [(row["event"], row["policy"], row["would"]["unlock_s"], row["model"]) for row in rows] == [(1, "single", 0.0, None)]


def test_the_journal_of_this_machine_is_the_default(capsys, journal, monkeypatch):
    monkeypatch.setattr("pawlatch.journal.default_folder", lambda: journal)
    rows = json.loads(said(capsys, "replay", "--json", "--journal", 1).out)["visits"]
    assert [row["event"] for row in rows] == [1]
    assert len(json.loads(said(capsys, "replay", "--journal", "--json").out)["visits"]) == 2


def test_judges_the_kept_frames_by_another_model(capsys, journal, tiny_bundle, tmp_path):
    other = shutil.copytree(tiny_bundle, tmp_path / "other")
    card = read_card(other)
    replace(card, labels=("other", "own", "_empty")).write(other)  # a model that takes red for blue
    out = said(capsys, "replay", other, "--journal", journal).out
    assert "with the new model this visit would have stayed shut: other" in out  # the own one
    assert "with the new model this visit would have opened" in out  # the other one
    same = json.loads(said(capsys, "replay", tiny_bundle, "--journal", journal, 1, "--json").out)["visits"][0]["model"]
    assert same["other_label"] == 0
    assert same["frames"] <= 12
    assert same["old_own"] == same["new_own"]  # to the bit: the inputs are kept without loss
    assert same["old"] == same["new"]


def test_options_of_another_policy_do_not_stick():
    with pytest.raises(Exception, match="min_frames"):
        DecisionOptions(min_frames=1)
