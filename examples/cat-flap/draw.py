"""No cats at hand? Five drawn ones: python draw.py

Writes photos/ with 30 photos of each cat, of strangers and of the empty porch, and visits.webm, in which all five come, one
after the other, and then a stranger.
"""

from pathlib import Path

import cv2
import numpy as np

from pawlatch import ClipWriter
from pawlatch.scene import CAT, EMPTY, LIGHTS, Scene, SceneVisit, any_animal, draw

PHOTOS = 30
COATS = {  # the kind of markings, and the light and the dark colour, RGB
    "bo": (0, (235, 150, 70), (150, 70, 20)),
    "luna": (1, (52, 48, 52), (20, 18, 22)),
    "milo": (2, (240, 235, 228), (40, 36, 38)),
    "nala": (0, (250, 248, 244), (222, 214, 205)),
    "oskar": (2, (150, 160, 172), (84, 94, 108)),
}


def coated(number, kind, light, dark):
    cat = any_animal(np.random.default_rng(number), CAT, kind=kind)
    return cat._replace(light_rgb=np.array(light), dark_rgb=np.array(dark))


CATS = {name: coated(number, *coat) for number, (name, coat) in enumerate(COATS.items())}

rng = np.random.default_rng(0)
for label in (*CATS, "_other", "_empty"):
    folder = Path("photos", label)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(PHOTOS):
        who = EMPTY if label == "_empty" else CAT
        photo = draw(rng, who, light=LIGHTS[i % 2], size_hw=(360, 480), animal=CATS.get(label))  # day and dusk
        cv2.imwrite(str(folder / f"{i:02d}.jpg"), photo[..., ::-1])

come = [*CATS.values(), any_animal(np.random.default_rng(99), CAT)]
visits = tuple(SceneVisit(CAT, 4.0 + 8.0 * i, 8.0 + 8.0 * i) for i in range(len(come)))
scene = Scene(10.0, (480, 640), "day", visits, duration_s=8.0 * len(come) + 4.0, seed=1, cast=tuple(come))
with ClipWriter("visits.webm", fps=scene.fps) as clip:
    for time_s, frame in scene.frames():
        clip.write(frame, time_s)
