from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs the train extra")

from pawlatch.card import read_card
from pawlatch.decide import Evidence, policy_from_card
from pawlatch_train.infrared import Lit, infrared_point, turned

LABELS = ("_empty", "_other", "own")


def pictures(count, *, own):
    """Own animals are bright, others dark; the empty place is between them."""
    rng = np.random.default_rng(0)
    targets = np.array([2 if i % 2 else 1 for i in range(count)])
    levels = np.where(targets == 2, own, 40)
    images = np.stack([np.full((32, 32, 3), level, np.uint8) + rng.integers(0, 20, (32, 32, 3), np.uint8) for level in levels])
    return Lit(images, targets, np.arange(count))


def by_brightness(images):
    """Calibrated scores of a model that goes by brightness."""
    own = 1 / (1 + np.exp(-(images.mean(axis=(1, 2, 3)) - 90) / 8))
    return np.stack([np.zeros(len(own)), 1 - own, own], axis=1)


HOW = {"labels": LABELS, "unlock": [2], "max_false_unlock": 0.01, "seed": 3}


def test_photos_turn_grey_and_grainy_and_the_same_each_time():
    colour = np.full((2, 48, 64, 3), (200, 120, 40), np.uint8)
    night = turned(colour, seed=1)
    assert night.shape == colour.shape
    assert np.array_equal(night[..., 0], night[..., 2])
    assert night[0].std() > 3
    assert not np.array_equal(night[0], night[1])
    assert np.array_equal(night, turned(colour, seed=1))
    assert not np.array_equal(night, turned(colour, seed=2))


def test_one_half_chooses_and_the_other_counts():
    point = infrared_point(pictures(80, own=220), pictures(40, own=220), by_brightness, **HOW)
    assert (point["chosen_on"], point["strangers_n"], point["own_n"]) == ("choose", 20, 20)
    assert 0.8 <= point["threshold"] < 1
    assert point["temperature"] >= 1
    assert (point["false_unlocks"], point["false_unlock_upper_95"]) == (0, pytest.approx(1 - 0.05 ** (1 / 20)))
    json.dumps(point)


def test_a_model_that_goes_blind_at_night_says_so():
    """By day it goes by brightness well; a lamp that leaves the own animal dark costs it the lock-outs that it must tell."""
    day = by_brightness(pictures(40, own=110).images)
    assert (day[1::2, 2] > 0.8).all()
    point = infrared_point(pictures(80, own=110), pictures(40, own=110), by_brightness, **HOW)
    assert point["lock_outs"] > 5


def test_photos_that_chose_promise_nothing():
    nobody = Lit(np.zeros((0, 32, 32, 3), np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))
    point = infrared_point(pictures(80, own=220), nobody, by_brightness, **HOW)
    assert (point["chosen_on"], point["false_unlock_upper_95"], point["lock_out_upper_95"]) == ("these photos", None, None)
    assert infrared_point(nobody, nobody, by_brightness, **HOW) == {}


@pytest.mark.slow
def test_the_card_holds_it_and_the_door_takes_it(trained):
    model, told = trained
    card = read_card(model)
    point = card.operating_points["saved_model"]["infrared"]
    assert point["sentence"] in told.stdout
    policy = policy_from_card(card, "saved_model")
    assert isinstance(policy, Evidence)
    assert (policy.infrared, policy.infrared_temperature) == (point["threshold"], point["temperature"])
