from __future__ import annotations

import json
import os
import signal

import cv2
import pytest

from pawlatch.camera import open_clip
from pawlatch.classify import Classifier
from pawlatch.commands.clips import frames
from pawlatch.commands.door import replay, run
from pawlatch.errors import CameraError, LatchError, ModelCardError, OutputError

DAY = [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)]


def test_run_tells_of_unlocks_visits_and_moves(tiny_bundle, draw_clip, capsys):
    assert run([str(tiny_bundle), "--camera", str(draw_clip("day", DAY)), "--latch", "log", "--fast"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "tiny, int8: opens for own at 0.80 or more"
    assert lines[1] == "0:01.2  unlocked for own 1.00: 3 of 3 frames of the last 2.0 s say own at 0.80 or more"
    assert lines[2].startswith("0:01.0 to 0:02.9  own 1.00  opened after 0.2 s: 3 of 3 frames")
    assert lines[3].startswith("0:07.0 to 0:08.9  other 1.00  stayed shut: other 1.00: not a label that unlocks")
    assert lines[4:] == ["latch: locked at 0.0 s, unlocked at 1.2 s, locked at 6.2 s"]


def test_run_on_a_paced_clip_is_a_live_door(tiny_bundle, draw_clip, capsys):
    assert run([str(tiny_bundle), "--camera", str(draw_clip("own", [(0.3, None), (1.2, "own")]))]) == 0
    out = capsys.readouterr().out
    assert "unlocked for own" in out
    assert out.splitlines()[-1].count("locked at") == 3


def test_run_records_what_it_saw(tiny_bundle, draw_clip, tmp_path, capsys):
    record = tmp_path / "seen.webm"
    clip = draw_clip("own", [(0.5, None), (1, "own")])
    assert run([str(tiny_bundle), "--camera", str(clip), "--fast", "--record", str(record)]) == 0
    assert len(list(open_clip(record).frames)) == 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run_ends_with_status_0_on_a_signal(tiny_bundle, capsys, monkeypatch, number):
    calls = []
    classify = Classifier.__call__

    def interrupted(self, image_rgb):
        calls.append(number)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return classify(self, image_rgb)

    monkeypatch.setattr(Classifier, "__call__", interrupted)
    assert run([str(tiny_bundle), "--camera", "scene:own,own,own", "--fast"]) == 0
    assert len(calls) == 2
    assert capsys.readouterr().out.splitlines()[-1] == "latch: locked at 0.0 s"


def test_run_locks_before_anything_else_can_fail(tiny_bundle, caplog):
    with caplog.at_level("INFO", logger="pawlatch.latch"), pytest.raises(ModelCardError):
        run([str(tiny_bundle / "absent")])
    assert caplog.messages == ["latch locked"]


def test_run_says_that_a_card_without_unlock_labels_arms_nothing(tiny_bundle, draw_clip, capsys):
    card = tiny_bundle / "pawlatch.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"unlock": []}))
    assert run([str(tiny_bundle), "--camera", str(draw_clip("own", [(1, "own")])), "--fast"]) == 0
    out = capsys.readouterr().out
    assert "names no unlock label, so the door stays shut" in out
    assert "stayed shut: the card names no unlock label: the door cannot be armed" in out


def test_replay_lists_visits(tiny_bundle, draw_clip, capsys):
    day, empty = draw_clip("day", DAY), draw_clip("empty", [(1, None)])
    assert replay([str(tiny_bundle), str(day), str(empty), "--variant", "float32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("tiny, float32")
    assert lines[1] == str(day)
    assert "opened after 0.2 s" in lines[2]
    assert "stayed shut" in lines[3]
    assert lines[4:] == [str(empty), "  no visit"]


def test_replay_as_json(tiny_bundle, draw_clip, capsys):
    clip = str(draw_clip("day", DAY))
    assert replay([str(tiny_bundle), clip, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {"variant", "clips"}
    assert report["variant"] == "int8"
    (row,) = report["clips"]
    assert row.keys() == {"clip", "visits"}
    assert row["clip"] == clip
    own, other = row["visits"]
    assert own.pop("reason").startswith("3 of 3 frames")
    assert own == {"start_s": 1.0, "end_s": 2.9, "label": "own", "score": pytest.approx(1, abs=0.01), "unlocked": True,
                   "time_to_unlock_s": 0.2}
    assert (other["unlocked"], other["time_to_unlock_s"]) == (False, None)


def test_replay_annotates(tiny_bundle, draw_clip, tmp_path, capsys):
    clip = draw_clip("own", [(0.5, None), (1, "own")])
    assert replay([str(tiny_bundle), str(clip), "--annotate", str(tmp_path / "out" / "clips")]) == 0
    annotated = tmp_path / "out" / "clips" / "own.webm"
    assert cv2.VideoCapture(str(annotated)).get(cv2.CAP_PROP_FOURCC) == cv2.VideoWriter.fourcc(*"VP80")
    assert len(list(open_clip(annotated).frames)) == 15


def test_replay_does_not_write_over_its_input(tiny_bundle, draw_clip, tmp_path, capsys):
    replay([str(tiny_bundle), str(draw_clip("own", [(0.5, "own")])), "--annotate", str(tmp_path / "out")])
    with pytest.raises(OutputError, match="would overwrite"):
        replay([str(tiny_bundle), str(tmp_path / "out" / "own.webm"), "--annotate", str(tmp_path / "out")])
    (tmp_path / "b").mkdir()
    with pytest.raises(OutputError, match="different names"):
        replay([str(tiny_bundle), "a/own.mp4", "b/own.mp4", "--annotate", str(tmp_path / "out")])


@pytest.mark.parametrize(("arguments", "error"), [
    (["--camera", "absent.mp4"], CameraError),
    (["--latch", "gpio:17"], LatchError),
    (["--variant", "int4"], ModelCardError),
    (["--camera", "scene:empty?fps=1", "--fast", "--record", "seen.mp4"], OutputError),
])
def test_run_refuses_bad_use(tiny_bundle, arguments, error):
    with pytest.raises(error):
        run([str(tiny_bundle), *arguments])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_run_refuses_a_time_that_is_none(tiny_bundle, seconds, capsys):
    with pytest.raises(SystemExit) as caught:
        run([str(tiny_bundle), "--unlock-s", seconds])
    assert caught.value.code == 2


def test_frames_saves_sharp_different_pictures(draw_clip, tmp_path, capsys):
    clip, photos = draw_clip("walk", [(2, "own"), (2, None)]), tmp_path / "photos" / "own"
    assert frames([str(clip), "-o", str(photos), "--every", "0.5"]) == 0
    saved = sorted(path.name for path in photos.iterdir())
    assert 4 <= len(saved) <= 5  # one each half second of the walk, and one of the two empty seconds
    assert saved[0].startswith("walk-000")
    assert capsys.readouterr().out == f"{len(saved)} photos saved in {photos}\n"
    assert cv2.imread(str(photos / saved[0])).shape == (120, 160, 3)


def test_frames_keeps_what_is_there(draw_clip, tmp_path, capsys):
    clip, photos = draw_clip("walk", [(1, "own")]), tmp_path / "own"
    frames([str(clip), "-o", str(photos), "--count", "3"])
    first, *others = sorted(photos.iterdir())
    first.write_bytes(b"mine")
    capsys.readouterr()
    frames([str(clip), "-o", str(photos), "--count", "3"])
    assert first.read_bytes() == b"mine"
    assert capsys.readouterr().out == f"0 photos saved in {photos}, {1 + len(others)} were there already\n"


def test_frames_takes_the_sharpest_of_each_stretch(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    clip = next(open_clip("scene:own?fps=2").frames).image_bgr
    for index, blur in enumerate((9, 1, 15)):
        cv2.imwrite(str(folder / f"{index}.png"), cv2.GaussianBlur(clip, (blur, blur), 0))
    frames([str(folder), "-o", str(tmp_path / "out"), "--count", "1"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["pictures-000200.jpg"]


def test_frames_between_start_and_end(draw_clip, tmp_path, capsys):
    clip = draw_clip("walk", [(3, "own")])
    frames([str(clip), "-o", str(tmp_path / "out"), "--start", "1", "--end", "2"])
    times_ms = [int(path.stem.split("-")[1]) for path in (tmp_path / "out").iterdir()]
    assert 1000 <= min(times_ms) <= max(times_ms) <= 2000
    with pytest.raises(CameraError, match="has no frame between"):
        frames([str(clip), "-o", str(tmp_path / "out"), "--start", "9"])
