"""Augmentation that knows a door: framing, cut-off animals, light, dusk, infra-red grey with grain, motion blur, rain,
another camera's JPEG.

Works on uint8 pixels as the camera gives them, so that the graph's own scaling is never part of it. What changes single
values alone is one look-up table, since training waits for this code.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image


@dataclass(frozen=True)
class Augmentation:
    """How far each kind of change may go, and how often it comes."""

    zoom: tuple[float, float] = (0.85, 1.08)  # side of the window cut out, as a share of the picture's
    rotate_deg: float = 6.0
    flip: bool = True
    light: float = 0.2  # strength of brightness, contrast and gamma changes
    tint: float = 0.08  # colour temperature and saturation
    cut_off: float = 0.05  # chance that the animal is half out of the picture
    dusk: float = 0.05  # chance of a dark, bluish, grainy picture
    grey: float = 0.1  # chance of an infra-red picture: grey, brightest in the lamp's cone, with grain
    blur: float = 0.05  # chance of motion blur
    rain: float = 0.03  # chance of streaks
    noise: float = 0.2  # chance of sensor noise
    jpeg: float = 0.1  # chance of another camera's compression


# For a backbone that is to see the world in a few thousand pictures.
HEAVY = Augmentation(zoom=(0.35, 1.1), rotate_deg=15.0, light=0.6, tint=0.3, grey=0.2, blur=0.15, noise=0.3, jpeg=0.15)
# Only what keeps every colour and every light: for pictures that come from one camera.
PLAIN = Augmentation(light=0.0, tint=0.0, cut_off=0.0, dusk=0.0, grey=0.0, blur=0.0, rain=0.0, noise=0.0, jpeg=0.0)
NONE = Augmentation(zoom=(1.0, 1.0), rotate_deg=0.0, flip=False, light=0.0, tint=0.0, cut_off=0.0, dusk=0.0, grey=0.0, blur=0.0,
                    rain=0.0, noise=0.0, jpeg=0.0)
AUGMENTATIONS = {"door": Augmentation(), "heavy": HEAVY, "plain": PLAIN, "none": NONE}


def augment(image_rgb: Image, rng: np.random.Generator, *, size_hw: tuple[int, int], how: Augmentation) -> Image:
    """A random variation of a picture (H, W, 3), uint8 RGB, at `size_hw`."""
    image = _reframe(image_rgb, rng, size_hw, how)
    if how.light or how.tint:
        image = _relight(image, rng, how)
    grain = rng.uniform(2.0, 14.0) if rng.random() < how.noise else 0.0
    night = rng.random()
    if night < how.grey:
        image, grain = _infra_red(image, rng), max(grain, rng.uniform(4.0, 16.0))
    elif night < how.grey + how.dusk:
        image, grain = _dusk(image, rng), max(grain, rng.uniform(3.0, 10.0))
    if rng.random() < how.rain:
        image = _rain(image, rng)
    if rng.random() < how.blur:
        image = _motion_blur(image, rng)
    if grain:
        speckle = rng.standard_normal(image.shape[:2], np.float32) * np.float32(grain)
        image = np.asarray(cv2.add(image, cv2.merge([speckle] * 3), dtype=cv2.CV_8U), np.uint8)
    if rng.random() < how.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return image


def _reframe(image: Image, rng: np.random.Generator, size_hw: tuple[int, int], how: Augmentation) -> Image:
    """Cut a turned, scaled, shifted window out of the picture; what lies outside is mirrored in."""
    height, width = image.shape[:2]
    is_cut_off = rng.random() < how.cut_off
    side = rng.uniform(0.55, 0.75) if is_cut_off else rng.uniform(*how.zoom)
    freedom = 0.15 if how.zoom != (1.0, 1.0) else 0.0
    stretch = np.exp(rng.uniform(-freedom, freedom))
    angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg))
    scale_x, scale_y = side * stretch * width / size_hw[1], side / stretch * height / size_hw[0]
    if how.flip and rng.random() < 0.5:
        scale_x = -scale_x
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    slack = max(0.0, 1.0 - side)  # a window smaller than the picture may lie anywhere in it
    reach = slack + 0.4 * freedom
    shift = rng.choice((-0.5, 0.5), 2) if is_cut_off else rng.uniform(-0.5, 0.5, 2)
    centre = np.array([width, height]) * (0.5 + shift * reach)
    offset = centre - turn @ ((np.array([size_hw[1], size_hw[0]]) - 1) / 2) - 0.5
    shrinks = max(abs(scale_x), abs(scale_y)) > 1.5
    warped = cv2.warpAffine(
        cv2.GaussianBlur(image, (3, 3), 0) if shrinks else image,
        np.column_stack([turn, offset]),
        (size_hw[1], size_hw[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, np.uint8)


def _relight(image: Image, rng: np.random.Generator, how: Augmentation) -> Image:
    gamma, gain, contrast = (np.exp(rng.uniform(-how.light, how.light) * strength) for strength in (1.0, 0.6, 0.6))
    tint = np.exp(rng.uniform(-how.tint, how.tint, 3))
    saturation = float(np.exp(rng.uniform(-2, 2) * how.tint))
    levels = gain * (np.arange(256) / 255.0) ** gamma * 255.0
    middle = levels[int(image.mean())]
    table = ((levels - middle) * contrast + middle)[:, np.newaxis] * tint
    relit = _look_up(image, table)
    return np.asarray(cv2.addWeighted(relit, saturation, _grey(relit), 1.0 - saturation, 0.0), np.uint8)


def _infra_red(image: Image, rng: np.random.Generator) -> Image:
    """Grey, and lit by one lamp: the corners fall off, near things may glare."""
    return _scaled(_grey(image), _cone(image.shape[:2], rng, edge=rng.uniform(0.35, 1.0)) * np.float32(rng.uniform(0.8, 1.3)))


def _dusk(image: Image, rng: np.random.Generator) -> Image:
    levels = 255.0 * (np.arange(256) / 255.0) ** rng.uniform(1.0, 1.8) * rng.uniform(0.3, 0.7)
    return _look_up(image, levels[:, np.newaxis] * np.array([0.85, 0.95, 1.15]))


def _rain(image: Image, rng: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    streaks = np.zeros((height, width), np.uint8)
    slant = rng.uniform(-0.3, 0.3)
    for _ in range(int(rng.integers(30, 120))):
        x, y, length = rng.integers(0, width), rng.integers(0, height), rng.uniform(0.04, 0.15) * height
        end = (int(x + slant * length), int(y + length))
        cv2.line(streaks, (int(x), int(y)), end, int(rng.integers(60, 160)), 1, cv2.LINE_AA)
    return np.asarray(cv2.add(image, cv2.merge([streaks] * 3)), np.uint8)


def _motion_blur(image: Image, rng: np.random.Generator) -> Image:
    length = int(rng.integers(3, 8))
    kernel = np.zeros((length, length), np.float32)
    angle, centre = rng.uniform(0, np.pi), (length - 1) / 2
    reach = centre * np.array([np.cos(angle), np.sin(angle)])
    start, end = (tuple(int(v) for v in np.rint(centre + sign * reach)) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum()), np.uint8)


def _grey(image: Image) -> Image:
    return np.asarray(cv2.merge([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3), np.uint8)


def _cone(image_hw: tuple[int, int], rng: np.random.Generator, *, edge: float) -> NDArray[np.float32]:
    """1 where a lamp shines, falling to `edge` a picture's width away from there."""
    y, x = (np.arange(side, dtype=np.float32)[:, np.newaxis] / side - rng.uniform(0.35, 0.65) for side in image_hw)
    return np.asarray(1 - (1 - edge) * np.minimum(1, 2 * (y**2 + x.T**2)), np.float32)


def _scaled(image: Image, factor: NDArray[np.float32]) -> Image:
    return np.asarray(cv2.multiply(image, cv2.merge([factor] * 3), dtype=cv2.CV_8U), np.uint8)


def _look_up(image: Image, table: NDArray[np.float64]) -> Image:
    return np.asarray(cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[np.newaxis]), np.uint8)
