"""Text on pictures, Hangul too: OpenCV 5 has a font of its own for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2

from pawlatch.image import Image

Colour = tuple[int, ...]  # in the channel order of the picture


def put_text(image: Image, text: str, at_xy: tuple[int, int], colour: Colour, px: int, *, weight: int = 400) -> None:
    """Write `text` into `image`, its baseline beginning at `at_xy`; `weight` is 400 for regular, 700 for bold."""
    if (font := _font()) is not None:
        cv2.putText(image, text, at_xy, colour, font, px, weight)
    else:
        stroke = 2 if weight > 400 else 1
        cv2.putText(image, _ascii(text), at_xy, cv2.FONT_HERSHEY_SIMPLEX, px / 30, colour, stroke, cv2.LINE_AA)


def text_width(text: str, px: int, *, weight: int = 400) -> int:
    """How many pixels `put_text` would take."""
    if (font := _font()) is not None:
        return int(cv2.getTextSize((0, 0), text, (0, 0), font, px, weight)[2])
    return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, px / 30, 1)[0][0])


@cache
def _font() -> Any:
    """OpenCV 5's built-in font with Hangul and more; None in OpenCV 4, which has only ASCII strokes."""
    return cv2.FontFace("uni") if hasattr(cv2, "FontFace") else None


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()
