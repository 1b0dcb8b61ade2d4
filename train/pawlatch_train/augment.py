"""Augmentation that knows a door: framing, light, dusk, infra-red grey with grain, motion blur, another camera's JPEG.

Works on uint8 pixels as the camera gives them, so that the graph's own scaling is never part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from pawlatch.image import Image


@dataclass(frozen=True)
class Augmentation:
    """How far each kind of change may go, and how often it comes."""

    zoom: tuple[float, float] = (0.85, 1.08)  # side of the window cut out, as a share of the picture's
    rotate_deg: float = 6.0
    flip: bool = True
    light: float = 0.2  # strength of brightness, contrast and gamma changes
    tint: float = 0.08  # colour temperature and saturation
    grey: float = 0.1  # chance of an infra-red picture
    blur: float = 0.05  # chance of motion blur
    noise: float = 0.2  # chance of sensor noise
    jpeg: float = 0.1  # chance of another camera's compression


# For a backbone that is to see the world in a few thousand pictures.
HEAVY = Augmentation(zoom=(0.35, 1.1), rotate_deg=15.0, light=0.6, tint=0.3, grey=0.2, blur=0.15, noise=0.3, jpeg=0.15)


def augment(image_rgb: Image, rng: np.random.Generator, *, size_hw: tuple[int, int], how: Augmentation) -> Image:
    """A random variation of a picture (H, W, 3), uint8 RGB, at `size_hw`."""
    image = _reframe(image_rgb, rng, size_hw, how)
    values = _relight(image.astype(np.float32), rng, how)
    if rng.random() < how.grey:
        values[:] = (values @ np.array([0.299, 0.587, 0.114], np.float32))[..., np.newaxis]
    if rng.random() < how.blur:
        values = _motion_blur(values, rng)
    if rng.random() < how.noise:
        values += rng.normal(0.0, rng.uniform(2.0, 14.0), (*values.shape[:2], 1)).astype(np.float32)
    varied = np.clip(values, 0, 255).astype(np.uint8)
    if rng.random() < how.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))]
        varied = np.asarray(cv2.imdecode(cv2.imencode(".jpg", varied, quality)[1], cv2.IMREAD_COLOR), np.uint8)
    return varied


def _reframe(image: Image, rng: np.random.Generator, size_hw: tuple[int, int], how: Augmentation) -> Image:
    """Cut a turned, scaled, shifted window out of the picture; what lies outside is mirrored in."""
    height, width = image.shape[:2]
    side = rng.uniform(*how.zoom)
    stretch = np.exp(rng.uniform(-0.15, 0.15))
    angle = np.deg2rad(rng.uniform(-how.rotate_deg, how.rotate_deg))
    scale_x, scale_y = side * stretch * width / size_hw[1], side / stretch * height / size_hw[0]
    if how.flip and rng.random() < 0.5:
        scale_x = -scale_x
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos * scale_x, -sin * scale_y], [sin * scale_x, cos * scale_y]])
    slack = max(0.0, 1.0 - side)  # a window smaller than the picture may lie anywhere in it
    centre = np.array([width, height]) * (0.5 + rng.uniform(-0.5, 0.5, 2) * (slack + 0.06))
    offset = centre - turn @ (np.array([size_hw[1], size_hw[0]]) / 2)
    shrinks = max(abs(scale_x), abs(scale_y)) > 1.5
    warped = cv2.warpAffine(
        cv2.GaussianBlur(image, (3, 3), 0) if shrinks else image,
        np.column_stack([turn, offset]),
        (size_hw[1], size_hw[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return np.asarray(warped, np.uint8)


def _relight(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], rng: np.random.Generator,
             how: Augmentation) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    gamma = np.exp(rng.uniform(-how.light, how.light))
    gain = np.exp(rng.uniform(-how.light, how.light) * 0.6)
    tint = np.exp(rng.uniform(-how.tint, how.tint, 3)).astype(np.float32)
    values = 255.0 * gain * (values / 255.0) ** np.float32(gamma) * tint
    contrast, saturation = np.exp(rng.uniform(-how.light, how.light) * 0.6), np.exp(rng.uniform(-2, 2) * how.tint)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * np.float32(saturation)
    mean = values.mean()
    return np.asarray((values - mean) * np.float32(contrast) + mean, np.float32)


def _motion_blur(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
                 rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    length = int(rng.integers(3, 8))
    kernel = np.zeros((length, length), np.float32)
    angle = rng.uniform(0, np.pi)
    reach = (length - 1) / 2 * np.array([np.cos(angle), np.sin(angle)])
    centre = (length - 1) / 2
    start, end = (tuple(int(v) for v in np.rint(centre + sign * reach)) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(values, -1, kernel / kernel.sum()), np.float32)
