"""What a person looks at after training: the pictures, the page, the advice, the two CSV files."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pawlatch.errors import OutputError
from pawlatch.image import read_image
from pawlatch.stats import wilson_interval
from pawlatch_train.advice import Photographed, photograph_next
from pawlatch_train.findings import Finding
from pawlatch_train.grids import GREEN, RED, draw_confusion, draw_mistakes, draw_predictions
from pawlatch_train.history import BatchLoss, History, comparison_table
from pawlatch_train.judged import Judged, Share
from pawlatch_train.plots import draw_comparison, draw_curves, draw_reliability
from pawlatch_train.report import Story, StrangerRow, write_report

PICTURES = ("predictions", "mistakes", "confusion", "reliability", "curves")


def judge(said: str, truth: str, labels=("Leo", "Eve", "초코"), *, score=0.9, groups=None) -> Judged:
    """Photos by the initials of what was said of them and what they are; all are plain blue."""
    initials = "".join(label[0] for label in labels)
    n = len(truth)
    scores = np.full((n, len(labels)), (1 - score) / (len(labels) - 1), np.float32)
    scores[np.arange(n), [initials.index(letter) for letter in said]] = score
    names = [f"{labels[initials.index(letter)]}/{i}.jpg" for i, letter in enumerate(truth)]
    targets = np.array([initials.index(letter) for letter in truth], np.int64)
    return Judged(labels, names, np.full((n, 32, 32, 3), (20, 30, 200), np.uint8), targets, scores,
                  scores, np.arange(n) if groups is None else np.array(groups), "held-out photos that chose nothing")


def learned(frozen=3, tuned=2, *, rate=0.5) -> History:
    history = History()
    for epoch in range(frozen + tuned):
        history.append("frozen" if epoch < frozen else "fine-tuned",
                       {"loss": rate**epoch, "accuracy": 1 - rate**epoch / 2, "val_loss": 1.1 * rate**epoch,
                        "val_accuracy": 1 - rate**epoch / 1.8, "learning_rate": 1e-3, "seconds": 0.25})
    return history


def tell(judged: Judged, **changes) -> Story:
    return replace(
        Story(title="Leo's door", unlock=["Leo"], judged=judged, history=learned(), backbone="MobileNetV2",
              photographed={label: Photographed(40, 30, 4) for label in judged.labels}, why="Few photos.",
              recipe=[("optimizer", "adam")], temperature=1.5, ece_before=0.08, ece_after=0.03,
              next_command="pawlatch convert model/"),
        **changes,
    )


def pixels_of(path, colour) -> int:
    return int((read_image(path) == colour).all(axis=-1).sum())


def reddish(path) -> int:
    picture = read_image(path).astype(int)
    return int((picture[..., 0] - picture[..., 2] > 20).sum())


class Page(HTMLParser):
    """The addresses and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]

    def handle_data(self, data):
        self.text += data


def page_of(folder) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_right_one_is_green_and_a_wrong_one_red(tmp_path):
    right, wrong = judge("LE초", "LE초"), judge("LE초", "E초L")
    for judged, there, absent in ((right, GREEN, RED), (wrong, RED, GREEN)):
        draw_predictions(judged, tmp_path / "grid.png")
        assert pixels_of(tmp_path / "grid.png", there) > 50
        assert pixels_of(tmp_path / "grid.png", absent) == 0


def test_hangul_is_drawn(tmp_path):
    drawn = {}
    for label in ("초코", "호두", "??"):
        draw_predictions(judge("LL", "LL", ("L" + label, "E")), tmp_path / "grid.png")
        drawn[label] = read_image(tmp_path / "grid.png").tobytes()
    assert len(set(drawn.values())) == 3


@pytest.mark.parametrize("name", ["Leo", "a name so long that it never ends, not over this photo and not over the next"])
def test_titles_stay_over_their_photo(name, tmp_path):
    labels = (name, name[::-1])
    wrong = Judged(labels, ["x" * 90] * 2, np.zeros((2, 24, 48, 3), np.uint8), np.array([0, 0]), np.eye(2, dtype=np.float32),
                   np.eye(2, dtype=np.float32), np.arange(2), "")
    draw_mistakes(wrong, tmp_path / "grid.png")
    picture = read_image(tmp_path / "grid.png")
    assert (picture[:, :10] == 255).all()
    assert (picture[:, -10:] == 255).all()


def test_a_choice_takes_from_each_label_in_turn():
    judged = judge("L" * 40 + "EE" + "초", "L" * 40 + "EE" + "초")
    chosen = judged.sample(6, seed=1)
    assert sorted(judged.targets[chosen]) == [0, 0, 0, 1, 1, 2]
    assert chosen == judged.sample(6, seed=1) != judged.sample(6, seed=2)
    assert len(set(judged.sample(25))) == 25


def test_the_worst_mistakes_come_first():
    judged = judge("LLLE", "EL초E")
    judged.scores[2] = (0.95, 0.03, 0.02)
    assert judged.worst(12) == [2, 0]
    assert judged.worst(1) == [2]


@pytest.mark.parametrize("n", [2, 5, 102])
def test_a_confusion_matrix_of_any_size_is_legible(n, tmp_path):
    labels = tuple(f"꽃 number {i}" for i in range(n))
    table = np.eye(n, dtype=np.int64) * 30
    draw_confusion(table, labels, tmp_path / "clean.png")
    table[1, 0] = 1
    draw_confusion(table, labels, tmp_path / "one.png")
    height, width = read_image(tmp_path / "one.png").shape[:2]
    assert max(height, width) < 1600
    assert pixels_of(tmp_path / "clean.png", GREEN) > 25 * n
    assert reddish(tmp_path / "one.png") > 50  # a single mistake among thirty photos
    assert reddish(tmp_path / "clean.png") == 0


def test_curves_show_where_fine_tuning_began(tmp_path):
    for tuned, line in ((2, True), (0, False)):
        draw_curves(learned(3, tuned), tmp_path / "curves.png")
        assert (reddish(tmp_path / "curves.png") > 100) is line
        assert pixels_of(tmp_path / "curves.png", (0x1F, 0x6F, 0x4A)) > 100


def test_curves_without_choosing_photos_speak_of_no_validation(tmp_path):
    """Neither a line nor its name: nothing on the picture is green."""
    alone = learned()
    alone.val_loss[:] = alone.val_accuracy[:] = [math.nan] * len(alone)
    draw_curves(alone, tmp_path / "curves.png")
    assert pixels_of(tmp_path / "curves.png", (0x1F, 0x6F, 0x4A)) == 0
    alone.val_accuracy[2] = 0.9  # one epoch that was judged
    alone.val_loss[2] = 0.3
    draw_curves(alone, tmp_path / "curves.png")
    assert pixels_of(tmp_path / "curves.png", (0x1F, 0x6F, 0x4A)) > 20


def test_reliability_draws_both(tmp_path):
    judged = judge("LLEE초초", "LLEEL초")
    draw_reliability(judged, tmp_path / "plain.png")
    draw_reliability(replace(judged, raw_scores=judged.scores[:, ::-1]), tmp_path / "other.png")
    assert pixels_of(tmp_path / "plain.png", (0x1F, 0x6F, 0x4A)) > 100
    assert not np.array_equal(read_image(tmp_path / "plain.png"), read_image(tmp_path / "other.png"))


def test_a_comparison_draws_every_run_and_survives_one_that_diverged(tmp_path):
    diverged = learned()
    diverged.val_loss[:] = [math.nan, math.inf, 1e30, math.nan, math.nan]
    runs = {"sgd": learned(rate=0.8), "adam": learned(rate=0.3), "adagrad": diverged}
    draw_comparison(runs, tmp_path / "runs.png", field="optimizer")
    for colour in ((0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)):
        assert pixels_of(tmp_path / "runs.png", colour) > 200
    lines = comparison_table(runs, {"sgd": 0.5, "adam": 0.75, "adagrad": 0.25}, field="optimizer").splitlines()
    assert [line.split()[0] for line in lines] == ["optimizer", "adam", "sgd", "adagrad"]
    assert lines[1].split()[1:] == ["0.009", "0.996", "5", "1.2", "0.750"]


def test_the_page_is_whole(tmp_path):
    story = tell(judge("LLEE초L", "LLEE초E"), findings=[Finding("unreadable", "error", (), "1 file cannot be read: <x>.jpg")],
                 operating_point=["0 of 120 strangers: at most 2.5 %"], strangers=[StrangerRow("Eve", 0.91, 0.64)],
                 strangers_note="The head was redone.", timings=[("frozen stage", 4.0)])
    write_report(tmp_path, story)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(f"{name}.png" for name in PICTURES), "report.html"])
    for name in PICTURES:
        assert read_image(tmp_path / f"{name}.png").std() > 5, name
    page = page_of(tmp_path)
    assert len(page.sources) == len(PICTURES)
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object"})
    for told in ("5 of 6 photos", "0 of 120 strangers", "<x>.jpg", "temperature of 1.50", "8.0", "0.91", "0.64", "adam",
                 "frozen stage 4.0 s", "pawlatch convert model/", "Eve/5.jpg is Eve, taken for Leo with 0.90",
                 "3 epochs with the backbone frozen, 2 of fine-tuning"):
        assert told in page.text, told


def test_without_a_mistake_it_says_so_and_a_former_picture_goes(tmp_path):
    write_report(tmp_path, tell(judge("LE", "EL")))
    assert (tmp_path / "mistakes.png").is_file()
    write_report(tmp_path, tell(judge("LE", "LE")))
    assert not (tmp_path / "mistakes.png").exists()
    assert "None: all 2 photos were recognised." in page_of(tmp_path).text


def test_without_held_out_photos_it_claims_nothing(tmp_path):
    write_report(tmp_path, tell(judge("", ""), ece_before=None, ece_after=None))
    page = page_of(tmp_path)
    assert "No photos were held out" in page.text
    assert "nan" not in page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "report.html"]


def test_names_are_escaped(tmp_path):
    evil = "<b>&amp;\"'"
    judged = judge("<E", "E<", (evil, "Eve"))
    judged = replace(judged, names=[f"{evil}/<script>.jpg", "x"])
    story = tell(judged, title=evil, unlock=[evil], strangers=[StrangerRow(evil, 0.5, 0.5)], recipe=[(evil, evil)],
                 findings=[Finding(evil, evil, (), evil)], operating_point=[evil], next_command=evil, why=evil, backbone=evil)
    write_report(tmp_path, story)
    html, page = (tmp_path / "report.html").read_text(encoding="utf-8"), page_of(tmp_path)
    assert "<b>&" not in html
    assert "script" not in page.tags
    assert page.text.count(evil) > 10


def test_the_table_has_intervals_and_precision(tmp_path):
    write_report(tmp_path, tell(judge("LLLLE" + "EEEE초", "LLLLL" + "EEEEE")))
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    low, high = wilson_interval(4, 5)
    assert (f"<tr><td>Leo</td><td>5</td><td>5</td><td>80%</td><td>{low:.0%} to {high:.0%}</td><td>100% (4 of 4)</td></tr>") in html
    assert "<tr><td>Eve</td><td>5</td><td>5</td><td>80%</td>" in html
    assert "<td>80% (4 of 5)</td>" in html
    assert "<tr><td>초코</td><td>0</td><td>0</td><td>–</td><td>–</td><td>0% (0 of 1)</td></tr>" in html


def test_a_burst_is_one_moment():
    burst, apart = judge("L" * 10, "L" * 10, groups=[7] * 10), judge("L" * 10, "L" * 10)
    assert burst.share_right().interval() == wilson_interval(1, 1)
    assert apart.share_right().interval() == wilson_interval(10, 10)
    share = Share(7, 10, 5)
    assert share.interval()[0] < 0.7 < share.interval()[1]
    assert np.diff(share.interval(more=20))[0] < np.diff(share.interval())[0]


def test_judged_photos_have_one_of_each():
    with pytest.raises(ValueError, match="as many of each"):
        replace(judge("LE", "LE"), names=["only one"])


MANY = Photographed(60, 30, 5)
LABELS = ("Leo", "_other", "_empty")
SURE = judge("L" * 60 + "_" * 60, "L" * 60 + "_" * 60, LABELS)


@pytest.mark.parametrize(("changes", "unlock", "told"), [
    ({"Leo": Photographed(80, 30, 0)}, ["Leo"], "0 of the 80 photos of Leo are grey"),
    ({"Leo": Photographed(80, 16, 1)}, ["Leo"], "Leo (16 moments in 80 photos)"),
    ({"Leo": Photographed(300, 91, 1)}, ["Leo"], "Leo has 91 moments and _other 30"),
    ({"_other": None}, ["Leo"], "0 photos show an animal that must stay outside"),
    ({"_other": None, "Eve": MANY}, ["Leo"], "0 photos are in photos/_other/: the door knows 2 animals by name"),
    ({"_empty": None}, ["Leo"], "0 photos are in photos/_empty/"),
])
def test_each_advice_rests_on_a_count(changes, unlock, told):
    facts = dict.fromkeys(LABELS, MANY)
    assert photograph_next(SURE, facts, unlock)[0].startswith("Nothing stands out: each label has at least 30")
    facts = {label: own for label, own in {**facts, **changes}.items() if own}
    advice = photograph_next(SURE, facts, unlock)
    assert told in advice[0]
    assert len(advice) == 1


def test_what_was_confused_and_what_is_uncertain():
    judged = judge("L" * 47 + "EEE" + "E" * 8 + "L", "L" * 50 + "E" * 9, ("Leo", "Eve"))
    confused, widest = photograph_next(judged, dict.fromkeys(judged.labels, MANY), [])
    assert "Leo and Eve were taken for each other in 4 of their 59 photos" in confused
    low, high = wilson_interval(8, 9)
    assert f"Eve is the least certain: 8 of 9 recognised, so the true share may be anything from {low:.0%} to {high:.0%}" in widest


def test_what_other_photos_would_mend_is_taken_from_the_check():
    facts = dict.fromkeys(LABELS, MANY)
    background = Finding("one background", "warning", (), "the border alone tells 9 of 10; go elsewhere")
    blurred = Finding("blurred", "warning", (), "3 photos are blurred")
    assert photograph_next(SURE, facts, ["Leo"], [background, blurred]) == ["The border alone tells 9 of 10; go elsewhere."]


def test_a_hundred_labels_are_told_in_a_line():
    facts = {f"label {i}": Photographed(9, 3, 1) for i in range(102)}
    (few,) = photograph_next(judge("", ""), facts, [])
    assert "and 99 more" in few
    assert len(few) < 300


def test_history_comes_back_from_its_files():
    history = learned()
    history.val_loss[0] = math.nan
    for epoch in (1, 2, 6):
        history.batch_loss.append(BatchLoss("frozen", epoch, 1, 0.1 + epoch / 3))
    again = History.from_csv(history.to_csv(), history.batches_to_csv())
    assert again.to_csv() == history.to_csv()
    assert [batch.epoch for batch in again.batch_loss] == [1, 2]  # the sixth did not finish
    assert again.batch_loss[0] == history.batch_loss[0]
    assert again.turn == 3
    assert history.to_csv().splitlines()[0] == "epoch,stage,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds"
    assert history.to_csv().splitlines()[4] == "4,fine-tuned,0.125,0.9375,0.1375,0.9305555555555556,0.001,0.25"


def test_history_is_taken_up_in_place():
    listening = History()
    listening.take_up(learned())
    listening.append("fine-tuned", dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds"), 1))
    assert len(listening) == 6
    assert len(learned()) == 5


@pytest.mark.parametrize("spoil", [lambda text: "", lambda text: text.replace("loss", "lost"),
                                   lambda text: text + "6,frozen,0.1\n", lambda text: text.replace("0.125", "x")])
def test_foreign_files_are_refused(spoil):
    history = learned()
    with pytest.raises(OutputError, match="--resume"):
        History.from_csv(spoil(history.to_csv()), history.batches_to_csv())


def test_importing_the_report_draws_in_neither_matplotlib_nor_tensorflow():
    code = "import sys, pawlatch_train.report; sys.exit(bool({'matplotlib', 'tensorflow', 'tf_keras'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
