from __future__ import annotations

import pytest

from pawlatch.classify import Classifier
from pawlatch.decide import Verdict
from pawlatch.errors import CameraError
from pawlatch.latch import LOCKED, UNLOCKED
from pawlatch.replay import replay_clip
from pawlatch.visit import KEPT_OBSERVATIONS, VISIT_GAP_S, Visits

NO = Verdict(False, "other", 0.9, "other 0.90: not a label that unlocks")
YES = Verdict(True, "own", 0.9, "3 of 3 frames")


def test_three_seconds_without_end_a_visit(seen):
    visits = Visits()
    for time_s in (1.0, 1.5, 2.0):
        visits.add(seen(time_s, other=0.9), NO, time_s)
    assert visits.ended(2.0 + VISIT_GAP_S - 0.01) is None
    visit = visits.ended(2.0 + VISIT_GAP_S)
    assert visit is not None
    assert (visit.start_s, visit.end_s, visit.frames) == (1.0, 2.0, 3)
    assert (visit.label, visit.unlocked, visit.time_to_unlock_s, visit.reason) == ("other", False, None, NO.reason)
    assert visits.ended(60.0) is None


def test_a_visit_remembers_its_first_unlock(seen):
    visits = Visits()
    for time_s, verdict in ((1.0, NO), (1.2, YES), (1.4, YES), (1.6, NO)):
        visits.add(seen(time_s, own=0.9), verdict, time_s)
    visit = visits.finish()
    assert visit is not None
    assert visit.unlocked
    assert visit.time_to_unlock_s == pytest.approx(0.2)
    assert visit.reason == YES.reason


def test_the_label_is_the_best_mean_and_never_the_empty_place(seen):
    visits = Visits()
    for time_s, own, other in ((0.0, 0.46, 0.10), (0.1, 0.10, 0.46), (0.2, 0.10, 0.46)):  # 0.44 is the empty place's
        visits.add(seen(time_s, own=own, other=other), NO, time_s)
    visit = visits.finish()
    assert visit is not None
    assert (visit.label, visit.score) == ("other", pytest.approx(1.02 / 3))


def test_frames_of_the_empty_place_and_flickers_are_no_visit(seen):
    visits = Visits()
    visits.add(seen(0.0), NO, 0.0)
    assert visits.current is None
    visits.add(seen(1.0, other=0.9), NO, 1.0)
    assert visits.ended(10.0) is None
    assert visits.current is None


def test_a_long_visit_does_not_grow(seen):
    visits = Visits()
    for index in range(1000):
        visits.add(seen(index / 10, other=0.9), NO, index / 10)
    visit = visits.finish()
    assert visit is not None
    assert (visit.frames, len(visit.observations)) == (1000, KEPT_OBSERVATIONS)
    assert visit.score == pytest.approx(0.9)


@pytest.fixture
def classifier(tiny_bundle):
    return Classifier(tiny_bundle)


def test_opens_for_the_own_animal_only(classifier, draw_clip):
    clip = draw_clip("day", [(1, None), (2, "own"), (4, None), (2, "other"), (1, None)])
    replayed = replay_clip(classifier, clip)
    own, other = replayed.visits
    assert (own.label, own.unlocked, own.start_s, own.end_s) == ("own", True, 1.0, 2.9)
    assert own.time_to_unlock_s == pytest.approx(0.2)
    assert (other.label, other.unlocked, other.time_to_unlock_s) == ("other", False, None)
    assert "not a label that unlocks" in other.reason
    assert [state for _, state in replayed.moves] == [LOCKED, UNLOCKED, LOCKED]
    assert replayed.moves[1][0] == pytest.approx(1.2)


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
    assert [step.frame.index for step in steps if step.opened] == [12]
    assert steps[5].prediction is steps[5].verdict is None
    assert steps[5].gate.reason == "nothing moves"


def test_a_scene_and_a_missing_clip(classifier):
    assert replay_clip(classifier, "scene:empty?fps=2").visits == ()
    with pytest.raises(CameraError, match="there is no"):
        replay_clip(classifier, "absent.mp4")
