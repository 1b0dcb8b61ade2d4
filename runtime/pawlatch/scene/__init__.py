"""The drawn porch: seeded pictures and a camera clip of a door, its own dog, other dogs and a cat.

This module is the stage: who comes when, where and how they stand, and what the camera makes of it. The animals are
drawn in `animal`, what is behind them in `porch`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import NamedTuple
from urllib.parse import parse_qsl

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import CameraError
from pawlatch.scene.animal import CAT, KINDS, OTHER, OWN, Animal, Array, Pose, any_animal, sprite
from pawlatch.scene.porch import HOME, LIGHTS, Porch, any_look

__all__ = ["CAT", "EMPTY", "LIGHTS", "OTHER", "OWN", "Animal", "Scene", "SceneVisit", "any_animal", "draw"]

EMPTY = "empty"

_SIZE_HW = (480, 640)
_NOISE = {"day": 2.5, "dusk": 5.0, "night": 7.0}  # of the sensor, grey levels
_STEP_S = 4.0  # of each visit and each empty gap; longer than the quiet that ends a visit
_DEMO = "empty,own,empty,other,empty,cat,empty,own,empty,other,empty"
_MIXED = "mixed"
_TALL = 1.45  # shoulder heights that a standing dog is high
_SIZES = (0.03, 0.6)  # of the picture's height, for a standing dog
_SIDES = (64, 4096)  # of the picture, pixels


@dataclass(frozen=True)
class SceneVisit:
    """An animal comes into the picture at `start_s` and has left it at `end_s`."""

    who: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Scene:
    """A fixed porch and a script of visits.

    `light` is one of LIGHTS, or "mixed": each visit has the next of them, and the light changes while nobody is there.
    `size` is the height of a standing dog as a share of the picture's, 0.03 to 0.6; a cat's is seven tenths of that.
    `cast` holds the animal of each visit; where it is empty, the seed chooses them.
    """

    fps: float
    size_hw: tuple[int, int]
    light: str
    visits: tuple[SceneVisit, ...]
    duration_s: float
    seed: int
    size: float = 0.36 * _TALL
    cast: tuple[Animal, ...] = ()

    @classmethod
    def parse(cls, spec: str) -> Scene:
        """A scene from its name: `demo`, `demo?seed=3&light=dusk&fps=5`, `own,empty,cat?light=mixed&size=0.1&hw=1080x1920`.

        Each name takes four seconds. Raises CameraError for an unknown name, option or light, and for a bad number.
        """
        script, _, query = spec.partition("?")
        names = (_DEMO if script == "demo" else script).split(",")
        known = (OWN, OTHER, CAT, EMPTY)
        if not set(names) <= set(known):
            raise CameraError(f"a scene is demo or a list of {', '.join(known)}; got {script!r}; try scene:demo")
        options = {"seed": "0", "light": "day", "fps": "10", "size": str(cls.size), "hw": "x".join(map(str, _SIZE_HW))}
        given = dict(parse_qsl(query, keep_blank_values=True))
        if not given.keys() <= options.keys():
            raise CameraError(f"a scene's options are {', '.join(options)}; got {query!r}; try scene:demo?seed=1")
        options |= given
        light, lights = options["light"], (*LIGHTS, _MIXED)
        if light not in lights:
            raise CameraError(f"a scene's light is {', '.join(lights)}; got {light!r}; try scene:demo?light=dusk")
        try:
            seed, fps, size = int(options["seed"]), float(options["fps"]), float(options["size"])
            height, width = map(int, options["hw"].split("x"))
        except ValueError:
            seed, fps, size, height, width = -1, 0.0, 0.0, 0, 0
        if seed < 0 or not 1 <= fps <= 60:
            raise CameraError(
                f"a scene's seed is a whole number from 0, its fps a number from 1 to 60; got {query!r}; "
                "try scene:demo?seed=3&fps=10"
            )
        if not _SIZES[0] <= size <= _SIZES[1] or not all(_SIDES[0] <= side <= _SIDES[1] for side in (height, width)):
            raise CameraError(
                f"a scene's size is a number from {_SIZES[0]} to {_SIZES[1]}, its hw is HEIGHTxWIDTH from {_SIDES[0]} to "
                f"{_SIDES[1]} pixels; got {query!r}; try scene:demo?size=0.1&hw=1080x1920"
            )
        visits = [SceneVisit(who, _STEP_S * k, _STEP_S * (k + 1)) for k, who in enumerate(names) if who != EMPTY]
        return cls(fps, (height, width), light, tuple(visits), _STEP_S * len(names), seed, size)

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """`time_s, frame_bgr` of each of the round(duration_s * fps) frames; uint8 (H, W, 3), BGR as from a camera."""
        rng = np.random.default_rng(self.seed)
        height, width = self.size_hw
        porch = Porch(rng, HOME, size_hw=self.size_hw)
        empty = {light: porch.lit(porch.rgb, light) for light in LIGHTS}
        noise = {light: _noise(rng, light, size_hw=(height + 64, width + 64)) for light in LIGHTS}
        cast = self.cast or self._cast(rng)
        sides = rng.choice([-1.0, 1.0], len(self.visits))
        for index in range(round(self.duration_s * self.fps)):
            time_s = index / self.fps
            now, later, share = self._lights(time_s)
            image = cv2.addWeighted(empty[now], 1 - share, empty[later], share, 0)
            for visit, animal, side in zip(self.visits, cast, sides, strict=True):
                if visit.start_s <= time_s < visit.end_s:
                    done = (time_s - visit.start_s) / (visit.end_s - visit.start_s)
                    pose, place = _act(done, who=visit.who, side=float(side), size=self.size, size_hw=self.size_hw)
                    _put(image, porch, animal, pose, place, light=now)
            y, x = rng.integers(0, 64, 2)
            window = np.s_[y : y + height, x : x + width]
            grain = cv2.addWeighted(noise[now][window], 1 - share, noise[later][window], share, 0)
            flicker = 1 + 0.006 * rng.standard_normal()
            frame = cv2.addWeighted(image, flicker, grain, 1, 0, dtype=cv2.CV_8U)
            yield time_s, np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), dtype=np.uint8)

    def _cast(self, rng: np.random.Generator) -> list[Animal]:
        """The animal of each visit: one own dog for all of its visits, the kinds of strangers in turn."""
        own, kinds = any_animal(rng, OWN), cycle(rng.permutation(KINDS).tolist())
        return [own if visit.who == OWN else any_animal(rng, visit.who, kind=next(kinds)) for visit in self.visits]

    def _lights(self, time_s: float) -> tuple[str, str, float]:
        """The light now, the light to come, and the share of the latter, which is 0 while an animal is there."""
        if self.light != _MIXED:
            return self.light, self.light, 0.0
        if not self.visits:
            return LIGHTS[0], LIGHTS[0], 0.0
        edges_s = [edge_s for visit in self.visits for edge_s in (visit.start_s, visit.end_s)]
        at = float(np.interp(time_s, edges_s, np.repeat(np.arange(len(self.visits)), 2)))
        return LIGHTS[int(at) % 3], LIGHTS[(int(at) + 1) % 3], at % 1


def draw(rng: np.random.Generator, who: str, *, light: str, size_hw: tuple[int, int] = _SIZE_HW,
         animal: Animal | None = None) -> NDArray[np.uint8]:
    """One photo: random place, pose, position and noise. RGB uint8 (H, W, 3).

    `animal` is one of that kind, as `any_animal` makes them; none: another in each photo.
    `who` is OWN, OTHER, CAT or EMPTY, `light` one of LIGHTS. A standing dog is 0.36 to 0.8 of the picture
    high, a cat seven tenths of that. The same generator state gives the same bytes.
    """
    height, width = size_hw
    porch = Porch(rng, any_look(rng), size_hw=size_hw)
    image = porch.lit(porch.rgb, light)
    if who != EMPTY:
        tall = rng.uniform(0.36, 0.8)
        pose = Pose(
            phase=rng.uniform(0, 2 * np.pi), stride=rng.uniform(0, 1) * (rng.random() < 0.6),
            sit=float(rng.random() < 0.3), head=rng.uniform(-0.3, 0.25), tail=rng.uniform(-0.4, 0.5),
        )  # fmt: skip
        place = _Place(
            x=width * rng.uniform(0.2, 0.8),
            y=height * rng.uniform(max(0.75, tall + 0.1), 0.97),
            scale=height * tall * (0.7 if who == CAT else 1) / _TALL,
            facing=rng.choice([-1, 1]) * rng.uniform(0.8, 1),
        )
        _put(image, porch, animal or any_animal(rng, who), pose, place, light=light)
    tint = 1 if light == "night" else rng.uniform(0.95, 1.05, 3).astype(np.float32)
    image = image * (rng.uniform(0.85, 1.15) * tint) + rng.uniform(0.5, 1.5) * _noise(rng, light, size_hw=size_hw)
    return np.asarray(np.clip(image, 0, 255).astype(np.uint8))


# ----------------------------------------------------------------------------------------------------- staging


class _Place(NamedTuple):
    """Where an animal stands: its ground point and its scale in pixels, and how it is turned."""

    x: float
    y: float
    scale: float
    facing: float  # 1 right, -1 left, nearer to 0 foreshortened


def _put(image: Array, porch: Porch, animal: Animal, pose: Pose, place: _Place, *, light: str) -> None:
    """Draw an animal and its shadow into a lit picture, behind the pot."""
    figure, foot = sprite(animal, pose, scale=place.scale, shine=light == "night")
    ends = place.x + place.facing * (np.array([0, figure.shape[1]]) - foot.real)
    x0, x1 = np.clip([ends.min() - 2, ends.max() + 2], 0, porch.size_hw[1]).astype(int)
    y0, y1 = np.clip([place.y - foot.imag - 2, place.y + 0.2 * place.scale], 0, porch.size_hw[0]).astype(int)
    if x0 >= x1 or y0 >= y1:
        return
    region = np.s_[y0:y1, x0:x1]
    matrix = np.array([[place.facing, 0, place.x - x0 - place.facing * foot.real], [0, 1, place.y - y0 - foot.imag]])
    *rgb, cover = cv2.split(cv2.warpAffine(figure, matrix, (int(x1 - x0), int(y1 - y0))))
    across = (np.arange(x0, x1) - place.x) / (0.75 * place.facing * place.scale)
    down = (np.arange(y0, y1) - place.y + 0.03 * place.scale) / (0.11 * place.scale)
    shadow = 0.55 * np.outer(np.exp(-(down**2)), np.exp(-(across**2))).astype(np.float32)
    free = porch.open[region]
    keep = 1 - free * (1 - (1 - shadow) * (1 - cover))
    below = cv2.split(porch.rgb[region])
    stood = cv2.merge([ground * keep + colour * free for ground, colour in zip(below, rgb, strict=True)])
    image[region] = porch.lit(stood, light, region)


def _noise(rng: np.random.Generator, light: str, *, size_hw: tuple[int, int]) -> Array:
    """Sensor noise in grey levels, float32 (H, W, 3): grain and a little colour, in infra-red grain alone."""
    grain = rng.standard_normal((*size_hw, 1), dtype=np.float32)
    tinge = 0 if light == "night" else 0.6
    return np.asarray(_NOISE[light] * (grain + tinge * rng.standard_normal((*size_hw, 3), dtype=np.float32)))


def _act(done: float, *, who: str, side: float, size: float, size_hw: tuple[int, int]) -> tuple[Pose, _Place]:
    """A visit at a share of its time: in from one side, a stay before the door, sitting a while, out at the other."""
    height, width = size_hw
    scale = height * size / _TALL * (0.25 / 0.36 if who == CAT else 1)
    far = width / 2 + 1.2 * scale
    walk = _ease(done / 0.28) - 1 + _ease((done - 0.72) / 0.28)
    sit = _ease((done - 0.33) / 0.10) - _ease((done - 0.60) / 0.10)
    pose = Pose(
        phase=3.4 * walk * far / scale, stride=1 - _ease((done - 0.20) / 0.08) + _ease((done - 0.72) / 0.06), sit=sit,
        head=0.15 * np.sin(9 * done) - 0.1 * sit, tail=0.35 * np.sin(40 * done),
    )  # fmt: skip
    return pose, _Place(width / 2 + side * far * walk, 0.90 * height, scale, facing=side)


def _ease(share: float) -> float:
    """0 to 1 with a soft start and a soft end."""
    share = min(1.0, max(0.0, share))
    return share * share * (3 - 2 * share)
