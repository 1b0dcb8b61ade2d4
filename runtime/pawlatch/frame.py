"""A picture from a camera as everything behind it expects it, and whether the camera can be believed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import ConfigError, ImageError
from pawlatch.image import MIN_SIDE_PX, Image

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class CameraState(Enum):
    """Whether the camera can be believed. Only OK lets a door open; an empty porch is OK."""

    OK = "ok"
    CONNECTING = "connecting"  # no frame yet, or none any more and trying again
    STALLED = "stalled"  # it is there, but gives no frames
    FROZEN = "frozen"  # the same picture again and again, without even noise
    BLACK = "black"
    COVERED = "covered"
    MOVED = "moved"  # it looks elsewhere than it did


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture from a camera: uint8 (H, W, 3), BGR, maybe a view. `time_s` is clip time, or when a live camera gave it."""

    time_s: float
    image_bgr: Image
    index: int


@dataclass(frozen=True)
class CameraOptions:
    """Which camera, what is asked of it, and which part of its picture is looked at.

    Raises:
        ConfigError: a value is out of its bounds.
    """

    # 0 or /dev/video0, picamera, rtsp://…, http://… (MJPEG), a named pipe, a clip, a folder of pictures, or scene:demo
    uri: str = "0"
    # width and height in pixels, 16 to 8192, asked of the driver (V4L2, picamera); the driver may give another
    size_wh: tuple[int, int] | None = None
    # frames a second, 1 to 240, asked of the driver (V4L2, picamera)
    fps: float | None = None
    # degrees clockwise by which the picture is turned upright: 0, 90, 180 or 270
    rotate: Literal[0, 90, 180, 270] = 0
    # swap left and right (after rotate)
    mirror: bool = False
    # top, left, bottom, right of the part that is looked at, as fractions 0 to 1 of the turned picture
    region: tuple[float, float, float, float] | None = None
    # seconds of silence, 0.5 to 60, after which a live camera is stalled
    stale_s: float = 5.0
    # seconds before the first attempt to reconnect, 0.01 to 60; each further one waits twice as long ...
    retry_s: float = 0.5
    # ... up to this, in seconds, 0.01 to 600
    longest_retry_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.uri:
            raise ConfigError('uri must name a camera, got ""; write 0 for the first one')
        if self.size_wh is not None and not all(16 <= side <= 8192 for side in self.size_wh):
            raise ConfigError(f"size_wh must be two sides of 16 to 8192 pixels, got {list(self.size_wh)}")
        if self.fps is not None and not 1 <= self.fps <= 240:
            raise ConfigError(f"fps must be 1 to 240 frames a second, got {self.fps:g}")
        if self.rotate not in (0, *_ROTATIONS):
            raise ConfigError(f"rotate must be 0, 90, 180 or 270 degrees, got {self.rotate}")
        if self.region is not None:
            top, left, bottom, right = self.region
            if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                raise ConfigError("region must be top, left, bottom, right as fractions with 0 <= top < bottom <= 1 and "
                                  f"0 <= left < right <= 1, got {list(self.region)}")
        if not 0.5 <= self.stale_s <= 60:
            raise ConfigError(f"stale_s must be 0.5 to 60 seconds, got {self.stale_s:g}")
        if not 0.01 <= self.retry_s <= 60:
            raise ConfigError(f"retry_s must be 0.01 to 60 seconds, got {self.retry_s:g}")
        if not self.retry_s <= self.longest_retry_s <= 600:
            raise ConfigError(f"longest_retry_s must be retry_s ({self.retry_s:g}) to 600 s, got {self.longest_retry_s:g}")


def seen_through(options: CameraOptions, picture: NDArray[Any]) -> Image:
    """What a door looks at of a camera's raw picture: BGR, turned, mirrored, cut to the region (a view, no copy).

    Args:
        picture: uint8, (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA.

    Returns:
        uint8 (H, W, 3), BGR; `picture` itself or a view of it where nothing has to be turned or converted.

    Raises:
        ImageError: another type or shape, or fewer than 16 pixels a side.
    """
    image = _as_bgr(picture)
    if options.rotate:
        image = np.asarray(cv2.rotate(image, _ROTATIONS[options.rotate]), np.uint8)
    if options.mirror:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
    if options.region is not None:
        (height, width), (top, left, bottom, right) = image.shape[:2], options.region
        rows = slice(math.floor(top * height), math.ceil(bottom * height))
        image = image[rows, math.floor(left * width) : math.ceil(right * width)]
    if min(image.shape[:2]) < MIN_SIDE_PX:
        raise ImageError(f"a frame needs at least {MIN_SIDE_PX} pixels a side, got {_size(image)}; widen the camera's region")
    return image


def _as_bgr(picture: NDArray[Any]) -> Image:
    if picture.dtype != np.uint8 or not picture.size or picture.ndim not in (2, 3):
        raise ImageError(f"a frame must be a uint8 picture, got {picture.dtype} {picture.shape}")
    channels = 1 if picture.ndim == 2 else picture.shape[2]
    if channels == 3:
        return picture
    if channels not in (1, 4):
        raise ImageError(f"a frame must have 1, 3 or 4 channels, got {channels}")
    conversion = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(picture, conversion), np.uint8)


def _size(image: Image) -> str:
    return f"{image.shape[1]}×{image.shape[0]}"
