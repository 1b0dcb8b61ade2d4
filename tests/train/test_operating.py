from __future__ import annotations

import json

import numpy as np
import pytest

from pawlatch.card import InputSpec, ModelCard
from pawlatch_train.calibrate import softmax
from pawlatch_train.operating import HIGHEST_THRESHOLD, LEAST_THRESHOLD, choose_threshold, cross_fitted, measure, photos_needed

LABELS = ("초코", "leo", "_other", "_empty")
CHOCO, LEO, OTHER, EMPTY = range(4)


def rows(*pairs):
    """Scores (n, 4) and targets (n,) from (target, score of 초코): the rest is _other's."""
    own = np.array([score for _, score in pairs])
    return np.column_stack([own, 0 * own, 1 - own, 0 * own]), np.array([target for target, _ in pairs])


def chosen(*pairs, rate=0.01, groups=None, unlock=(CHOCO,)):
    scores, targets = rows(*pairs)
    return choose_threshold(scores, targets, labels=LABELS, unlock=unlock, max_false_unlock=rate, groups=groups)


def measured(*pairs, threshold=0.8, groups=None, unlock=(CHOCO,), chosen_on="choose", rate=0.01):
    scores, targets = rows(*pairs)
    return measure(scores, targets, labels=LABELS, unlock=unlock, threshold=threshold, max_false_unlock=rate, chosen_on=chosen_on,
                   groups=groups)


def test_the_threshold_lies_just_above_the_most_confident_stranger():
    threshold = chosen((OTHER, 0.9), (OTHER, 0.1), (CHOCO, 0.99))
    assert threshold == 231 / 256 > 0.9
    assert 230 / 256 <= 0.9


def test_a_score_on_the_grid_does_not_open():
    assert chosen((OTHER, 230 / 256)) == 231 / 256


def test_it_is_never_lower_than_the_least_nor_higher_than_an_int8_softmax_can_say():
    assert chosen((OTHER, 0.2)) == LEAST_THRESHOLD >= 0.8
    assert chosen((CHOCO, 0.9)) == LEAST_THRESHOLD
    assert chosen((OTHER, 0.9999)) == HIGHEST_THRESHOLD == 255 / 256


def test_the_rate_allows_some_and_not_one_more():
    strangers = [(OTHER, 0.80 + i / 1000) for i in range(100)]
    for rate, allowed in ((0.01, 1), (0.05, 5), (0.005, 0)):
        threshold = chosen(*strangers, rate=rate)
        let_in = measured(*strangers, threshold=threshold).false_unlocks
        assert let_in <= allowed
        assert measured(*strangers, threshold=threshold - 2 / 256).false_unlocks > allowed


def test_near_duplicates_of_one_stranger_count_once():
    strangers = [(OTHER, 0.95)] * 10 + [(OTHER, 0.5)] * 90
    once = np.array([0] * 10 + list(range(1, 91)))
    assert chosen(*strangers, rate=0.02) > 0.95  # ten of a hundred
    assert chosen(*strangers, rate=0.02, groups=once) == LEAST_THRESHOLD  # one of ninety-one


def test_nobodys_photos_are_no_strangers():
    assert chosen((EMPTY, 0.95), (OTHER, 0.1)) == LEAST_THRESHOLD
    assert measured((EMPTY, 0.95), (OTHER, 0.1)).strangers_n == 1


def test_none_of_120_is_at_most_2_5_percent():
    point = measured(*[(OTHER, 0.1)] * 120, *[(CHOCO, 0.95)] * 40)
    assert (point.false_unlocks, point.strangers_n, point.own_n) == (0, 120, 40)
    assert point.false_unlock_upper_95 == pytest.approx(1 - 0.05 ** (1 / 120))
    assert "strangers let in: 0 of 120: at most 2.5 %" in point.sentences[1]
    assert point.sentences[-1].startswith("too few photos to promise 1.0%: 120 different photos of strangers were counted, and 299")


def test_groups_are_what_n_counts():
    pairs = [(OTHER, 0.1), (OTHER, 0.9), (OTHER, 0.1), (CHOCO, 0.9), (CHOCO, 0.1), (CHOCO, 0.9), (CHOCO, 0.9), (CHOCO, 0.1)]
    point = measured(*pairs, groups=np.array([0, 0, 1, 2, 2, 3, 3, 3]))
    assert (point.false_unlocks, point.strangers_n) == (1, 2)  # any photo of a stranger opens
    assert (point.lock_outs, point.own_n) == (1, 2)  # half refused is refused, a third is not
    assert (point.false_unlock_rate, point.lock_out_rate) == (0.5, 0.5)


def test_what_was_chosen_on_the_same_photos_has_no_bound():
    point = measured(*[(OTHER, 0.1)] * 400, *[(CHOCO, 0.95)] * 40, chosen_on="these photos")
    assert (point.false_unlock_upper_95, point.lock_out_upper_95, point.is_bounded) == (None, None, False)
    assert "selected on these photos, no bound" in point.sentences[-1]
    assert "at most" not in " ".join(point.sentences)
    held = measured(*[(OTHER, 0.1)] * 400, *[(CHOCO, 0.95)] * 40)
    assert "no bound" not in " ".join(held.sentences)
    assert held.sentences[1].endswith("own animals refused: 0 of 40: at most 7.2 %")


def test_without_strangers_nothing_is_promised():
    point = measured((CHOCO, 0.9))
    assert (point.strangers_n, point.false_unlock_upper_95) == (0, None)
    assert np.isnan(point.false_unlock_rate)
    assert "nothing can be promised" in point.sentences[-1]


def test_a_rate_that_is_not_held_is_said():
    assert "more strangers open" in measured(*[(OTHER, 0.9)] * 3, *[(OTHER, 0.1)] * 7).sentences[-1]


def test_two_of_the_house_share_one_threshold_and_are_counted_each():
    scores = np.array([[0.5, 0.45, 0.05, 0], [0.1, 0.3, 0.6, 0], [0.0, 0.0, 1.0, 0]])
    point = measure(scores, np.array([CHOCO, LEO, OTHER]), labels=LABELS, unlock=(CHOCO, LEO), threshold=0.8, max_false_unlock=0.01,
                    chosen_on="choose")
    assert (point.false_unlocks, point.strangers_n, point.lock_outs, point.own_n) == (0, 1, 1, 2)
    assert {label: (one.lock_outs, one.n) for label, one in point.by_label.items()} == {"초코": (0, 1), "leo": (1, 1)}
    assert "refused by label: 초코 0 of 1, leo 1 of 1" in point.sentences


def test_the_card_keeps_it():
    point = measured((OTHER, 0.1), (CHOCO, 0.9))
    kept = json.loads(json.dumps(point.for_card(), ensure_ascii=False))
    card = ModelCard("m", LABELS, InputSpec((32, 32)), unlock=("초코",), operating_points={"saved_model": kept})
    assert card.threshold("int8") == 0.8
    assert kept["sentences"] == point.sentences


@pytest.mark.parametrize(("unlock", "rate"), [((), 0.01), ((CHOCO,), 0.0), ((CHOCO,), 1.0)])
def test_impossible_demands_are_refused(unlock, rate):
    with pytest.raises(ValueError, match="between 0 and 1"):
        measured((OTHER, 0.1), unlock=unlock, rate=rate)


def test_photos_needed_is_where_the_bound_meets_the_rate():
    assert photos_needed(0.01) == 299
    for rate in (0.01, 0.05, 0.3):
        n = photos_needed(rate)
        assert 1 - 0.05 ** (1 / n) <= rate < 1 - 0.05 ** (1 / (n - 1))


def spoken(n=300, *, noise=2.5):
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, n)
    return np.eye(3)[targets] * 6 + rng.normal(0, noise, (n, 3)), targets, np.arange(n) % 5


def crossed(logits, targets, folds, **more):
    return cross_fitted(logits, targets, folds, labels=("own", "a", "b"), unlock=(0,), **more)


def test_no_fold_chooses_what_it_is_measured_by():
    """One confident stranger: the threshold of its own fold comes from the others, that of the model has seen it."""
    logits, targets, folds = spoken(noise=1.0)
    calm = crossed(logits, targets, folds).point
    stranger = int(np.flatnonzero((targets == 1) & (folds == 2))[0])
    logits[stranger] = [3.5, 0.0, 0.0]
    point = crossed(logits, targets, folds, max_false_unlock=1e-6).point
    assert (calm.false_unlocks, point.false_unlocks, point.chosen_on) == (0, 1, "folds")
    assert point.threshold > calm.threshold == LEAST_THRESHOLD
    scores, asked = softmax(logits), {"labels": ("own", "a", "b"), "unlock": (0,), "max_false_unlock": 1e-6}
    flattering = measure(scores, targets, threshold=choose_threshold(scores, targets, **asked), chosen_on="these photos", **asked)
    assert (flattering.false_unlocks, flattering.false_unlock_upper_95) == (0, None)  # which is why it has no bound


def test_each_folds_scores_are_calibrated_by_the_others():
    logits, targets, folds = spoken()
    before = crossed(logits, targets, folds)
    logits[folds == 3] *= 3
    after = crossed(logits, targets, folds)
    here = folds == 3
    assert after.scores[here] == pytest.approx(softmax(np.log(before.scores[here]) * 3))  # the temperature did not notice
    assert after.temperature > before.temperature


def test_without_unlock_labels_there_is_no_point():
    logits, targets, folds = spoken(60)
    assert cross_fitted(logits, targets, folds, labels=("own", "a", "b")).point is None


def test_folds_must_be_folds():
    logits, targets, folds = spoken(60)
    with pytest.raises(ValueError, match="two folds"):
        crossed(logits, targets, np.zeros(60, int))
    with pytest.raises(ValueError, match="near-duplicates"):
        crossed(logits, targets, folds, groups=np.arange(60) // 2)
