from __future__ import annotations

import json
from dataclasses import replace
from math import exp, inf, log, nan

import numpy as np
import pytest

from pawlatch.card import InputSpec, ModelCard
from pawlatch.classify import Prediction
from pawlatch.decide import (
    Consensus,
    DecisionOptions,
    Evidence,
    Observation,
    Single,
    policy_from_card,
    policy_from_json,
    policy_to_json,
)
from pawlatch.errors import ConfigError
from pawlatch.evidence import MEMORY_S, SUREST, trained_prior
from pawlatch.verdict import Veto

LABELS = ("own", "other", "_empty")
POLICY = Evidence(("own",), 0.8)


def frame(time_s, own, *, empty=0.0, look=0, stranger=None, infrared=False):
    """An observation; frames of another `look` have an embedding at a right angle."""
    embedding = np.zeros(8, np.float32)
    embedding[look] = 1.0
    scores = np.array([own, 1 - own - empty, empty], np.float32)
    return Observation(time_s, Prediction(LABELS, scores, embedding, stranger), infrared)


def different(own, count, *, start_s=0.0, **how):
    """Frames a tenth of a second apart, none like the one before."""
    return [frame(start_s + i / 10, own, look=i % 8, **how) for i in range(count)]


def judged(frames, policy=POLICY):
    return policy.decide(frames, frames[-1].time_s)


def logit(p):
    return log(p / (1 - p))


# ------------------------------------------------------------------------------------------------------------ the formula


def test_the_bounds_are_walds():
    policy = replace(POLICY, false_unlock=0.01, miss=0.05)
    assert policy.upper == pytest.approx(log(0.95 / 0.01))
    assert policy.lower == pytest.approx(log(0.05 / 0.99))


def test_a_frame_adds_its_odds_less_the_prior_odds():
    one = frame(0.0, 0.9, empty=0.04)
    policy = replace(POLICY, prior=0.75)
    (weighed,) = policy.weigh([one])
    assert weighed.ratio == pytest.approx(0.96 * (logit(0.9 / 0.96) - logit(0.75)), abs=1e-6)
    assert weighed.evidence == weighed.ratio


@pytest.mark.parametrize(("own", "ratio"), [(1.0, SUREST), (0.0, -SUREST)])
def test_zero_and_one_of_an_int8_softmax_are_half_a_step_from_it(own, ratio):
    (weighed,) = POLICY.weigh([frame(0.0, own)])
    assert weighed.ratio == pytest.approx(ratio)
    assert pytest.approx(logit(511 / 512)) == SUREST


def test_the_empty_place_speaks_for_neither():
    assert judged([frame(i / 10, 0.1, empty=0.9) for i in range(20)]).used == 0
    (weighed,) = POLICY.weigh([frame(0.0, 0.5, empty=0.5 - 1e-6)])  # all of the animal is own, but there is half an animal
    assert weighed.ratio == pytest.approx(0.5 * SUREST, rel=1e-4)


def test_a_like_frame_counts_less_the_sooner_it_comes():
    correlation = exp(-0.1 / MEMORY_S)
    first, second = POLICY.weigh([frame(0.0, 0.9), frame(0.1, 0.9)])
    kept = first.evidence * 2 ** (-0.1 / POLICY.half_life_s)
    assert second.correlation == pytest.approx(correlation)
    assert second.evidence == pytest.approx(kept + second.ratio * (1 - correlation) / (1 + correlation))
    *_, unlike = POLICY.weigh([frame(0.0, 0.9), frame(0.1, 0.9, look=1)])
    *_, later = POLICY.weigh([frame(0.0, 0.9), frame(0.9, 0.9)])
    assert unlike.evidence == pytest.approx(kept + second.ratio)
    assert later.evidence - first.evidence * 2 ** (-0.9 / POLICY.half_life_s) > 5 * (second.evidence - kept)


def test_frames_ten_times_as_often_are_not_ten_times_the_evidence():
    slow = [frame(i / 10, 0.9) for i in range(9)]
    fast = [frame(i / 100, 0.9) for i in range(81)]
    slowly, fastly = (POLICY.weigh(frames)[-1].evidence for frames in (slow, fast))
    assert fastly == pytest.approx(slowly, rel=0.1)


def test_evidence_halves_in_its_half_life():
    policy = replace(POLICY, half_life_s=0.5)
    first, _, third = policy.weigh([frame(0.0, 0.9), frame(0.5, 0.5, look=1), frame(1.0, 0.5, look=2)])
    assert third.evidence == pytest.approx(first.evidence / 4, abs=1e-6)


def test_a_doubt_is_no_head_start():
    *_, after_doubt = POLICY.weigh([frame(0.0, 0.05), frame(0.1, 0.9)])
    *_, after_half = POLICY.weigh([frame(0.0, 0.5), frame(0.1, 0.9)])
    assert after_doubt.evidence < after_half.evidence


@pytest.mark.parametrize(("strangeness", "against"), [(0.0, 0.0), (0.8, 0.0), (1.0, SUREST / 2), (1.2, SUREST), (1.6, 2 * SUREST),
                                                      (9.0, 2 * SUREST), (nan, 2 * SUREST), (inf, 2 * SUREST)])
def test_a_strange_embedding_speaks_against_it_by_degrees(strangeness, against):
    policy = replace(POLICY, strange_from=0.5)
    (weighed,) = policy.weigh([frame(0.0, 0.9, stranger=0.5 * strangeness)])
    assert weighed.ratio == pytest.approx(logit(0.9) - against, abs=1e-5)


def test_it_keeps_its_errors_where_its_scores_are_calibrated():
    """Independent frames whose ratio is N(±d²/2, d²), as calibrated scores have it, until one of the bounds."""
    rng = np.random.default_rng(0)
    policy = Evidence(("own",), 0.5, false_unlock=0.05, miss=0.05, half_life_s=1e9)
    opened = dict.fromkeys((True, False), 0)
    for own in opened:
        for _ in range(400):
            ratios = rng.normal(0.5 if own else -0.5, 1.0, 60)  # d = 1
            frames = [frame(i / 10, float(p), look=i % 8) for i, p in enumerate(1 / (1 + np.exp(-ratios)))]
            ends = next((w.evidence > 0 for w in policy.weigh(frames) if w.evidence in (policy.upper, policy.lower)), False)
            opened[own] += ends
    assert 1 - opened[True] / 400 < 0.06
    assert opened[False] / 400 < 0.06


# -------------------------------------------------------------------------------------------------------- what it refuses


def test_it_opens_for_frames_that_agree():
    frames = different(0.95, 6)
    verdict = judged(frames)
    assert (verdict.unlock, verdict.label, verdict.policy) == (True, "own", "evidence")
    assert verdict.score == pytest.approx(0.95)
    assert verdict.evidence == verdict.needed == POLICY.upper
    assert (verdict.used, verdict.refused) == (6, 0)
    assert verdict.reason == "evidence 6.9 of 6.9 in 6 frames that say own"


def test_one_frame_never_opens_however_sure():
    policy = replace(POLICY, false_unlock=0.4, miss=0.4)
    assert policy.upper < SUREST
    verdict = judged([frame(0.0, 1.0)], policy)
    assert (verdict.unlock, verdict.reason) == (False, "1 of 2 frames that are needed say own")
    assert judged([frame(0.0, 1.0), frame(0.1, 1.0)], policy).unlock
    with pytest.raises(ConfigError, match="at least 2"):
        replace(POLICY, min_frames=1)


def test_a_contradiction_begins_it_anew():
    assert judged(different(0.95, 4)).unlock
    broken = [*different(0.95, 4), frame(0.4, 0.01, look=4), frame(0.5, 0.99, look=5)]
    assert judged(broken).reason == "1 of 2 frames that are needed say own since the last that contradicts"
    assert judged([*broken, frame(0.6, 0.99, look=6)]).evidence < 6
    assert judged([*broken, *different(0.99, 3, start_s=0.6)]).unlock


def test_a_break_begins_it_anew():
    before = different(0.95, 8)
    assert judged([*before, frame(1.6, 0.95, look=1)]).unlock
    after = judged([*before, frame(1.8, 0.95, look=1)])
    assert (after.unlock, after.evidence) == (False, pytest.approx(logit(0.95), rel=1e-4))


def test_stale_evidence_never_opens():
    frames = different(0.95, 8)
    assert POLICY.decide(frames, 1.7).unlock
    assert POLICY.decide(frames, 1.8).reason == "the newest frame is 1.1 s old: 1.0 s at most"
    assert not POLICY.decide(frames, 99.0).unlock
    assert not POLICY.decide(frames, -1.0).unlock  # frames of the future


def test_the_newest_frame_must_speak_for_it():
    sure = different(1.0, 12)
    assert judged([*sure, frame(1.2, 0.79, look=5)]).reason == "own 0.79: below 0.80"
    assert judged([*sure, frame(1.2, 0.1, look=5)]).reason == "other 0.90: not a label that unlocks"
    assert judged([*sure, frame(1.2, 0.0, empty=0.9)]).reason == "no animal in the newest frame"
    policy = replace(POLICY, strange_from=0.5)
    strange = judged([*sure, frame(1.2, 0.9, look=5, stranger=0.7)], policy)
    assert (strange.unlock, strange.reason) == (
        False, "own 0.90, but its features are strange: 0.70, usual up to 0.50")


def test_scores_that_are_no_numbers_never_open():
    assert not judged(different(nan, 20)).unlock
    assert not judged([*different(0.99, 20), frame(2.0, nan)]).unlock


def test_a_veto_shuts_for_a_while():
    labels = ("own", "prey", "_empty")
    policy = Evidence(("own",), 0.8, veto=Veto(("prey",), 0.3, 3.0))

    def seen(time_s, prey, look):
        return Observation(time_s, Prediction(labels, np.array([1 - prey, prey, 0], np.float32), frame(0, 0, look=look).prediction.embedding))

    before, prey = [seen(i / 10, 0.0, i) for i in range(4)], seen(0.4, 0.35, 5)
    assert judged(before, policy).unlock
    for later_s in (0.5, 3.0):
        verdict = judged([*before, prey, *(seen(later_s + i / 10, 0.0, i) for i in range(4))], policy)
        assert (verdict.unlock, verdict.reason[:9]) == (False, "prey 0.35")
    assert judged([*before, prey, *(seen(3.5 + i / 10, 0.0, i) for i in range(4))], policy).unlock


def test_infra_red_has_a_point_of_its_own():
    night = different(0.93, 4, infrared=True)
    assert not judged(night).unlock  # nothing measured: 0.90 and a temperature of 1.5
    assert judged(different(0.93, 4)).unlock
    assert judged(different(0.89, 30, infrared=True)).reason == "own 0.89: below 0.90 by infra-red light"
    assert judged(night, replace(POLICY, infrared=0.85, infrared_temperature=1.0)).unlock
    (weighed,) = POLICY.weigh(night[:1])
    assert weighed.ratio == pytest.approx(logit(0.93) / 1.5, abs=1e-5)


def test_an_earlier_stranger_is_no_evidence_for_the_next_animal():
    stranger = different(0.02, 10)
    verdict = judged([*stranger, *different(0.95, 3, start_s=1.0)])
    assert not verdict.unlock
    assert verdict.evidence < judged(different(0.95, 3)).evidence


# ------------------------------------------------------------------------------------------------ every verdict, at random


def random_frames(rng):
    times = np.sort(rng.uniform(0, 5, rng.integers(1, 60)))
    mood = rng.uniform(0.3, 1.0)
    return [frame(float(time), float(np.clip(rng.normal(mood, 0.15), 0, 1)) * (1 - empty), empty=empty, look=int(rng.integers(8)),
                  stranger=float(rng.uniform(0, 0.7)), infrared=bool(rng.random() < 0.2))
            for time in times for empty in [float(rng.choice([0.0, 0.1, 0.9], p=[0.7, 0.2, 0.1]))]]


def broken_promises(policy, frames, now_s):
    """What must hold of every unlock, from the frames alone."""
    if not policy.decide(frames, now_s).unlock:
        return []
    newest = frames[-1]
    recent = [seen for seen in frames if now_s - seen.time_s <= policy.window_s]
    speaking = [seen for seen in recent if seen.prediction.scores[0] >= (0.9 if seen.infrared else 0.8) - 1e-9]
    return [name for name, holds in {
        "fresh": 0 <= now_s - newest.time_s <= policy.fresh_s,
        "the newest speaks": newest in speaking,
        "two speak": len(speaking) >= 2,
        "not strange": newest.prediction.stranger < 1.2 * 0.5,
        "likelier than not": sum(max(-SUREST, logit(float(np.clip(s.prediction.scores[0] / (1 - s.prediction.scores[2]), 1e-6, 1 - 1e-6))))
                                 for s in recent if s.prediction.label != "_empty") > 0,
    }.items() if not holds]


def test_every_unlock_has_its_evidence():
    rng = np.random.default_rng(3)
    unlocks = 0
    for _ in range(600):
        frames = random_frames(rng)
        policy = Evidence(("own",), 0.8, strange_from=0.5, false_unlock=float(rng.uniform(0.001, 0.2)))
        now_s = frames[-1].time_s + float(rng.choice([0.0, 0.0, 0.5, 2.0]))
        assert broken_promises(policy, frames, now_s) == []
        unlocks += policy.decide(frames, now_s).unlock
    assert unlocks > 30  # or nothing was tested


class Trusting(Evidence):
    """Opens whenever its evidence is enough, whatever the newest frame shows."""

    def decide(self, observations, now_s):
        verdict = super().decide(observations, now_s)
        return replace(verdict, unlock=True)


def test_a_policy_that_opens_for_anything_is_noticed():
    rng = np.random.default_rng(3)
    policy = Trusting(("own",), 0.8, strange_from=0.5)
    found = {promise for _ in range(100) for frames in [random_frames(rng)]
             for promise in broken_promises(policy, frames, frames[-1].time_s + 2 * float(rng.random()))}
    assert found == {"fresh", "the newest speaks", "two speak", "not strange", "likelier than not"}


def test_the_same_frames_give_the_same_verdict_in_any_order_of_asking():
    frames = random_frames(np.random.default_rng(5))
    forward = [POLICY.decide(frames[: i + 1], seen.time_s) for i, seen in enumerate(frames)]
    fresh = replace(POLICY)
    backward = [fresh.decide(frames[: i + 1], frames[i].time_s) for i in reversed(range(len(frames)))]
    assert forward == backward[::-1]


def test_each_frame_is_looked_at_once():
    policy, frames = replace(POLICY), different(0.5, 60)
    for i in range(60):
        policy.decide(frames[: i + 1], frames[i].time_s)
    assert policy._step.cache_info().misses == 60


# ------------------------------------------------------------------------------------------------------------- from a card


CARD = ModelCard(
    "m", ("_empty", "_other", "cat", "own"), InputSpec((32, 32)), unlock=("own",),
    operating_points={"saved_model": {"threshold": 0.8, "infrared": {"threshold": 0.85, "temperature": 1.2}},
                      "int8": {"threshold": 0.9, "infrared": {"threshold": 0.95, "temperature": 1.3}}, "old": {"threshold": 0.7}},
    strangers={"saved_model": {"threshold": 0.4}, "int8": {"threshold": 0.5}},
    provenance={"recipe": {"class_weights": False},
                "splits": {"fit": ["own/1.jpg", "own/2.jpg", "own/3.jpg", "_other/1.jpg", "_empty/1.jpg"]}},
)


def test_evidence_is_the_default_with_what_was_measured_for_the_variant():
    policy = policy_from_card(CARD, "int8")
    assert policy == Evidence(("own",), 0.9, infrared=0.95, infrared_temperature=1.3, prior=0.75, strange_from=0.5)
    other = policy_from_card(CARD, "float16")
    assert (other.threshold, other.infrared, other.strange_from) == (0.8, 0.85, 0.4)
    unmeasured = policy_from_card(replace(CARD, operating_points={"int8": {"threshold": 0.9}}), "int8")
    assert (unmeasured.infrared, unmeasured.infrared_temperature) == (None, 1.5)


def test_options_go_before_the_card():
    options = DecisionOptions(threshold=0.6, infrared_threshold=0.7, false_unlock=0.01, miss=0.1, min_frames=4, window_s=3.0,
                              half_life_s=1.0, veto=("cat",), veto_s=5.0)
    assert policy_from_card(CARD, "int8", options) == Evidence(
        ("own",), 0.6, infrared=0.7, prior=0.75, strange_from=0.5, false_unlock=0.01, miss=0.1, min_frames=4, window_s=3.0,
        half_life_s=1.0, veto=Veto(("cat",), 0.5, 5.0))
    assert policy_from_card(CARD, "int8", replace(options, policy="single")) == Single(
        ("own",), 0.6, infrared=0.7, window_s=3.0, veto=Veto(("cat",), 0.5, 5.0))
    assert policy_from_card(CARD, "int8", DecisionOptions(policy="consensus")) == Consensus(("own",), 0.9, infrared=0.95)


@pytest.mark.parametrize("wrong", [
    {"policy": "guess"}, {"false_unlock": 0.0}, {"miss": 0.5}, {"threshold": 1.1}, {"infrared_threshold": 0.0}, {"share": 0.0},
    {"min_frames": 1}, {"min_frames": 0, "policy": "consensus"}, {"window_s": 0.5}, {"fresh_s": 3.0}, {"half_life_s": 0.0},
    {"half_life_s": nan}, {"veto_score": 2.0}, {"veto_s": -1.0}, {"false_unlock": nan},
])
def test_options_out_of_bounds_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DecisionOptions(**wrong)


@pytest.mark.parametrize("label", ["prey", "own"])
def test_a_veto_must_be_a_label_that_does_not_unlock(label):
    with pytest.raises(ConfigError, match="veto must name"):
        policy_from_card(CARD, "int8", DecisionOptions(veto=(label,)))


def test_the_prior_is_the_one_that_was_trained_with():
    labels, fit = ("_empty", "_other", "a", "b"), ["a/1", "a/2", "b/1", "_other/1", "_empty/1"]
    assert trained_prior(labels, ("a", "b"), {"recipe": {"class_weights": True}, "splits": {"fit": fit}}) == pytest.approx(2 / 3)
    assert trained_prior(labels, ("a", "b"), {"recipe": {"class_weights": False}, "splits": {"fit": fit}}) == pytest.approx(3 / 4)
    assert trained_prior(labels, ("a",), {"recipe": {"class_weights": True}}) == 0.5  # never less: a third would help it
    assert trained_prior(labels, ("a",), {}) == 0.5


@pytest.mark.parametrize("policy", [policy_from_card(CARD, "int8", DecisionOptions(policy=name, veto=("cat",)))
                                    for name in ("evidence", "consensus", "single")], ids=lambda policy: policy.name)
def test_a_policy_survives_the_journal(policy):
    assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy


@pytest.mark.parametrize("kept", [{}, {"name": "oracle"}, {"name": "single", "veto": {"labels": []}},
                                  {**policy_to_json(POLICY), "magic": 1}])
def test_a_policy_of_another_version_is_said_to_be_one(kept):
    with pytest.raises(ConfigError, match="name a --policy"):
        policy_from_json(kept)
