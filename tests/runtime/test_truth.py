from __future__ import annotations

import pytest

from pawlatch.stats import binomial_upper
from pawlatch.truth import TruthError, TruthVisit, assign, count, elsewhen, outcomes, read_truth, table

HEADER = "clip,start_s,end_s,label\n"
OWN, CAT = TruthVisit("a.mp4", 2.0, 6.0, "rex"), TruthVisit("a.mp4", 10.0, 12.0, "cat")


def written(tmp_path, text):
    path = tmp_path / "truth.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_visits_in_their_order(tmp_path):
    path = written(tmp_path, '\ufeff' + HEADER + 'b.mp4,1,2.5,초코\n\n"scene:own,cat?seed=1",0,4, own \n')
    assert read_truth(path) == [TruthVisit("b.mp4", 1.0, 2.5, "초코"), TruthVisit("scene:own,cat?seed=1", 0.0, 4.0, "own")]


@pytest.mark.parametrize(("text", "said"), [
    ("", "must be clip,start_s,end_s,label, got nothing"),
    ("clip,start,end,label\n", "got clip,start,end,label"),
    ("a.mp4,1,2,rex\n", "must be clip,start_s,end_s,label"),
    (HEADER + "a.mp4,1,2\n", "line 2: expected clip,start_s,end_s,label, got a.mp4,1,2"),
    (HEADER + "a.mp4,1,2,rex\na.mp4,3,x,rex\n", "line 3: a visit has seconds .* got 3 and x"),
    (HEADER + "a.mp4,2,1,rex\n", "got 2 and 1"),
    (HEADER + "a.mp4,-1,1,rex\n", "got -1 and 1"),
    (HEADER + "a.mp4,0,inf,rex\n", "got 0 and inf"),
    (HEADER + "a.mp4,nan,1,rex\n", "got nan and 1"),
    (HEADER + "a.mp4,1,2,\n", "line 2"),
])
def test_a_bad_line_is_named(tmp_path, text, said):
    with pytest.raises(TruthError, match=said):
        read_truth(written(tmp_path, text))


def test_a_file_that_is_none_is_said(tmp_path):
    with pytest.raises(TruthError, match=r"cannot read .*No such file"):
        read_truth(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TruthError, match="cannot read"):
        read_truth(tmp_path / "binary.csv")


def test_clips_are_known_by_their_whole_name_or_by_their_files():
    own = TruthVisit("day/a.mp4", 0, 1, "rex")
    assert assign([OWN], ["x/a.mp4", "y/b.mp4"]) == {"x/a.mp4": [OWN], "y/b.mp4": []}
    assert assign([own], ["x/day/a.mp4", "x/night/a.mp4"])["x/day/a.mp4"] == [own]
    with pytest.raises(TruthError, match=r"'a.mp4' must be one of y/b.mp4; it is none of them"):
        assign([OWN], ["y/b.mp4"])
    with pytest.raises(TruthError, match="more than one"):
        assign([OWN], ["x/a.mp4", "y/a.mp4"])


def test_time_counts_from_when_the_animal_comes():
    own, cat = outcomes([OWN, CAT], [2.7, 2.8, 5.0], unlock=("rex",))
    assert (own.unlock_s, own.may_pass, own.is_right) == (pytest.approx(0.7), True, True)
    assert (cat.unlock_s, cat.may_pass, cat.is_right) == (None, False, True)
    own, cat = outcomes([OWN, CAT], [11.0], unlock=("rex",))
    assert not own.is_right
    assert not cat.is_right


def test_who_has_just_left_is_still_who_it_opened_for():
    own, cat = outcomes([OWN, CAT], [7.0], unlock=("rex",))
    assert (own.unlock_s, cat.unlock_s) == (5.0, None)
    assert elsewhen([OWN, CAT], [7.0]) == 0
    following = TruthVisit("a.mp4", 6.5, 9.0, "cat")
    own, cat = outcomes([OWN, following], [6.7], unlock=("rex",))
    assert (own.unlock_s, cat.unlock_s) == (None, pytest.approx(0.2))


def test_two_at_once_are_both_let_in():
    both = [OWN, TruthVisit("a.mp4", 3.0, 5.0, "cat")]
    assert [outcome.is_right for outcome in outcomes(both, [4.0], unlock=("rex",))] == [True, False]


def test_unlocks_for_nobody_are_counted_by_the_second():
    assert elsewhen([OWN, CAT], [0.1, 0.2, 0.9, 8.0, 8.1, 20.0]) == 3


def test_counts_and_their_bounds():
    told = [*outcomes([OWN, CAT], [2.5], unlock=("rex",)), *outcomes([OWN, CAT], [4.0, 10.5], unlock=("rex",)),
            *outcomes([OWN], [], unlock=("rex",))]
    row = count("evidence", told, nobody=2)
    assert (row.false_unlocks, row.strangers, row.lock_outs, row.own, row.elsewhen, row.within_1_s) == (1, 2, 1, 3, 2, 1)
    assert row.false_unlock_upper_95 == binomial_upper(1, 2)
    assert row.lock_out_upper_95 == binomial_upper(1, 3)
    assert (row.time_p50_s, row.time_p95_s) == (pytest.approx(1.25), pytest.approx(1.925))
    head, line = table([row])
    assert line.split() == ["evidence", "1", "of", "2", "97.5%", "2", "1", "of", "3", "86.5%", "1.25", "1.92", "1/3"]
    assert len(head) == len(line)


def test_nothing_is_nothing():
    row = count("single", [], nobody=0)
    assert (row.time_p50_s, row.false_unlock_upper_95) == (None, 1.0)
    assert "-" in table([row])[1]
