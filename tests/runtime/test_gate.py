"""The gate on a drawn porch that is played on frame by frame, and on real clips: what is worth a look, and where."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from pawlatch.camera import CameraState, Frame, clip_frames
from pawlatch.errors import ConfigError, ImageError
from pawlatch.gate import Gate, GateOptions, Refusal
from pawlatch.scene import LIGHTS, Scene

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


# ------------------------------------------------------------------------------------------------- a drawn porch


def holds(box, subject):
    return box[0] <= subject[0] and box[1] <= subject[1] and box[2] >= subject[2] and box[3] >= subject[3]


@pytest.mark.parametrize("light", LIGHTS)
def test_an_animal_that_sits_is_seen_and_held_for_minutes_and_gone_soon_after(stage, light):
    porch, gate = stage(light=light, fps=4), Gate()
    assert not any(result.moved for result in porch.play(gate, 6)[1:])
    stay = porch.play(gate, 100, ("cat", 0.4, 0.4, 1.0))
    assert all(result.worth for result in stay)
    boxes = [result.box_yxyx for result in stay[8:]]
    assert len(set(boxes)) <= 2  # steady
    top, left, bottom, right = boxes[-1]
    assert bottom - top == right - left <= 240
    assert holds(boxes[-1], (150, 100, 220, 150))  # its middle, well inside
    after = porch.play(gate, 4)
    assert not any(result.moved for result in after[8:])


def test_what_stays_is_not_looked_for_in_each_frame_and_a_change_is_seen_within_a_quarter_of_a_second(stage):
    looks = []

    class Counted(Gate):
        def _look(self, frame):
            looks.append(frame.time_s)
            return super()._look(frame)

    porch, gate = stage(), Counted()
    porch.play(gate, 4)
    assert len(looks) == 40  # of an empty porch every frame
    stay = porch.play(gate, 4, ("cat", 0.4, 0.4, 1.0))
    assert all(result.worth for result in stay)
    assert len(looks) <= 40 + 30
    hidden = [gate(porch.still(np.zeros((240, 320, 3), np.uint8))) for _ in range(4)]
    assert not hidden[3].worth


@pytest.mark.parametrize("light", LIGHTS)
def test_a_walking_animal_is_followed_and_never_cut(light):
    scene = Scene.parse(f"empty,own?light={light}&fps=8&size=0.3")
    gate, empty, before, jumps, seen = Gate(), [], None, 0, 0
    for index, (time_s, image) in enumerate(scene.frames()):
        result = gate(Frame(time_s, image, index))
        if time_s < 4:
            empty.append(image[..., 1].astype(float))
            continue
        off = cv2.blur(np.abs(image[..., 1] - np.mean(empty, axis=0)), (5, 5)) > 25
        rows, columns = (np.flatnonzero(off.sum(axis=axis) >= 5) for axis in (1, 0))
        if not 4.5 <= time_s <= 7.2 or not len(rows):  # once it is all in the picture
            continue
        box = result.box_yxyx
        assert holds(box, (rows[0] + 4, columns[0] + 4, rows[-1] - 4, columns[-1] - 4)), (time_s, box)
        assert box[2] - box[0] == box[3] - box[1]
        seen, jumps, before = seen + 1, jumps + (before is not None and box != before), box
    assert seen >= 20
    assert jumps <= 0.6 * seen


def test_two_animals_share_a_box_and_a_leaf_does_not_widen_it(stage):
    porch, gate = stage(), Gate()
    porch.play(gate, 4)
    both = porch.play(gate, 1, ("own", 0.3, 0.4), ("cat", 0.7, 0.4))[-1].box_yxyx
    assert both[1] <= 0.25 * 320
    assert both[3] >= 0.75 * 320
    porch, gate = stage(), Gate()
    porch.play(gate, 4)
    alone = porch.play(gate, 1, ("own", 0.3, 0.4), ("cat", 0.9, 0.07))[-1].box_yxyx
    assert alone[3] <= 0.75 * 320


def test_the_whole_picture_is_looked_at_where_the_options_say_so_and_before_the_porch_is_known(stage):
    porch, gate = stage(), Gate(GateOptions(crop=False))
    porch.play(gate, 4)
    result = porch.play(gate, 1, ("own", 0.3, 0.5))[-1]
    assert result.worth
    assert result.box_yxyx is None
    porch, gate = stage(), Gate()
    assert [result.box_yxyx for result in porch.play(gate, 1) + porch.play(gate, 1, ("own", 0.3, 0.5))] == [None] * 20


# --------------------------------------------------------------------------------------------------------- light


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in LIGHTS for b in LIGHTS if a != b])
def test_a_change_of_light_is_named_and_over_within_two_seconds(stage, before, after):
    porch, gate = stage(light=before), Gate()
    porch.play(gate, 4)
    porch.light = after
    results = porch.play(gate, 6)
    if (before, after) != ("dusk", "day"):  # there, a corner of the wall counts as a thing for a second
        assert Refusal.LIGHT in {result.refusal for result in results}
    assert {result.refusal for result in results[20:]} == {Refusal.NOTHING}
    assert {result.camera for result in results} == {CameraState.OK}


@pytest.mark.parametrize(("before", "after"), [("day", "night"), ("night", "day"), ("dusk", "night"), ("day", "dusk")])
def test_an_animal_is_not_lost_when_the_light_changes(stage, before, after):
    dog = ("own", 0.35, 0.5, 1.0)
    porch, gate = stage(light=before), Gate()
    porch.play(gate, 4)
    assert porch.play(gate, 3, dog)[-1].worth
    porch.light = after
    results = porch.play(gate, 10, dog)
    assert sum(not result.worth for result in results) <= 15
    assert results[-1].worth
    assert holds(results[-1].box_yxyx, (130, 90, 220, 140))


@pytest.mark.parametrize("light", LIGHTS)
def test_headlights_and_a_lamp_are_mostly_light_and_soon_forgotten(stage, light):
    y, x = np.mgrid[:240, :320]
    porch, gate = stage(light=light), Gate()
    porch.play(gate, 4)
    for step in range(30):
        gate(porch.shot(porch.picture(lamp=2 * np.exp(-(((x + 60 - 15 * step) / 50) ** 2) - ((y - 140) / 60) ** 2))))
    if light != "night":  # a black wall has no outlines until it is lit: it may look like a thing for a while
        assert not any(result.moved for result in porch.play(gate, 6)[30:])
    porch, gate = stage(light=light), Gate()
    porch.play(gate, 4)
    assert not any(result.moved for result in porch.play(gate, 4, lamp=np.exp(-(((x - 80) / 60) ** 2) - ((y - 100) / 60) ** 2))[15:])


def test_infra_red_is_told_from_day_and_is_no_refusal(stage):
    for light, expected in (("day", False), ("dusk", False), ("night", True)):
        porch, gate = stage(light=light), Gate()
        porch.play(gate, 4)
        result = porch.play(gate, 1, ("own", 0.5, 0.5))[-1]
        assert result.worth
        assert result.infrared is expected


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_subject_too_small_to_be_told_is_refused_by_name_and_size(stage):
    porch, gate = stage(), Gate(GateOptions(min_subject=0.5))
    porch.play(gate, 4)
    result = porch.play(gate, 1, ("cat", 0.5, 0.3))[-1]
    assert (result.moved, result.worth, result.refusal) == (True, False, Refusal.SMALL)
    assert result.reason.startswith("too small: ")
    assert "120 are needed" in result.reason


def smear(porch, animal):
    """The porch with an animal that ran on by 0.15 of its height while the picture was taken."""
    empty, sharp = porch.picture(), porch.picture(animal)
    cover = (np.abs(sharp - empty).max(axis=2, keepdims=True) > 1).astype(np.float32)
    return empty * (1 - cv2.blur(cover, (25, 1))[..., None]) + cv2.blur((cover * sharp).astype(np.float32), (25, 1))


@pytest.mark.parametrize("light", LIGHTS)
@pytest.mark.parametrize("who", ["own", "cat", "black"])
def test_what_is_smeared_is_refused_after_it_was_seen_sharp_and_no_coat_is_blurred_by_itself(stage, light, who):
    porch, gate = stage(light=light), Gate()
    porch.play(gate, 4)
    animal = (who, 0.5, 0.7)
    assert sum(result.worth for result in porch.play(gate, 1, animal)) >= 9
    smeared = smear(porch, animal)
    results = [gate(porch.shot(smeared)) for _ in range(5)]
    refused = [result for result in results if result.refusal is Refusal.BLURRED]
    assert len(refused) >= 3  # of one that stays not every frame is looked at, and a night camera's noise hides how fine the rest is
    assert all(result.moved and result.reason == "blurred" for result in refused)
    assert porch.play(gate, 1, animal)[-1].worth


def test_min_sharpness_of_nothing_lets_all_pass(stage):
    porch, gate = stage(), Gate(GateOptions(min_sharpness=0))
    porch.play(gate, 4)
    porch.play(gate, 1, ("own", 0.5, 0.7))
    assert gate(porch.shot(smear(porch, ("own", 0.5, 0.7)))).worth


# ------------------------------------------------------------------------------------------------------- contract


def test_a_new_size_starts_anew_and_reset_forgets(stage):
    porch, gate = stage(), Gate()
    porch.play(gate, 2)
    frame = porch.shot(porch.picture())
    assert gate(Frame(9.0, np.ascontiguousarray(frame.image_bgr[::2, ::2]), 0)).reason == "first frame"
    assert gate(frame).reason == "first frame"
    gate.reset()
    assert gate(porch.shot(porch.picture())).reason == "first frame"


@pytest.mark.parametrize("shape", [(240, 320), (240, 320, 1), (240, 320, 4), (0, 320, 3), (8, 8, 3)])
def test_a_frame_of_another_shape_is_named(shape):
    with pytest.raises(ImageError, match="a frame is uint8"):
        Gate()(Frame(0.0, np.zeros(shape, np.uint8), 0))


def test_the_gate_sees_the_same_in_a_view_with_strides():
    wide = np.zeros((240, 700, 3), np.uint8)
    wide[:, 40:360] = PORCH
    assert look(Gate(), wide[:, 40:360], 0.0) == look(Gate(), PORCH, 0.0)


@pytest.mark.parametrize(("name", "value"), [("margin", -0.1), ("step", float("nan")), ("min_subject", 2), ("stay_s", 1)])
def test_options_out_of_bounds_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"gate.{name} must be"):
        GateOptions(**{name: value})
