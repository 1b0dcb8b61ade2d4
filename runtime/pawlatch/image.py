"""From the bytes of a file, or a camera's frame, to the pixels that a model sees. There is no other preprocessing.

Every operation here gives the same bits on x86 and on ARM: libjpeg-turbo's decoding, integer halving, OpenCV's
INTER_LINEAR_EXACT. (OpenCV's default INTER_LINEAR does not: on one photo a quarter of the pixels differed by one.)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import ImageError

Image = NDArray[np.uint8]
FitPolicy = Literal["stretch", "center_crop", "letterbox"]
FIT_POLICIES: tuple[FitPolicy, ...] = get_args(FitPolicy)

MIN_SIDE_PX = 16  # below this no animal can be told from another
LETTERBOX_GREY = 128  # what scaling to [-1, 1] turns into nothing

_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_GIF_FRAME = re.compile(rb"\x21\xf9\x04.{4}\x00[\x21\x2c]", re.DOTALL)  # a graphic control block, then a picture or a block


def read_image(path: str | Path) -> Image:
    """Read a picture as RGB, shape (H, W, 3), uint8, turned as its EXIF orientation says.

    Raises:
        ImageError: unreadable, truncated, transparent, animated, or under 16 pixels on a side.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from error
    return decode_image(data, name=str(path))


def decode_image(data: bytes, *, name: str = "image") -> Image:
    """Decode the bytes of a picture file; `name` is what error messages call it. Otherwise as `read_image`."""
    if not data:
        raise ImageError(f"expected a picture, but {name} is empty; copy the file again")
    if _is_heic(data):
        raise ImageError(
            f"{name} is a HEIC photo, which OpenCV cannot decode; save it as JPEG (on an iPhone: Settings, Camera, "
            "Formats, Most Compatible)"
        )
    if _is_truncated(data):
        raise ImageError(f"expected a whole picture, but {name} ends early; copy the file again")
    if _is_animation(data):
        raise ImageError(f"expected a still, but {name} is an animation; save the frames you want as JPEG")
    buffer = np.frombuffer(data, np.uint8)
    try:
        if not data.startswith(b"\xff\xd8"):  # JPEG has no transparency
            _refuse_transparency(cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED), name)
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        raise ImageError(f"OpenCV cannot decode {name} ({error.err}); save it as JPEG") from error
    if image is None:
        raise ImageError(f"expected a JPEG, PNG, WebP, BMP, TIFF or AVIF picture, but {name} is none; save it as JPEG")
    if min(image.shape[:2]) < MIN_SIDE_PX:
        height, width = image.shape[:2]
        raise ImageError(f"a photo needs at least {MIN_SIDE_PX} pixels a side, but {name} is {width}×{height}")
    return np.asarray(image, np.uint8)


def fit(image: Image, size_hw: tuple[int, int], *, policy: FitPolicy = "center_crop",
        box_yxyx: tuple[int, int, int, int] | None = None, bgr_to_rgb: bool = False) -> Image:
    """Bring a picture (H, W, 3), uint8, any colour order, to the input size, cropping to `box_yxyx` before it shrinks.

    Returns:
        uint8, (size_hw[0], size_hw[1], 3), the same colour order, or RGB of a camera's BGR.

    Raises:
        ImageError: not a uint8 picture of three channels, one without pixels, or a box without area inside the picture.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ImageError(f"expected a uint8 picture of shape (H, W, 3), got {image.dtype} {image.shape}{_remedy(image)}")
    if box_yxyx is not None:
        image = _crop(image, box_yxyx)
    if policy == "center_crop":
        image = _crop(image, _central_box(image.shape[:2], size_hw))
    if policy != "letterbox":
        return _resize(image, size_hw, bgr_to_rgb=bgr_to_rgb)
    inner_hw = _inscribed(image.shape[:2], size_hw)
    top, left = (size_hw[0] - inner_hw[0]) // 2, (size_hw[1] - inner_hw[1]) // 2
    canvas = np.full((*size_hw, 3), LETTERBOX_GREY, np.uint8)
    canvas[top : top + inner_hw[0], left : left + inner_hw[1]] = _resize(image, inner_hw, bgr_to_rgb=bgr_to_rgb)
    return canvas


def _resize(image: Image, size_hw: tuple[int, int], *, bgr_to_rgb: bool) -> Image:
    """Halve by 2×2 (or 2×1) means while the side is twice what is wanted, which anti-aliases, then interpolate exactly."""
    height, width = size_hw
    while (tall := image.shape[0] >= 2 * height) | (wide := image.shape[1] >= 2 * width):
        halved_hw = (image.shape[0] >> tall, image.shape[1] >> wide)
        even = image[: halved_hw[0] << tall, : halved_hw[1] << wide]  # so that each mean is over whole pixels
        image = cv2.resize(even, halved_hw[::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    # Each channel by itself, in integers; OpenCV's vector code takes four of them, a sixth faster than three, detour included.
    four = cv2.resize(cv2.cvtColor(image, cv2.COLOR_BGR2BGRA), (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return np.asarray(cv2.cvtColor(four, cv2.COLOR_BGRA2RGB if bgr_to_rgb else cv2.COLOR_BGRA2BGR), np.uint8)


def _remedy(image: NDArray[Any]) -> str:
    """What to do with an array that is no picture, where it nearly is one."""
    channels = 1 if image.ndim == 2 else image.shape[2] if image.ndim == 3 else 0
    return {1: ": it is grey; convert it with cv2.COLOR_GRAY2BGR",
            4: ": it has transparency; convert it with cv2.COLOR_BGRA2BGR"}.get(channels, "")


def _crop(image: Image, box_yxyx: tuple[int, int, int, int]) -> Image:
    top, left = max(0, box_yxyx[0]), max(0, box_yxyx[1])
    cropped = image[top : max(0, box_yxyx[2]), left : max(0, box_yxyx[3])]
    if not cropped.size:
        raise ImageError(f"the box {box_yxyx} (top, left, bottom, right) has no area in a picture {image.shape[:2]}")
    return cropped


def _central_box(image_hw: tuple[int, ...], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The largest centred box with the aspect of `size_hw`."""
    height, width = _inscribed(size_hw, (image_hw[0], image_hw[1]))
    top, left = (image_hw[0] - height) // 2, (image_hw[1] - width) // 2
    return top, left, top + height, left + width


def _inscribed(shape_hw: tuple[int, ...], frame_hw: tuple[int, int]) -> tuple[int, int]:
    """The size of `shape_hw` scaled to touch `frame_hw` from inside; integers only, so that all machines agree."""
    height, width = shape_hw[0], shape_hw[1]
    if height * frame_hw[1] >= width * frame_hw[0]:
        return frame_hw[0], max(1, (2 * width * frame_hw[0] + height) // (2 * height))
    return max(1, (2 * height * frame_hw[1] + width) // (2 * width)), frame_hw[1]


def _is_heic(data: bytes) -> bool:
    """Whether a file is HEIF with a codec that OpenCV lacks; an AVIF may name HEIF's brands beside its own."""
    if data[4:8] != b"ftyp":
        return False
    brands = {data[at : at + 4] for at in range(8, min(64, int.from_bytes(data[:4], "big")), 4)}
    return not brands.isdisjoint(_HEIF_BRANDS) and brands.isdisjoint({b"avif", b"avis"})


def _is_animation(data: bytes) -> bool:
    """Whether a GIF, WebP, PNG or AVIF has frames; which of them OpenCV gives differs by version and format."""
    if data.startswith(b"GIF8"):
        return len(_GIF_FRAME.findall(data)) > 1
    if data.startswith(b"RIFF"):
        return data[12:16] == b"VP8X" and len(data) > 20 and bool(data[20] & 2)
    if data.startswith(b"\x89PNG"):
        at = data.find(b"acTL", 0, data.find(b"IDAT"))  # acTL: animation control, before the pixels
        return at > 0 and int.from_bytes(data[at + 4 : at + 8], "big") > 1
    return data[4:12] == b"ftypavis"


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG, PNG or WebP lacks its end. OpenCV fills what is missing with grey and says nothing."""
    if data.startswith(b"\xff\xd8"):
        scan = _jpeg_scan_start(data)
        return scan < 0 or data.find(b"\xff\xd9", scan) < 0  # in the scan, FF D9 is the end and nothing else
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    return False


def _jpeg_scan_start(data: bytes) -> int:
    """Where the first scan begins, past the headers (whose EXIF thumbnail has an end marker of its own); -1 if nowhere."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xDA:
            return at
        at += 1 if data[at + 1] == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return -1


def _refuse_transparency(image: NDArray[Any] | None, name: str) -> None:
    if image is None or image.ndim != 3 or image.shape[2] != 4:
        return
    opaque = np.iinfo(image.dtype).max
    if np.any(image[..., 3] != opaque):
        raise ImageError(f"expected 3 colour channels, got 4 in {name}; save it without transparency")
