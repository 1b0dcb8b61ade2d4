from __future__ import annotations

import pytest

from pawlatch.classify import Classifier
from pawlatch.decide import Consensus
from pawlatch.errors import CameraError
from pawlatch.latch import LOCKED, UNLOCKED
from pawlatch.replay import classify_clip, replay_clip, unlocks


@pytest.fixture
def classifier(tiny_bundle):
    return Classifier(tiny_bundle)


def test_opens_for_the_own_animal_only(classifier, draw_clip):
    clip = draw_clip("day", [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)])
    replayed = replay_clip(classifier, clip)
    own, other = replayed.visits
    assert (own.label, own.unlocked, own.start_s, own.end_s) == ("own", True, 1.0, 2.9)
    assert own.time_to_unlock_s == pytest.approx(0.1)  # two frames that are as sure as can be
    assert (other.label, other.unlocked, other.time_to_unlock_s) == ("other", False, None)
    assert "not a label that unlocks" in other.reason
    assert [state for _, state in replayed.moves] == [LOCKED, UNLOCKED, LOCKED]
    assert replayed.moves[1][0] == pytest.approx(1.1)


def test_a_policy_of_ones_own_decides(classifier, draw_clip):
    clip = draw_clip("day", [(1, None), (2, "own"), (1, None)])
    own, = replay_clip(classifier, clip, policy=Consensus(("own",), 0.8)).visits
    assert own.time_to_unlock_s == pytest.approx(0.2)
    assert own.reason.startswith("3 of 3 frames")


def test_a_clip_is_classified_once_for_every_policy(classifier, draw_clip):
    take = classify_clip(classifier, draw_clip("day", [(1, None), (1, "own"), (4, None), (1, "other"), (1, None)]))
    assert take.frames == 80
    assert {seen.prediction.label for seen in take.observations} >= {"own", "other"}
    consensus = unlocks(Consensus(("own",), 0.8), take.observations)
    assert (consensus[0], consensus[-1]) == (pytest.approx(1.2), pytest.approx(1.9))
    assert unlocks(Consensus(("own",), 0.8, min_frames=12), take.observations) == []


def test_a_clip_that_ends_with_the_door_open_locks_it(classifier, draw_clip):
    replayed = replay_clip(classifier, draw_clip("short", [(1, "own")]))
    assert [state for _, state in replayed.moves] == [LOCKED, UNLOCKED, LOCKED]
    assert [visit.unlocked for visit in replayed.visits] == [True]


def test_replay_is_the_same_every_time(classifier, draw_clip):
    clip = draw_clip("day", [(0.5, None), (2, "own"), (3.5, None), (1, "other")])
    first, second = replay_clip(classifier, clip), replay_clip(classifier, clip)
    assert first.moves == second.moves
    assert [(v.start_s, v.end_s, v.score, v.reason) for v in first.visits] == [
        (v.start_s, v.end_s, v.score, v.reason) for v in second.visits]


def test_steps_come_for_every_frame_and_tell_of_the_unlock_once(classifier, draw_clip):
    steps = []
    replay_clip(classifier, draw_clip("own", [(1, None), (2, "own")]), on_step=steps.append)
    assert [step.frame.index for step in steps] == list(range(30))
    assert [step.frame.index for step in steps if step.opened] == [11]
    assert steps[5].prediction is steps[5].verdict is None
    assert steps[5].gate.reason == "nothing moves"


def test_a_scene_and_a_missing_clip(classifier):
    assert replay_clip(classifier, "scene:empty?fps=2").visits == ()
    with pytest.raises(CameraError, match="there is no"):
        replay_clip(classifier, "absent.mp4")
