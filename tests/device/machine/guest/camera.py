"""Inside the machine: what stands before the camera. Writes to v4l2loopback what the file of the cast names: own, other, nobody.

Drawn for the tiny model of the tests, which tells reddish, bluish and grey.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from pathlib import Path

import cv2
import numpy as np

WIDTH, HEIGHT, FPS = 160, 120, 5
COLOURS_BGR = {"own": (40, 40, 200), "other": (200, 40, 40)}
VIDIOC_S_FMT, OUTPUT, NO_FIELD, SRGB = 0xC0D05605, 2, 1, 8


def porch(who: str, step: int) -> np.ndarray:
    """A striped porch, and who's square at its step of the way."""
    image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    image[:, ::20] = 90
    if who in COLOURS_BGR:
        left = 10 + 4 * (step % 20)
        image[40:100, left : left + 50] = COLOURS_BGR[who]
    noise = np.random.default_rng(step).integers(-2, 3, image.shape)  # a sensor's: a picture that never changes is a frozen camera's
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def main(device: str, cast: Path) -> None:
    camera = os.open(device, os.O_RDWR)
    pixels = struct.pack("<12I", WIDTH, HEIGHT, int.from_bytes(b"YUYV", "little"), NO_FIELD, 2 * WIDTH, 2 * WIDTH * HEIGHT, SRGB, *[0] * 5)
    fcntl.ioctl(camera, VIDIOC_S_FMT, struct.pack("<I4x", OUTPUT) + pixels.ljust(200, b"\0"))
    step = 0
    while True:
        os.write(camera, yuyv(porch(cast.read_text().strip(), step)))
        step += 1
        time.sleep(1 / FPS)


def yuyv(image_bgr: np.ndarray) -> bytes:
    y, cr, cb = cv2.split(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YCrCb))
    packed = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    packed[..., 0] = y
    packed[:, ::2, 1], packed[:, 1::2, 1] = cb[:, ::2], cr[:, ::2]
    return packed.tobytes()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
