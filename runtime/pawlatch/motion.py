"""What of a change is a thing, and what is only light.

A thing hides the outlines behind it and brings its own; light and shadow leave them where they are. What changed in
brightness alone is learnt at once, so neither a lamp nor headlights nor the change to infra-red is motion for long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from pawlatch.background import Background
from pawlatch.framing import Box
from pawlatch.glance import Mask, Soft, compare, count, slopes
from pawlatch.health import LOST, is_bare, is_nudged

WIDE = 0.4  # of the picture; where more changed, it may be the light, or the camera
MUCH = 0.1  # of the picture; where less changed, its outlines are there
CHECK_S = 0.5
LEAST_CELLS = 6  # of the glance; fewer are rain and midges
MOST_BLOBS = 12  # are looked at; snow makes a hundred
COMPANION = 0.15  # of the largest thing; what is smaller, a leaf, does not widen the box
TEXTURED = 0.03  # of the picture with outlines; a barer porch says nothing of its camera
LIT = 0.7  # of the outlines in a change are the porch's own: only the light changed
LIT_WIDE = 0.5  # the same where all of the picture changed: an animal may stand in it
LEAST_OUTLINES = 25  # pixels of the glance; less is no ground to call a change light
GHOSTLY = 0.7  # of the slopes of a change's rim are the porch's, with the other sign
GUESSED = 0.5  # of a thing is where it was when the light changed: it need not be a ghost
BROAD = 0.05  # of the picture; the shine of a lamp on a plain wall
SOLID = 0.15  # of a change lies two pixels from its rim
FADING = 0.01  # of the picture; with so much change of light alone, there may be more of it
FAINT = 9  # slope of a rim that no thing has, two grey levels a pixel
LIT_HARD = 0.25  # the same for a lamp with hard shadows, if the picture then stays as it is
HELD_S = 2.0  # for which the place of an animal is remembered when the light changes
LOOK_S = 1.0
SAME_VIEW = 0.8  # of the outlines after a second: a camera that somebody holds, or an animal, moves more
STRANGE_S = 5.0

_LINK = np.ones((5, 5), np.uint8)
_REACH = np.ones((7, 7), np.uint8)
_NEAR = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class Motion:
    """What moves: `box` in the glance's pixels holds it, `share` of the picture is it. `light`: only the light changed.

    `lost`: the porch's outlines are nowhere to be seen; `bare`: no others either; `elsewhere_s`: for how long there have
    been the same others instead. `thing` are the box's pixels of the glance, `noise` the picture's, in grey levels of a frame.
    """

    box: Box | None
    share: float
    light: bool = False
    lost: bool = False
    bare: bool = False
    elsewhere_s: float = 0.0
    thing: Mask | None = None
    noise: float = 0.0


class MotionDetector:
    """Tells a thing from light, and follows the porch as it changes."""

    def __init__(self, soft: Soft, *, step: float, learn_s: float, stay_s: float) -> None:
        self._porch = Background(soft, step=step, learn_s=learn_s, stay_s=stay_s)
        self._thing: Mask | None = None
        self._guess = np.zeros(soft.shape, np.bool_)  # where the porch was not seen since the light changed
        self._thing_s = self._fade_s = -math.inf
        self._view: Soft | None = None  # another picture than the porch's, seen since _view_s
        self._view_s = self._looked_s = -math.inf
        self._nudged: bool | None = None
        self._large: Motion | None = None  # what the last look at all of the picture said
        self._checked_s = -math.inf

    def __call__(self, soft: Soft, time_s: float, elapsed_s: float, *, lamp: bool = False) -> Motion:
        """Compare the next glance. `lamp`: the camera has just changed to infra-red, or back."""
        porch = self._porch
        porch.watch(soft, elapsed_s)
        self._guess &= ~porch.moving()
        changed = porch.changed(soft)
        share = count(changed) / changed.size
        if share < (MUCH if self._large is None else MUCH / 2):
            self._view = self._large = None
        elif share >= WIDE or self._large is not None or time_s - self._checked_s >= CHECK_S:
            self._checked_s = time_s
            self._large = self._wide(soft, changed, share, time_s, lamp=lamp)
            if self._large is not None:
                return self._large
        things, lit = self._sorted(soft, changed, time_s)
        porch.learn(soft, changed, elapsed_s)
        box, share = _box(things), count(things) / things.size
        if box is None:
            return Motion(None, share, light=lit)
        came = ~porch.still_where()
        if self._thing is not None and time_s - self._thing_s <= HELD_S:
            came |= self._thing
        if (things & came).any():  # a thing comes at once, a change of light may creep in
            self._thing, self._thing_s = things & came, time_s
        return Motion(box, share, thing=things[box[0] : box[2], box[1] : box[3]], noise=porch.noise())

    def _wide(self, soft: Soft, changed: Mask, share: float, time_s: float, *, lamp: bool) -> Motion | None:
        """All of the picture changed: by light, by the camera, or (None) by a thing as large as that."""
        porch = self._porch
        textured, same = compare(soft, porch.soft)
        outlines = count(textured)
        says = outlines >= TEXTURED * textured.size
        kept = count(same & changed) / max(1, count(textured & changed))
        if (share >= WIDE and says and kept >= LIT_WIDE) or (lamp and (kept >= LIT_HARD or not says)):
            self._relight(soft, changed, time_s)
            return Motion(None, share, light=True)
        view_s = self._view_for_s(soft, time_s)
        lost = says and count(same) < (1 - LOST) * outlines
        if lost and self._nudged is None and view_s >= LOOK_S:
            self._nudged = is_nudged(soft, porch.soft)  # some 20 ms, once a view
        if (lost and self._nudged) or (share >= WIDE and view_s >= STRANGE_S and kept >= LIT_HARD):
            porch.accept(soft, np.ones_like(changed))
            return Motion(None, share, light=True)
        return Motion(_box(changed), share, lost=True, bare=is_bare(soft, porch.soft), elsewhere_s=view_s) if lost else None

    def _view_for_s(self, soft: Soft, time_s: float) -> float:
        """For how long a picture unlike the porch has been the same; looked at once a second."""
        same = self._view is not None
        if self._view is not None and time_s - self._looked_s >= LOOK_S:
            textured, alike = compare(soft, self._view)
            same, self._looked_s = count(alike) >= SAME_VIEW * count(textured), time_s
        if not same:
            self._view, self._view_s, self._looked_s, self._nudged = soft, time_s, time_s, None
        return time_s - self._view_s

    def _relight(self, soft: Soft, changed: Mask, time_s: float) -> None:
        """Take the new light for the porch's, but for the place of an animal: there it is guessed from the rest."""
        held = self._reach(time_s)
        if held.all():
            return
        before, now = (np.sort(values[~held][::16]) for values in (self._porch.soft, soft))
        self._guess = held
        self._porch.scale(held, float(now[now.size // 2]) / max(1.0, float(before[before.size // 2])))
        self._porch.accept(soft, ~held)

    def _sorted(self, soft: Soft, changed: Mask, time_s: float) -> tuple[Mask, bool]:
        """What of `changed` is a thing; and whether some of it was light, which is learnt at once."""
        porch = self._porch
        things = np.zeros_like(changed)
        if count(changed) < LEAST_CELLS:
            return things, False
        near = _around(changed)
        textured, same = compare(soft[near], porch.soft[near], changed[near])
        here, shades, gone = changed[near], np.zeros_like(changed), np.zeros_like(changed)
        for where, area in _blobs(here):
            blob = here & where
            outlines, kept = count(textured & blob), count(same & blob)
            if outlines >= max(LEAST_OUTLINES, 0.2 * area) and kept >= LIT * outlines and _is_solid(blob):
                shades[near] |= blob
            elif self._fades(soft, near, blob):
                gone[near] |= blob
            else:
                things[near] |= blob & ~same
        if gone.any():
            porch.accept(soft, gone)
        if count(shades) >= FADING * shades.size:
            self._fade_s = time_s
        if time_s - self._fade_s <= HELD_S:  # what gets darker or brighter little by little is light too
            drifts = things & porch.still_where() & ~self._reach(time_s)
            shades, things = shades | drifts, things & ~drifts
        if count(shades) >= BROAD * shades.size:
            reach = self._reach(time_s)
            self._guess |= reach
            porch.accept(soft, ~(things | reach) | shades)
        elif not things.any():  # else a shadow, which goes with its animal
            porch.accept(soft, shades)
        return things, bool(shades.any())

    def _reach(self, time_s: float) -> Mask:
        """Where a thing is, or was a moment ago."""
        if self._thing is None or time_s - self._thing_s > HELD_S:
            return np.zeros(self._porch.soft.shape, np.bool_)
        return np.asarray(cv2.dilate(self._thing.astype(np.uint8), _REACH).astype(np.bool_))

    def _fades(self, soft: Soft, near: tuple[slice, slice], blob: Mask) -> bool:
        """Whether what is still there is the ghost of a thing that was learnt and has left, or a wide and soft light.

        The rim of a thing is an outline of the picture, the rim of a ghost one of the porch as it was learnt.
        """
        porch = self._porch
        if not porch.still_where()[near][blob].all() or count(self._guess[near] & blob) >= GUESSED * count(blob):
            return False
        mask = blob.astype(np.uint8)
        rim = cv2.dilate(mask, _NEAR) != cv2.erode(mask, _NEAR)
        (down, right), (down_0, right_0) = slopes(soft[near]), slopes(porch.soft[near])
        here, before = (np.stack([a[rim], b[rim]]).astype(np.int64) for a, b in ((down, right), (down_0, right_0)))
        change = here - before
        if -int((before * change).sum()) >= GHOSTLY * int((change * change).sum()):
            return True
        return count(blob) >= BROAD * soft.size and int(abs(here).sum()) < FAINT * count(rim)


def _is_solid(blob: Mask) -> bool:
    """Whether a change is more than lines: lines along its outlines are what a camera shows that somebody holds."""
    core = cv2.erode(blob.astype(np.uint8), _LINK, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return cv2.countNonZero(core) >= SOLID * count(blob)


def _around(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns of a mask, and a few more."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return np.s_[max(0, top - 4) : top + height + 4, max(0, left - 4) : left + width + 4]


def _blobs(mask: Mask) -> list[tuple[Mask, int]]:
    """Connected parts of a mask, gaps of four pixels closed, the largest first: where, and of how many pixels."""
    linked = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, _LINK)
    parts, labels, stats, _ = cv2.connectedComponentsWithStats(linked)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = sorted(range(parts - 1), key=lambda k: -int(areas[k]))
    return [(labels == k + 1, int(areas[k])) for k in order[:MOST_BLOBS] if areas[k] >= LEAST_CELLS]


def _box(mask: Mask) -> Box | None:
    """Around the largest thing with what is near it, for a pot may hide an animal's middle, and with what is nearly as large:
    two animals are judged together."""
    if count(mask) < LEAST_CELLS:
        return None
    near = _around(mask)
    linked = cv2.morphologyEx(mask[near].astype(np.uint8), cv2.MORPH_CLOSE, _LINK)
    parts, _, stats, _ = cv2.connectedComponentsWithStats(linked)
    if parts < 2:
        return None
    stats = stats[1:]
    areas = stats[:, cv2.CC_STAT_AREA]
    if areas.max() < LEAST_CELLS:
        return None
    left, top = stats[:, cv2.CC_STAT_LEFT] + near[1].start, stats[:, cv2.CC_STAT_TOP] + near[0].start
    right, bottom = left + stats[:, cv2.CC_STAT_WIDTH], top + stats[:, cv2.CC_STAT_HEIGHT]
    main = int(areas.argmax())
    reach = max(int(right[main] - left[main]), int(bottom[main] - top[main])) // 2
    beside = ((left < right[main] + reach) & (right > left[main] - reach)
              & (top < bottom[main] + reach) & (bottom > top[main] - reach))
    of_it = (areas >= LEAST_CELLS) & (beside | (areas >= COMPANION * areas[main]))
    return int(top[of_it].min()), int(left[of_it].min()), int(bottom[of_it].max()), int(right[of_it].max())
