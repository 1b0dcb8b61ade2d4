"""The empty porch: what it looks like, what stands on it, and how the light of day, dusk and night falls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pawlatch.scene.animal import Array, outline, polygon

LIGHTS = ("day", "dusk", "night")

_FLOOR = 1.95  # where it begins, in a world 4 units wide and 3 high


@dataclass(frozen=True)
class Look:
    """What a porch is made of, where its things stand, and how the camera sees it."""

    wall_rgb: ArrayLike = (184, 194, 190)
    floor_rgb: ArrayLike = (164, 126, 92)
    door_rgb: ArrayLike = (58, 98, 92)
    siding: int = 0  # boards, planks, bricks
    door_x: float = 2.0
    pot_xy: tuple[float, float] = (3.45, 2.80)
    zoom: float = 1.0
    centre_xy: tuple[float, float] = (2.0, 1.5)


HOME = Look()  # of every clip


def any_look(rng: np.random.Generator) -> Look:
    """A look drawn at random, for a photo."""
    return Look(
        wall_rgb=rng.uniform(120, 215) + rng.uniform(-18, 18, 3),
        floor_rgb=np.array([158, 124, 94]) * rng.uniform(0.6, 1.25) + rng.uniform(-8, 8, 3),
        door_rgb=rng.uniform(60, 150) + rng.uniform(-45, 45, 3),
        siding=int(rng.integers(3)),
        door_x=rng.uniform(1.2, 2.8),
        pot_xy=(2 + rng.choice([-1, 1]) * rng.uniform(1.2, 2.1), rng.uniform(2.35, 2.95)),
        zoom=rng.uniform(0.95, 1.35),
        centre_xy=(rng.uniform(1.75, 2.25), rng.uniform(1.45, 1.7)),
    )


class Porch:
    """The empty porch as one camera sees it: its colours, what hides an animal, and how each light falls."""

    def __init__(self, rng: np.random.Generator, look: Look, *, size_hw: tuple[int, int]) -> None:
        self.size_hw = height, width = size_hw
        self._look, self._unit = look, look.zoom * min(width / 4, height / 3)
        x = (np.arange(width, dtype=np.float32) - width / 2) / self._unit + look.centre_xy[0]
        y = (np.arange(height, dtype=np.float32) - height / 2) / self._unit + look.centre_xy[1]
        self._x, self._y = np.meshgrid(x, y)
        top = int(np.searchsorted(y, _FLOOR))
        planes = np.concatenate([self._wall(rng)[:top], self._boards(rng)[top:]])
        image = np.ascontiguousarray(np.clip(planes, 0, 255).astype(np.uint8))
        self._door(image)
        bare = image.copy()
        self._pot(rng, image)
        self.open: Array = (image == bare).all(axis=2).astype(np.float32)  # 0 where the pot hides what is behind
        self.rgb: Array = image.astype(np.float32)
        self._gains: dict[str, Array] = {}

    def lit(self, rgb: Array, light: str, region: Any = np.s_[:, :]) -> Array:
        """The colours of a region under a light, float32; infra-red sees grey only."""
        if light == "night":
            rgb = cv2.transform(rgb, np.array([[0.45, 0.35, 0.20]] * 3))
        if light not in self._gains:
            self._gains[light] = self._gain(light)
        return np.asarray(rgb * self._gains[light][region])

    def _gain(self, light: str) -> Array:
        """How much of each colour reaches the camera, float32 (H, W, 3)."""
        x, y = self._x, self._y
        if light == "day":  # the sun comes in past a corner of the roof
            sun = 1 / (1 + np.exp(10 * (1.4 - 1.6 * x + y)))
            return _glow((0.92, 0.95, 1.00), sun, (0.16, 0.12, 0.04))
        if light == "dusk":
            lamp = np.exp(-np.hypot(x - self._look.door_x - 0.85, y - 0.45) / 0.9)
            return _glow((0.52, 0.50, 0.60), lamp, (0.75, 0.48, 0.16))
        middle_x, middle_y = self._look.centre_xy
        beam = np.exp(-(((x - middle_x) / 1.9) ** 2) - ((y - middle_y - 0.2) / 1.5) ** 2)
        return _glow((0.16,) * 3, beam, (1.0,) * 3)

    def _shape(self, image: Array, points_xy: ArrayLike, rgb: ArrayLike) -> None:
        points = (np.asarray(points_xy) - self._look.centre_xy) * self._unit
        polygon(image, points + np.array(self.size_hw[::-1]) / 2, rgb)

    def _box(self, image: Array, x0: float, y0: float, x1: float, y1: float, rgb: ArrayLike) -> None:
        self._shape(image, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], rgb)

    def _wall(self, rng: np.random.Generator) -> Array:
        x, y = self._x, self._y
        if self._look.siding == 2:
            row = np.floor(y / 0.14)
            along = x / 0.36 + 0.5 * (row % 2)
            tint = rng.uniform(0.84, 1.08, 997)[(row * 31 + np.floor(along) * 17).astype(int) % 997]
            shade = tint * (1 - 0.30 * np.maximum(_seam(y / 0.14, 0.10), _seam(along, 0.045)))
        else:
            across = y / 0.19 if self._look.siding == 0 else x / 0.26
            shade = 0.94 + 0.10 * (across % 1) - 0.34 * _seam(across, 0.07)
        shade = shade * (1 - 0.35 * np.exp(np.minimum(0, y - _FLOOR) / 0.10))
        return np.asarray(self._look.wall_rgb * shade[..., None])

    def _boards(self, rng: np.random.Generator) -> Array:
        depth = np.maximum(self._y - _FLOOR, 0)
        across = (self._x - 2) / (1 + 0.9 * depth) * 4.2 + 50
        tint = rng.uniform(0.86, 1.08, 101)[np.floor(across).astype(int) % 101]
        grain = cv2.resize(rng.standard_normal((24, 160)), self.size_hw[::-1], interpolation=cv2.INTER_LINEAR)
        shade = tint * (1 + 0.035 * grain) * (1 - 0.45 * _seam(across, 0.05)) * (0.86 + 0.16 * depth)
        return np.asarray(self._look.floor_rgb * (shade * (1 - 0.4 * np.exp(-depth / 0.06)))[..., None])

    def _door(self, image: Array) -> None:
        """The door with its two windows and its flap, the lamp beside it and the mat before it."""
        x, door, white = self._look.door_x, np.asarray(self._look.door_rgb), np.array([228, 226, 218])
        for inset, rgb in ((0.0, 0.72 * white), (0.02, white), (0.10, 0.6 * door), (0.115, door)):
            self._box(image, x - 0.62 + inset, -0.3 + inset, x + 0.62 - inset, _FLOOR, rgb)
        for left in (x - 0.42, x + 0.04):
            self._box(image, left, 0.05, left + 0.38, 0.80, 0.72 * door)
            self._box(image, left + 0.02, 0.07, left + 0.38, 0.80, (150, 172, 186))
            gleam = [(left + 0.05, 0.8), (left + 0.30, 0.07), (left + 0.38, 0.07), (left + 0.2, 0.8)]
            self._shape(image, gleam, (176, 196, 206))
        for inset, rgb in ((0.0, 0.55 * white), (0.01, 0.92 * white), (0.07, 0.24 * white), (0.09, 0.4 * white)):
            self._box(image, x - 0.34 + inset, 1.13 + inset, x + 0.34 - inset, 1.90 - inset, rgb)
        self._box(image, x + 0.40, 0.90, x + 0.46, 1.06, (206, 176, 96))
        self._box(image, x + 0.79, 0.28, x + 0.91, 0.62, (60, 58, 60))
        self._box(image, x + 0.81, 0.34, x + 0.89, 0.58, (255, 236, 190))
        for grow, brown in ((0.03, (70, 58, 48)), (0.0, (138, 110, 82)), (-0.05, (112, 86, 62))):
            top, low, half = 2.04 - grow, 2.30 + grow, 0.62 + grow
            near = 1.14 * half
            self._shape(image, [(x - half, top), (x + half, top), (x + near, low), (x - near, low)], brown)

    def _pot(self, rng: np.random.Generator, image: Array) -> None:
        """A clay pot, drawn from its shaded side to its lit one, and the leaves of its plant."""
        x, y = self._look.pot_xy
        for angle in rng.permutation(np.linspace(-1.25, 1.25, 15)) + rng.uniform(-0.1, 0.1, 15):
            root = complex(x, y - 0.46)
            tip = root + rng.uniform(0.40, 0.75) * np.exp(1j * (angle - np.pi / 2))
            leaf = np.array([(root, 0.015), ((root + tip) / 2 - 0.06j, 0.065), (tip + 0.05j * abs(angle), 0.012)])
            self._shape(image, outline(leaf), np.array([76, 120, 62]) * rng.uniform(0.7, 1.25))
        for share in np.linspace(1, 0, 12):
            right, clay = x - 0.25 + 0.5 * share, np.array([196, 112, 76]) * (1.1 - 0.4 * share)
            sides = [(x - 0.25, y - 0.42), (right, y - 0.42), (x + 0.76 * (right - x), y), (x - 0.19, y)]
            self._shape(image, sides, clay)
            self._box(image, x - 0.28, y - 0.50, x + 1.12 * (right - x), y - 0.40, 1.1 * clay)


def _seam(along: Array, width: float) -> Array:
    """1 at the whole numbers, falling off over `width`: the joint between two boards."""
    return np.asarray(np.exp(-((((along + 0.5) % 1 - 0.5) / width) ** 2)))


def _glow(ambient_rgb: tuple[float, ...], strength: Array, lamp_rgb: tuple[float, ...]) -> Array:
    return np.asarray(cv2.merge([a + strength * b for a, b in zip(ambient_rgb, lamp_rgb, strict=True)]))
