"""Is there anything to look at, and where? Motion against the learnt porch, and what makes a frame not worth a look.

A thing changes the outlines that the camera sees; light and shadow keep them. So what changed in brightness alone is
learnt at once, and an animal is told from a lamp, from headlights and from the camera's change to infra-red.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import Enum

from pawlatch.camera import CameraState, Frame
from pawlatch.errors import ConfigError
from pawlatch.framing import Box, Framing
from pawlatch.glance import Glance, glance
from pawlatch.health import Health
from pawlatch.image import MIN_SIDE_PX
from pawlatch.motion import Motion, MotionDetector
from pawlatch.sharpness import Sharpness

DARKEST = 24  # grey level that the brightest spot must reach
FLATTEST = 8  # grey levels between the darkest and the brightest spot
KNOWN_S = 3.0  # until then an animal may have been there from the start: the whole picture is looked at
SETTLE_S = 0.5  # after a change of light
COAST_S = 0.25  # for which a subject is taken to go on as it went
COAST_GROWTH = 0.1  # of its size, by which it may have grown or shrunk


@dataclass(frozen=True)
class GateOptions:
    """What is worth a look. The defaults fit a camera some metres above a porch."""

    crop: bool = True  # classify the box around what moved; false: the whole picture
    margin: float = 0.25  # around what moved, on each side, as a share of its longer side; 0 to 2
    step: float = 7.0  # grey levels by which a spot must differ from the empty porch, beyond its noise; 2 to 100
    min_subject: float = 0.04  # the least height (or width, if larger) of a subject, as a share of the picture's height; 0 to 1
    min_sharpness: float = 0.02  # the least fine detail in a subject, of its contrast; 0 (all pass) to 1; sharp ones have 0.03
    learn_s: float = 10.0  # seconds in which slow changes of light become background; 1 to 600
    stay_s: float = 120.0  # seconds after which a thing that was left on the porch becomes background; 10 to 3600
    black_s: float = 2.0  # seconds of darkness after which the camera counts as black; 0.5 to 600
    frozen_s: float = 10.0  # seconds of one and the same picture after which it counts as frozen; 1 to 600
    covered_s: float = 3.0  # seconds without the porch's outlines after which it counts as covered; 0.5 to 600
    turned_s: float = 5.0  # seconds of other outlines after which it counts as moved; 0.5 to 600
    accept_s: float = 600.0  # seconds after which what a moved camera sees becomes the porch; 10 to 86400

    def __post_init__(self) -> None:
        for name, (least, most) in _BOUNDS.items():
            if not least <= getattr(self, name) <= most:  # nor may it be NaN
                raise ConfigError(f"gate.{name} must be {least:g} to {most:g}, got {getattr(self, name):g}; "
                                  f"leave it out for {getattr(type(self), name):g}")


_BOUNDS = {
    "margin": (0, 2), "step": (2, 100), "min_subject": (0, 1), "min_sharpness": (0, 1), "learn_s": (1, 600),
    "stay_s": (10, 3600), "black_s": (0.5, 600), "frozen_s": (1, 600), "covered_s": (0.5, 600), "turned_s": (0.5, 600),
    "accept_s": (10, 86400),
}  # fmt: skip


class Refusal(Enum):
    """Why a frame is not classified; the value is what a person reads, and what a result's reason begins with."""

    NOTHING = "nothing moves"
    DARK = "too dark"
    FLAT = "no signal"
    LIGHT = "the light changed"
    SMALL = "too small"
    BLURRED = "blurred"
    BLACK = "the camera sees black"
    FROZEN = "the camera's picture is frozen"
    COVERED = "the camera is covered"
    MOVED = "the camera was moved"


@dataclass(frozen=True)
class GateResult:
    """Whether a frame is worth classifying, and where in it.

    `motion` is the share of the picture that changed, 0 to 1. `moved`: something is there, though it may be refused.
    `box_yxyx` (top, left, bottom, right) holds it, in the frame's pixels; None: the whole picture. `infrared`: the camera
    sees by its own lamp, in grey. `camera` is what the pictures say of the camera.
    """

    moved: bool
    motion: float
    reason: str
    box_yxyx: tuple[int, int, int, int] | None = None
    infrared: bool = False
    camera: CameraState = CameraState.OK
    refusal: Refusal | None = None

    @property
    def worth(self) -> bool:
        """Whether to classify the frame."""
        return self.moved and self.refusal is None


class Gate:
    """Compares each frame with a slowly learnt background. It has a memory: one gate for each camera."""

    def __init__(self, options: GateOptions | None = None) -> None:
        self.options = options or GateOptions()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next frame is the first one."""
        options = self.options
        self._motion: MotionDetector | None = None
        self._health = Health(black_s=options.black_s, frozen_s=options.frozen_s, covered_s=options.covered_s,
                              turned_s=options.turned_s)
        self._framing, self._sharpness = Framing(options.margin), Sharpness(options.min_sharpness)
        self._frame_hw = (0, 0)
        self._began_s = self._before_s = self._light_s = -math.inf
        self._infrared = False
        self._result = GateResult(False, 0.0, "")
        self._subject: Box = (0, 0, 0, 0)
        self._looks: list[tuple[float, Box]] = []  # the last two at a subject, and when

    def __call__(self, frame: Frame) -> GateResult:
        """Look at the next frame. The first one counts as moved: nothing is known yet.

        What was seen twice is not looked for again at once, but taken to go on as it went, so that the model has the time
        for itself.

        Raises:
            ImageError: it is not uint8 (H, W, 3), or smaller than 16 pixels on a side.
        """
        if (subject := self._coasting(frame)) is not None:
            return replace(self._result, box_yxyx=self._framing(subject, self._frame_hw, frame.time_s))
        self._result = self._look(frame)
        is_known = self._result.worth and self._result.box_yxyx is not None
        self._looks = [*self._looks[-1:], (frame.time_s, self._subject)] if is_known else []
        return self._result

    def _coasting(self, frame: Frame) -> Box | None:
        """Where the subject of the last two looks is by now; None where it is time to look, or where it came nearer or went."""
        if len(self._looks) < 2 or frame.image_bgr.shape[:2] != self._frame_hw:
            return None
        (before_s, before), (last_s, last) = self._looks
        since_s = frame.time_s - last_s
        if not 0 <= since_s < COAST_S or not 0 < last_s - before_s <= 2 * COAST_S:
            return None
        moved = [now - then for now, then in zip(last, before, strict=True)]
        size = max(last[2] - last[0], last[3] - last[1])
        if max(abs(moved[2] - moved[0]), abs(moved[3] - moved[1])) > COAST_GROWTH * size:
            return None
        share = since_s / (last_s - before_s)
        down, right = (round(share * (moved[k] + moved[k + 2]) / 2) for k in (0, 1))
        return last[0] + down, last[1] + right, last[2] + down, last[3] + right

    def _look(self, frame: Frame) -> GateResult:
        seen, time_s = glance(frame.image_bgr), frame.time_s
        if frame.image_bgr.shape[:2] != self._frame_hw:
            self.reset()
            self._frame_hw = (frame.image_bgr.shape[0], frame.image_bgr.shape[1])
        unseen = self._unseen(seen, time_s)
        if unseen is not None:
            return unseen
        if self._motion is None:
            options = self.options
            self._motion = MotionDetector(seen.soft, step=options.step, learn_s=options.learn_s, stay_s=options.stay_s)
            self._infrared, self._before_s, self._began_s = seen.is_grey(), time_s, time_s
            return GateResult(True, 1.0, "first frame", infrared=self._infrared)
        elapsed_s, was_infrared = max(0.0, time_s - self._before_s), self._infrared
        self._before_s, self._infrared = time_s, seen.is_grey()
        motion = self._motion(seen.soft, time_s, elapsed_s, lamp=self._infrared != was_infrared)
        return replace(self._judged(motion, seen, frame), infrared=self._infrared)

    def _unseen(self, seen: Glance, time_s: float) -> GateResult | None:
        """A picture in which nothing can be seen, or always the same."""
        darkest, brightest = seen.extremes()
        dark, flat = brightest < DARKEST, brightest - darkest < FLATTEST
        camera = self._health.unlit(time_s, dark=dark, flat=flat)
        detail = f"the brightest spot is {brightest:.0f} of 255" if dark else "the picture is all one colour"
        if camera is CameraState.BLACK:
            return _refused(Refusal.BLACK, detail, camera=camera)
        if camera is CameraState.COVERED:
            return _refused(Refusal.COVERED, detail, camera=camera)
        if self._health.frozen(seen.grey, time_s):
            return _refused(Refusal.FROZEN, "it does not even show noise", camera=CameraState.FROZEN)
        if dark:
            return _refused(Refusal.DARK, detail)
        return _refused(Refusal.FLAT, detail) if flat else None

    def _judged(self, motion: Motion, seen: Glance, frame: Frame) -> GateResult:
        """What to make of what moves."""
        camera = self._health.outlines(frame.time_s, lost=motion.lost, bare=motion.bare,
                                       elsewhere_s=motion.elsewhere_s)
        if camera is CameraState.COVERED:
            return _refused(Refusal.COVERED, "nothing of the porch is to be seen", camera=camera, motion=motion.share)
        if camera is CameraState.MOVED:
            if self._health.turned_for_s(frame.time_s) >= self.options.accept_s:
                self.reset()
            return _refused(Refusal.MOVED, "it sees another place", camera=camera, motion=motion.share)
        if motion.light:
            self._light_s = frame.time_s
        if motion.box is None:
            light = frame.time_s - self._light_s <= SETTLE_S
            return _refused(Refusal.LIGHT if light else Refusal.NOTHING, motion=motion.share)
        subject = self._subject = _in_frame(motion.box, seen.grey.shape, self._frame_hw)
        box = self._framing(subject, self._frame_hw, frame.time_s)
        known = self.options.crop and frame.time_s - self._began_s >= KNOWN_S
        result = GateResult(True, motion.share, f"{motion.share:.1%} of the picture moved", box if known else None)
        if motion.thing is not None and self._sharpness.blurs(frame.image_bgr, subject, motion.thing, frame.time_s,
                                                              noise=motion.noise):
            result = replace(result, refusal=Refusal.BLURRED, reason=Refusal.BLURRED.value)
        size, least = max(subject[2] - subject[0], subject[3] - subject[1]), self._least_size()
        if size < least:
            return replace(result, refusal=Refusal.SMALL, reason=f"{Refusal.SMALL.value}: {size} pixels, {least} are needed")
        return result

    def _least_size(self) -> int:
        return max(MIN_SIDE_PX, round(self.options.min_subject * self._frame_hw[0]))


def _refused(refusal: Refusal, detail: str = "", *, camera: CameraState = CameraState.OK, motion: float = 0.0) -> GateResult:
    reason = f"{refusal.value}: {detail}" if detail else refusal.value
    return GateResult(False, motion, reason, camera=camera, refusal=refusal)


def _in_frame(box: Box, glance_hw: tuple[int, ...], frame_hw: tuple[int, int]) -> Box:
    """A box of the glance in the frame's pixels."""
    (height, width), (rows, columns) = frame_hw, glance_hw
    return (box[0] * height // rows, box[1] * width // columns, -(-box[2] * height // rows), -(-box[3] * width // columns))
