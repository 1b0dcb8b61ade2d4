from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pawlatch.card import InputSpec, ModelCard
from pawlatch.classify import Prediction
from pawlatch.decide import Consensus, Observation
from pawlatch.errors import ModelCardError

POLICY = Consensus(("own",), 0.8)


def test_three_agreeing_frames_unlock(seen):
    verdict = POLICY.decide([seen(t, own=0.9) for t in (0.0, 0.1, 0.2)], 0.2)
    assert verdict.unlock
    assert (verdict.label, verdict.reason) == ("own", "3 of 3 frames of the last 2.0 s say own at 0.80 or more")
    assert verdict.score == pytest.approx(0.9)


def test_two_are_not_enough(seen):
    verdict = POLICY.decide([seen(t, own=0.9) for t in (0.0, 0.1)], 0.1)
    assert not verdict.unlock
    assert verdict.reason == "2 of 2 frames of the last 2.0 s say own at 0.80 or more: 3 frames are needed"


def test_contradiction_keeps_it_shut(seen):
    strangers = [seen(t / 10, other=0.9) for t in range(3)]
    verdict = POLICY.decide([*strangers, *(seen(t / 10, own=0.9) for t in range(3, 6))], 0.5)
    assert (verdict.unlock, verdict.reason[:6], verdict.reason[-8:]) == (False, "3 of 6", "60% must")


def test_frames_of_the_empty_place_do_not_contradict(seen):
    empty = [seen(t / 10) for t in range(8)]
    assert POLICY.decide([*empty, *(seen(t / 10, own=0.9) for t in range(8, 11))], 1.0).unlock


def test_the_newest_frame_must_speak_for_it(seen):
    before = [seen(t / 10, own=0.9) for t in range(9)]
    assert POLICY.decide([*before, seen(0.9, other=0.93)], 0.9).reason == "other 0.93: not a label that unlocks"
    assert POLICY.decide([*before, seen(0.9, own=0.61)], 0.9).reason == "own 0.61: below 0.80"
    assert POLICY.decide([*before, seen(0.9)], 0.9).reason == "no animal in the newest frame"


def test_the_newest_frame_must_be_fresh(seen):
    frames = [seen(t / 10, own=0.9) for t in range(5)]
    assert POLICY.decide(frames, 1.4).unlock
    assert POLICY.decide(frames, 1.5).reason == "the newest frame is 1.1 s old: 1.0 s at most"
    assert POLICY.decide(frames, 9.0).reason == "nothing was seen in the last 2.0 s"


def test_frames_from_the_future_do_not_count(seen):
    assert not POLICY.decide([seen(t, own=0.9) for t in (5.0, 5.1, 5.2)], 1.0).unlock


def test_a_card_without_unlock_labels_arms_nothing(seen):
    policy = Consensus.from_card(ModelCard("m", ("own", "other", "_empty"), InputSpec((32, 32))), "int8")
    verdict = policy.decide([seen(t, own=1.0) for t in (0.0, 0.1, 0.2)], 0.2)
    assert (verdict.unlock, verdict.reason) == (False, "the card names no unlock label: the door cannot be armed")


def test_two_of_the_house_share_one_score():
    labels = ("초코", "leo", "_other")
    scores = np.array([0.45, 0.45, 0.1], np.float32)
    frames = [Observation(t / 10, Prediction(labels, scores, scores)) for t in range(3)]
    verdict = Consensus(("초코", "leo"), 0.8).decide(frames, 0.2)
    assert (verdict.unlock, verdict.label) == (True, "초코")
    assert "초코 or leo" in verdict.reason


def test_from_card_takes_the_variants_own_threshold():
    card = ModelCard("m", ("own", "_other"), InputSpec((32, 32)), unlock=("own",),
                     operating_points={"saved_model": {"threshold": 0.7}, "int8": {"threshold": 0.75}})
    assert Consensus.from_card(card, "int8").threshold == 0.75
    assert Consensus.from_card(card, "float32").threshold == 0.7
    with pytest.raises(ModelCardError, match="no operating point"):
        Consensus.from_card(replace(card, operating_points={}), "int8")


@pytest.mark.parametrize("threshold", [0.0, 1.5, float("nan")])
def test_a_threshold_that_decides_nothing_is_refused(threshold):
    with pytest.raises(ModelCardError, match="above 0 and at most 1"):
        Consensus(("own",), threshold)


def strange(observation):
    return replace(observation, prediction=replace(observation.prediction, stranger=0.4, is_stranger=True))


def test_a_stranger_the_model_takes_for_an_own_animal_stays_outside(seen):
    frames = [seen(t / 10, own=0.99) for t in range(5)]
    assert POLICY.decide(frames, 0.4).unlock
    verdict = POLICY.decide([strange(frame) for frame in frames], 0.4)
    assert (verdict.unlock, verdict.reason) == (False, "none of these: own 0.99, but its features are a stranger's")


def test_frames_of_a_stranger_contradict(seen):
    frames = [seen(t / 10, own=0.99) for t in range(6)]
    assert POLICY.decide([*map(strange, frames[:2]), *frames[2:]], 0.5).unlock
    verdict = POLICY.decide([*map(strange, frames[:3]), *frames[3:]], 0.5)
    assert (verdict.unlock, verdict.reason[:6]) == (False, "3 of 6")


def test_an_empty_place_is_said_before_a_stranger(seen):
    assert POLICY.decide([strange(seen(0.0))], 0.0).reason == "no animal in the newest frame"


def random_frames(rng, seen, *, highest_own):
    times = np.sort(rng.uniform(0, 4, rng.integers(0, 40)))
    rows = [(time, rng.uniform(0, highest_own)) for time in times]
    return [seen(float(time), own=own, other=float(rng.uniform(0, 1 - own))) for time, own in rows]


def test_never_unlocks_without_a_positive_frame(seen):
    rng = np.random.default_rng(0)
    for _ in range(500):
        assert not POLICY.decide(random_frames(rng, seen, highest_own=0.799), float(rng.uniform(0, 5))).unlock


def test_every_unlock_has_its_evidence(seen):
    rng = np.random.default_rng(1)
    unlocks = 0
    for _ in range(2000):
        frames = random_frames(rng, seen, highest_own=1.0)
        now_s = frames[-1].time_s if frames else 0.0
        policy = Consensus(("own",), float(rng.uniform(0.2, 0.8)), min_frames=int(rng.integers(1, 5)), share=0.6)
        if not policy.decide(frames, now_s).unlock:
            continue
        unlocks += 1
        window = [seen.prediction for seen in frames if now_s - seen.time_s <= policy.window_s]
        animals = [prediction for prediction in window if prediction.label != "_empty"]
        speaking = [prediction for prediction in animals if prediction.scores[0] >= policy.threshold]
        assert len(speaking) >= policy.min_frames
        assert len(speaking) >= 0.6 * len(animals)
        assert frames[-1].prediction.scores[0] >= policy.threshold
    assert unlocks > 50  # or nothing was tested
