from __future__ import annotations

import numpy as np
import pytest

from pawlatch.calibration import expected_calibration_error, reliability
from pawlatch.stats import wilson_interval
from pawlatch_train.calibrate import fit_temperature, softmax


def spoken(n=4000, *, temperature=2.5, seed=0):
    """Logits whose scores are the very chances their targets were drawn by, and the same too sure of themselves."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 2, (n, 4))
    targets = np.array([rng.choice(4, p=chances) for chances in softmax(honest)])
    return honest * temperature, targets


def test_softmax_is_safe():
    assert softmax(np.array([[1e4, 0.0, -1e4]])).tolist() == [[1.0, 0.0, 0.0]]
    assert softmax(np.zeros((2, 4), np.float32)).dtype == np.float64


@pytest.mark.parametrize("temperature", [0.5, 2.5])
def test_the_temperature_of_overconfident_logits_is_found(temperature):
    logits, targets = spoken(temperature=temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.06)


def test_it_is_the_lowest_point_of_what_it_minimises():
    logits, targets = spoken(60)
    best = fit_temperature(logits, targets)

    def cost(t):
        chances = softmax(logits / t)[np.arange(60), targets]
        return -np.log(chances).sum() + np.log(t) ** 2 / (2 * 0.5**2)

    assert all(cost(best) <= cost(t) for t in np.geomspace(0.05, 20, 300))


def test_calibration_lowers_the_error_on_photos_that_chose_nothing():
    logits, targets = spoken(8000)
    chose, held = slice(0, 4000), slice(4000, None)
    t = fit_temperature(logits[chose], targets[chose])
    before, after = (expected_calibration_error(softmax(logits[held] / by), targets[held]) for by in (1.0, t))
    assert after < 0.03 < before


@pytest.mark.parametrize("n", [1, 5, 20, 200])
def test_all_right_does_not_run_to_the_bound(n):
    targets = np.arange(n) % 3
    t = fit_temperature(8.0 * np.eye(3)[targets], targets)
    assert 0.3 < t <= 1.0  # sure and right: a little surer, never certain


def test_all_wrong_does_not_run_to_the_bound_for_a_few():
    targets = np.arange(5) % 3
    assert 1.0 < fit_temperature(8.0 * np.eye(3)[(targets + 1) % 3], targets) < 20


def test_few_photos_stay_nearer_to_one():
    logits, targets = spoken(4000)
    few, many = fit_temperature(logits[:6], targets[:6]), fit_temperature(logits, targets)
    assert abs(np.log(few)) < abs(np.log(many))


def test_no_photos_and_equal_logits_change_nothing():
    assert fit_temperature(np.empty((0, 3)), np.empty(0, int)) == 1.0
    assert fit_temperature(np.zeros((9, 3)), np.zeros(9, int)) == pytest.approx(1.0, abs=1e-3)


def test_a_weight_counts_photos():
    logits, targets = spoken(40)
    twice = fit_temperature(np.repeat(logits, 2, axis=0), np.repeat(targets, 2))
    assert fit_temperature(logits, targets, weights=np.full(40, 2.0)) == pytest.approx(twice)


@pytest.mark.parametrize(("logits", "targets"), [(np.zeros((3, 2)), np.zeros(2, int)), (np.full((2, 2), np.nan), np.zeros(2, int))])
def test_what_does_not_belong_together_is_refused(logits, targets):
    with pytest.raises(ValueError, match="finite logits"):
        fit_temperature(logits, targets)


def test_the_error_by_hand():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    targets = np.array([0, 1, 1, 0])  # 0.9: one of two right; 0.6 and 0.5: right
    by_bin = reliability(scores, targets, bins=10)
    assert by_bin.photos.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 2, 0]
    assert by_bin.accuracy[8] == 0.5
    assert np.isnan(by_bin.confidence[0])
    assert expected_calibration_error(scores, targets, bins=10) == pytest.approx((2 * 0.4 + 0.4 + 0.5) / 4)


def test_the_share_that_was_right_has_an_interval_in_each_filled_bin():
    scores = np.array([[0.92, 0.08]] * 10 + [[0.35, 0.65]] * 4, np.float32)
    targets = np.array([0] * 9 + [1] + [1, 1, 0, 0])
    by_bin = reliability(scores, targets, bins=10)
    low, high = by_bin.intervals()
    assert by_bin.confidence[[6, 9]] == pytest.approx([0.65, 0.92], abs=1e-6)
    assert (low[6], high[6]) == wilson_interval(2, 4)
    assert (low[9], high[9]) == wilson_interval(9, 10)
    assert np.isfinite(low).sum() == np.isfinite(high).sum() == 2


def test_the_error_of_nothing_is_unknown():
    assert np.isnan(expected_calibration_error(np.empty((0, 3)), np.empty(0, int)))
