from __future__ import annotations

import numpy as np
import pytest

from pawlatch.camera import Frame, clip_frames
from pawlatch.gate import Gate

RNG = np.random.default_rng(0)
PORCH = np.kron(RNG.integers(40, 200, (12, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)  # 240×320


def look(gate, image, time_s):
    return gate(Frame(time_s, np.clip(image, 0, 255).astype(np.uint8), 0))


def test_the_first_frame_counts_as_moved():
    assert look(Gate(), PORCH, 0.0).moved


def test_noise_and_flicker_are_not_motion():
    gate = Gate()
    look(gate, PORCH, 0.0)
    for index in range(1, 40):
        flicker = 1 + 0.06 * np.sin(index)
        result = look(gate, PORCH * flicker + RNG.normal(0, 10, PORCH.shape), index / 10)
        assert not result.moved, result


def test_an_animal_is_motion_while_it_stays_and_not_once_it_left():
    gate = Gate()
    look(gate, PORCH, 0.0)
    cat = PORCH.copy()
    cat[150:200, 100:160] = 20
    stay = [look(gate, cat, 1 + index / 10) for index in range(50)]
    assert all(result.moved for result in stay)
    assert stay[0].reason.endswith("of the picture moved")
    look(gate, PORCH, 6.1)
    assert not look(gate, PORCH, 6.2).moved


def test_what_stands_for_minutes_becomes_background():
    gate = Gate()
    look(gate, PORCH, 0.0)
    chair = PORCH.copy()
    chair[100:200, 50:120] = 20
    results = [look(gate, chair, 1.0 + index) for index in range(600)]
    assert results[60].moved
    assert not results[-1].moved


@pytest.mark.parametrize(("image", "reason"), [(PORCH // 20, "too dark"), (np.full_like(PORCH, 200), "no signal")])
def test_a_picture_that_shows_nothing_is_refused_by_name(image, reason):
    gate = Gate()
    result = look(gate, image, 0.0)
    assert not result.moved
    assert result.reason.startswith(reason)
    assert look(gate, PORCH, 0.1).reason == "first frame"  # it taught the gate nothing


def test_real_clips_move(shared):
    gate = Gate()
    results = [gate(frame) for frame in clip_frames(shared / "data" / "clips" / "pomeranian.mp4")]
    assert np.mean([result.moved for result in results]) > 0.9
