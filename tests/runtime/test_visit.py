from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pawlatch.album import CROP_PX, MOST, PICTURE_PX, Album
from pawlatch.camera import Frame
from pawlatch.classify import Prediction
from pawlatch.decide import Observation, Verdict
from pawlatch.gate import GateResult, Refusal
from pawlatch.visit import KEPT_FRAMES, PINNED_FRAMES, VISIT_GAP_S, Visits

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


def test_a_long_visit_keeps_its_bounds_and_what_decided(seen):
    visits = Visits()
    for index in range(5000):
        visits.add(seen(index / 10, other=0.9), YES if index == 1000 else NO, index / 10)
        assert len(visits.current.kept) <= KEPT_FRAMES
    visit = visits.finish()
    numbers = [frame.number for frame in visit.kept]
    assert (visit.frames, visit.score) == (5000, pytest.approx(0.9))
    assert numbers == sorted(numbers)
    assert set(numbers) >= {*range(PINNED_FRAMES), *range(1000 - PINNED_FRAMES, 1001), 4999}
    assert max(np.diff(numbers)) > 1  # and their numbers say that some are missing


def test_refused_frames_and_the_empty_place_in_between_are_kept_and_what_follows_is_not(seen):
    visits = Visits()
    blurred = GateResult(True, 0.2, "blurred: 0.02", refusal=Refusal.BLURRED)
    visits.refused(0.5, blurred)  # before it came: nobody's
    visits.add(seen(1.0, other=0.9), NO, 1.0)
    visits.refused(1.1, blurred)
    visits.add(seen(1.2), NO, 1.2)
    visits.add(seen(1.3, other=0.9), NO, 1.3)
    visits.add(seen(1.4), NO, 1.4)
    visits.refused(1.5, GateResult(False, 0.0, "nothing moves", refusal=Refusal.NOTHING))
    visit = visits.finish()
    assert [(frame.number, frame.time_s, frame.refusal) for frame in visit.kept] == [
        (0, 1.0, ""), (1, 1.1, "blurred"), (2, 1.2, ""), (3, 1.3, "")]
    assert (visit.frames, len(visit.observations)) == (2, 3)


@pytest.mark.parametrize(("labels", "features"), [(("own", "_empty"), 4), (("own", "other", "_empty"), 8)])
def test_another_models_predictions_cut_the_visit(seen, labels, features):
    visits = Visits()
    for time_s in (1.0, 1.1):
        visits.add(seen(time_s, other=0.9), NO, time_s)
    scores = np.array([0.9, *([0.1 / (len(labels) - 1)] * (len(labels) - 1))], np.float32)
    swapped = Prediction(labels, scores, np.zeros(features, np.float32))
    for time_s in (1.2, 1.3):
        visits.add(Observation(time_s, swapped), NO, time_s)
    cut = visits.ended(1.3)
    assert cut is not None
    assert (cut.label, cut.frames) == ("other", 2)
    assert visits.ended(1.3) is None
    assert visits.finish().label == "own"


def test_pictures_are_spread_over_the_visit_and_hold_what_decided(stay):
    visit = stay(10.0, own=0.9, frames=100, unlock_at=37)
    times = [shot.time_s for shot in visit.shots]
    assert 5 <= len(times) <= MOST
    assert times == sorted(set(times))
    assert {visit.start_s, visit.end_s, 13.7} <= {round(time_s, 6) for time_s in times}
    assert max(np.diff(times)) <= 2.0
    kept = {seen.time_s for seen in visit.observations}
    assert kept.issuperset(times)


def test_the_best_moment_is_kept(seen):
    album = Album()
    for index, score in enumerate((0.5, 0.6, 0.95, 0.7, 0.6)):
        image = np.full((1080, 1920, 3), index, np.uint8)
        album.add(Frame(index, image, index), np.zeros((8, 8, 3), np.uint8), time_s=index, score=score,
                  box_yxyx=(-20, 0, 700, 700), unlocks=False)
        image[:] = 255  # a camera may use its memory again
    assert (album.best_s, int(album.best_bgr.max())) == (2, 2)
    assert max(album.best_bgr.shape) == PICTURE_PX
    assert all(max(shot.crop_bgr.shape) <= CROP_PX and shot.crop_bgr.max() < 255 for shot in album.shots if shot.crop_bgr is not None)


def test_a_visit_before_a_big_camera_stays_below_ten_megabytes(seen):
    visits = Visits()
    frame = Frame(0.0, np.zeros((1080, 1920, 3), np.uint8), 0)
    for index in range(1200):
        said = seen(index / 15, other=0.5 + index / 3000)
        said = replace(said, prediction=replace(said.prediction, embedding=np.zeros(1280, np.float32)))
        visits.add(said, NO, index / 15, frame=frame, fitted=np.zeros((224, 224, 3), np.uint8),
                   gate=GateResult(True, 0.2, "moved", (0, 0, 1000, 1000)))
    visit = visits.finish()
    pictures = [shot.fitted_rgb for shot in visit.shots] + [shot.crop_bgr for shot in visit.shots if shot.crop_bgr is not None]
    held = sum(array.nbytes for array in [*pictures, visit.best_bgr, *(seen.prediction.embedding for seen in visit.observations)])
    assert held < 10e6
