"""Inside the machine: what stands before the camera. Writes to v4l2loopback what the file of the cast names: own, other, nobody.

Who comes is a photo of the folders `own` and `other` beside this file, each time the next one; where there are none, a square of
the colour by which the tiny model of the tests tells them apart.
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

WIDTH, HEIGHT, FPS = 320, 240, 5
COLOURS_BGR = {"own": (40, 40, 200), "other": (200, 40, 40)}
VIDIOC_S_FMT, OUTPUT, NO_FIELD, SRGB = 0xC0D05605, 2, 1, 8


class Stage:
    """A striped porch, and who walks over it."""

    def __init__(self, folder: Path) -> None:
        self._photos = {who: [_fitted(path) for path in sorted((folder / who).glob("*"))] or [np.full((120, 100, 3), colour_bgr, np.uint8)]
                        for who, colour_bgr in COLOURS_BGR.items()}
        self._visits, self._who, self._step = 0, "nobody", 0

    def picture(self, who: str) -> np.ndarray:
        """The next picture, (HEIGHT, WIDTH, 3) BGR uint8."""
        if who != self._who:
            self._visits, self._who = self._visits + (who in COLOURS_BGR), who
        self._step += 1
        image = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        image[:, ::40] = image[:, 1::40] = 90
        if who in COLOURS_BGR:
            photo = self._photos[who][(self._visits - 1) % len(self._photos[who])]
            top, left = HEIGHT - 20 - len(photo), 20 + 8 * self._step % (WIDTH - 40 - photo.shape[1])
            image[top : top + len(photo), left : left + photo.shape[1]] = photo
        noise = np.random.default_rng(self._step).integers(-2, 3, image.shape)  # a sensor's: a picture that never changes is a frozen camera's
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def _fitted(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    scale = min(180 / image.shape[0], 240 / image.shape[1])
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def main(device: str, cast: Path) -> None:
    camera = os.open(device, os.O_RDWR)
    pixels = struct.pack("<12I", WIDTH, HEIGHT, int.from_bytes(b"YUYV", "little"), NO_FIELD, 2 * WIDTH, 2 * WIDTH * HEIGHT, SRGB, *[0] * 5)
    fcntl.ioctl(camera, VIDIOC_S_FMT, struct.pack("<I4x", OUTPUT) + pixels.ljust(200, b"\0"))
    stage = Stage(Path(__file__).parent)
    while True:
        os.write(camera, yuyv(stage.picture(cast.read_text().strip())))
        time.sleep(1 / FPS)


def yuyv(image_bgr: np.ndarray) -> bytes:
    y, cr, cb = cv2.split(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2YCrCb))
    packed = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    packed[..., 0] = y
    packed[:, ::2, 1], packed[:, 1::2, 1] = cb[:, ::2], cr[:, ::2]
    return packed.tobytes()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
