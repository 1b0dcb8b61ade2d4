"""No cats at hand? Five drawn ones: python draw.py

Films each of them before the flap (clips/bo.webm and so on), dogs, and nobody; and visits.webm, in which all five come,
one after the other, and then a dog.
"""

from pathlib import Path

import numpy as np

from pawlatch import ClipWriter
from pawlatch.scene import CAT, OTHER, Scene, SceneVisit, any_animal

VISITS = 3  # that each clip shows of its cat
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
DOGS = [any_animal(np.random.default_rng(seed), OTHER) for seed in range(10, 15)]


def film(path, animals, *, seed, fps=5.0):
    """Each animal in turn, four seconds before the flap and four of nobody."""
    visits = tuple(SceneVisit(CAT, 4.0 + 8.0 * i, 8.0 + 8.0 * i) for i in range(len(animals)))
    scene = Scene(fps, (240, 320), "day", visits, duration_s=8.0 * len(animals) + 4.0, seed=seed, cast=tuple(animals))
    with ClipWriter(path, fps=scene.fps) as clip:
        for time_s, frame in scene.frames():
            clip.write(frame, time_s)


Path("clips").mkdir(exist_ok=True)
for seed, (name, cat) in enumerate(CATS.items()):
    film(f"clips/{name}.webm", VISITS * [cat], seed=seed)
film("clips/_other.webm", DOGS[:-1], seed=8)
film("clips/_empty.webm", [], seed=9)
film("visits.webm", [*CATS.values(), DOGS[-1]], seed=10, fps=10.0)
