"""Who trains, who chooses, who is held out: on facts made by hand, so that only the dividing is tested."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from pawlatch.errors import PhotosError
from pawlatch.photos import Photo, SetAside
from pawlatch_train.check import PhotoCheck, PhotoFacts
from pawlatch_train.splits import CHOOSE_SHARE, HELD_OUT_SHARE, MOST_TO_CHOOSE, folds, split

FOLDER = Path("photos")


def check_of(*rows: tuple[str, str, int, str], unreadable: tuple[tuple[str, str], ...] = ()) -> PhotoCheck:
    """A check of photos given as (split, label, group, sha256)."""
    facts = [
        PhotoFacts(Photo(FOLDER / made / label / f"{i}.jpg", label), made, (99, 99), 200.0, 0.7, 20.0, bytes(64), sha256,
                   datetime(2024, 5, 1), np.zeros(4, np.uint8), b"", ())
        for i, (made, label, _, sha256) in enumerate(rows)
    ]  # fmt: skip
    listed = Counter([(made, label) for made, label, *_ in rows] + list(unreadable))
    set_aside = [SetAside(FOLDER / made / label / "broken.jpg", "it is broken") for made, label in unreadable]
    return PhotoCheck(FOLDER, facts, np.array([group for *_, group, _ in rows]), [], set_aside, listed)


def photos(made: str, label: str, groups: list[int]) -> list[tuple[str, str, int, str]]:
    return [(made, label, group, f"{made}-{label}-{i}") for i, group in enumerate(groups)]


def bursts(label: str, count: int, *, first: int, each: int = 3) -> list[tuple[str, str, int, str]]:
    return photos("", label, [first + i // each for i in range(count)])


def labels_of(check: PhotoCheck, indices: list[int]) -> Counter[str]:
    return Counter(check.facts[i].photo.label for i in indices)


def torn_groups(check: PhotoCheck, parts: list[list[int]]) -> set[int]:
    """Groups of which there are photos in more than one part."""
    where = {}
    for part, indices in enumerate(parts):
        for i in indices:
            where.setdefault(int(check.groups[i]), set()).add(part)
    return {group for group, parts_of in where.items() if len(parts_of) > 1}


DRAWN = check_of(*bursts("bo", 60, first=0), *bursts("_other", 100, first=100), *bursts("_empty", 9, first=200))


def parts_of(check, seed=0):
    splits = split(check, seed=seed)
    return [splits.fit, splits.choose, splits.held_out]


@pytest.mark.parametrize("seed", range(5))
def test_every_photo_stands_in_one_split_and_no_group_in_two(seed):
    parts = parts_of(DRAWN, seed)
    assert sorted(i for part in parts for i in part) == list(range(len(DRAWN.facts)))
    assert not torn_groups(DRAWN, parts)


def test_without_the_groups_they_would_be_torn():
    """The sabotage of the test above: it must see it."""
    blind = replace(DRAWN, groups=np.arange(len(DRAWN.facts)))
    assert torn_groups(DRAWN, parts_of(blind))
    assert torn_groups(DRAWN, folds(blind, range(len(DRAWN.facts)), k=5, seed=0))


def test_shares_are_kept_for_each_label_as_near_as_groups_allow():
    parts = parts_of(DRAWN)
    held_out, choose = labels_of(DRAWN, parts[2]), labels_of(DRAWN, parts[1])
    for label, count in labels_of(DRAWN, range(len(DRAWN.facts))).items():
        assert abs(held_out[label] - HELD_OUT_SHARE * count) <= 3, label
        assert abs(choose[label] - CHOOSE_SHARE * (count - held_out[label])) <= 3, label


def test_of_many_photos_some_two_hundred_choose():
    many = check_of(*bursts("bo", 1500, first=0), *bursts("_other", 3000, first=1000))
    choose = labels_of(many, split(many, seed=0).choose)
    assert abs(sum(choose.values()) - MOST_TO_CHOOSE) <= 6
    assert abs(choose["_other"] - 2 * choose["bo"]) <= 6


def test_the_seed_decides():
    assert split(DRAWN, seed=1) == split(DRAWN, seed=1)
    assert split(DRAWN, seed=1) != split(DRAWN, seed=2)


def test_the_users_own_splits_are_kept():
    rows = [*photos("train", "bo", [*range(10)]), *photos("train", "_other", [*range(20, 30)])]
    valid = [*photos("valid", "bo", [40, 41]), *photos("valid", "_other", [42, 43])]
    test = [*photos("test", "bo", [50]), *photos("test", "_other", [51])]
    splits = split(check_of(*rows, *valid, *test), seed=0)
    assert [len(part) for part in (splits.fit, splits.choose, splits.held_out)] == [20, 4, 2]
    splits = split(check_of(*rows, *valid), seed=0)
    assert splits.held_out == [20, 21, 22, 23]
    assert labels_of(check_of(*rows, *valid), splits.choose) == {"bo": 2, "_other": 2}


def test_copies_of_held_out_files_do_not_train_and_near_duplicates_do():
    rows = [*photos("train", "bo", [*range(8)]), *photos("train", "_other", [*range(20, 28)]), ("train", "bo", 40, "same")]
    valid = [("valid", "bo", 40, "same"), ("valid", "bo", 0, "new"), ("valid", "_other", 43, "x")]
    splits = split(check_of(*rows, *valid), seed=0)
    assert 16 not in splits.fit + splits.choose
    assert 0 in splits.fit + splits.choose  # in a group with valid's "new": told by the check, not touched here
    assert [finding.photos for finding in splits.findings if finding.kind == "copies left out"] == [(16,)]
    assert not split(check_of(*rows[:-1], *valid), seed=0).findings


def test_a_label_of_one_moment_is_divided_and_told():
    check = check_of(*bursts("bo", 20, first=0), *photos("", "_empty", [99] * 20))
    splits = split(check, seed=0)
    assert labels_of(check, splits.held_out)["_empty"] == 3
    assert torn_groups(check, parts_of(check)) == {99}
    assert [(finding.kind, "_empty" in finding.sentence) for finding in splits.findings] == [("one moment", True)]
    assert not split(DRAWN, seed=0).findings


def test_copies_are_not_torn_even_where_a_moment_is():
    rows = [("", "_empty", 99, f"file {i // 2}") for i in range(20)]
    check = check_of(*bursts("bo", 20, first=0), *rows)
    for seed in range(5):
        sides = [{check.facts[i].sha256 for i in part} for part in parts_of(check, seed)]
        assert sum(map(len, sides)) == len(set().union(*sides)) == 20 + 10


@pytest.mark.parametrize("seed", range(3))
def test_a_group_of_two_labels_stays_whole_and_empties_neither(seed):
    mixed = [("", "bo", 500, "a"), ("", "_other", 500, "b")]
    check = check_of(*bursts("bo", 6, first=0), *bursts("_other", 6, first=100), *mixed)
    parts = parts_of(check, seed)
    assert not torn_groups(check, parts)
    assert all(set(labels_of(check, part)) == {"bo", "_other"} for part in (parts[0], parts[2]))


def test_folds_hold_each_photo_once_with_labels_even_and_groups_whole():
    parts = folds(DRAWN, range(len(DRAWN.facts)), k=5, seed=0)
    assert sorted(i for part in parts for i in part) == list(range(len(DRAWN.facts)))
    assert not torn_groups(DRAWN, parts)
    for label, count in labels_of(DRAWN, range(len(DRAWN.facts))).items():
        shares = [labels_of(DRAWN, part)[label] for part in parts]
        assert max(shares) - min(shares) <= 3, (label, shares)
        assert max(shares) < count
    assert parts == folds(DRAWN, range(len(DRAWN.facts)), k=5, seed=0)


def test_folds_that_cannot_be_made_are_refused():
    check = check_of(*bursts("bo", 6, first=0), *bursts("_other", 6, first=100))
    with pytest.raises(PhotosError, match="2 to 4 folds"):
        folds(check, range(12), k=5, seed=0)
    with pytest.raises(PhotosError, match="two different photos of each label; too few: _other"):
        folds(check, range(7), k=2, seed=0)


@pytest.mark.parametrize(("rows", "unreadable", "words"), [
    ([*photos("", "bo", [0, 1, 2]), ("", "_other", 3, "x")], (), r"at least 2 photos that differ.*_other \(1\)"),
    ([*photos("", "bo", [0, 1, 2]), ("", "_other", 3, "x"), ("", "_other", 3, "x")], (), r"_other \(1\)"),
    (photos("", "bo", [0, 1, 2]), (("", "_other"),), "no readable photo is left to train on for _other.*it is broken"),
    ([*photos("train", "bo", [0, 1]), *photos("train", "_other", [2, 3]), *photos("valid", "rex", [4])], (), "train lacks: rex"),
    ([*photos("train", "bo", [0, 1]), *photos("train", "_other", [2, 3]), *photos("valid", "bo", [4])], (),
     "no readable photo is left to hold out for _other"),
    ([("train", "bo", 0, "x"), *photos("train", "_other", [2, 3]), ("valid", "bo", 0, "x"), ("valid", "_other", 5, "y")], (),
     "copies of held-out"),
])
def test_what_cannot_be_split_is_refused_with_a_reason(rows, unreadable, words):
    with pytest.raises(PhotosError, match=words):
        split(check_of(*rows, unreadable=unreadable), seed=0)
