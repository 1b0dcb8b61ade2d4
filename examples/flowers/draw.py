"""No flowers at hand? Three drawn kinds: python draw.py

Writes photos/ with 40 photos each of daisies, poppies and tulips.
"""

from pathlib import Path

import cv2
import numpy as np

PHOTOS, SIDE_PX = 40, 256


def petals(picture, centre, *, count, length, width, colour_bgr):
    for turn in np.arange(count) * 360 / count:
        along = np.radians(turn)
        at = centre + 0.6 * length * np.array([np.cos(along), np.sin(along)])
        shade = np.array(colour_bgr) * rng.uniform(0.9, 1.1)
        cv2.ellipse(picture, np.int32(at).tolist(), (round(0.6 * length), width), turn, 0, 360, shade.tolist(), -1, cv2.LINE_AA)


def daisy(picture, centre, size):
    petals(picture, centre, count=14, length=size, width=round(size / 7), colour_bgr=(240, 245, 245))
    cv2.circle(picture, centre.tolist(), round(0.3 * size), (40, 190, 240), -1, cv2.LINE_AA)


def poppy(picture, centre, size):
    petals(picture, centre, count=4, length=size, width=round(size / 1.7), colour_bgr=(40, 40, 210))
    cv2.circle(picture, centre.tolist(), round(0.25 * size), (30, 25, 40), -1, cv2.LINE_AA)


def tulip(picture, centre, size):
    x, y = centre.tolist()
    for side in (-0.45, 0.45, 0.0):
        at, axes = (round(x + side * size), y), (round(0.4 * size), round(0.9 * size))
        cv2.ellipse(picture, at, axes, 25 * side, 0, 360, (150 - 60 * abs(side), 60, 200), -1, cv2.LINE_AA)


rng = np.random.default_rng(0)
for flower in (daisy, poppy, tulip):
    folder = Path("photos", flower.__name__)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(PHOTOS):
        meadow = np.full((SIDE_PX, SIDE_PX, 3), rng.uniform((30, 80, 30), (90, 150, 90)), np.float32)
        meadow += 40 * cv2.resize(rng.uniform(-1, 1, (12, 12, 1)), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)[..., None]
        picture = np.clip(meadow, 0, 255).astype(np.uint8)
        centre = rng.integers(90, SIDE_PX - 90, 2)
        cv2.line(picture, centre.tolist(), (int(centre[0] + rng.integers(-30, 31)), SIDE_PX), (50, 120, 60), 7, cv2.LINE_AA)
        flower(picture, centre, rng.uniform(45, 80))
        noisy = picture + rng.normal(0, 5, picture.shape)
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), np.clip(noisy, 0, 255).astype(np.uint8))
