"""A clock to turn by hand, predictions by hand, and small clips of coloured squares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pawlatch.classify import Prediction
from pawlatch.decide import Observation

FPS = 10
COLOURS_BGR = {"own": (40, 40, 200), "other": (200, 40, 40)}


class Clock:
    """Shows the time it was set to."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> Callable[..., Observation]:
    """`seen(time_s, own=…, other=…)`: an observation; what is left of 1 is the empty place's."""

    def observe(time_s: float, *, own: float = 0.0, other: float = 0.0) -> Observation:
        scores = np.array([own, other, 1 - own - other], np.float32)
        return Observation(time_s, Prediction(("own", "other", "_empty"), scores, np.zeros(4, np.float32)))

    return observe


def porch(who: str | None, step: int) -> np.ndarray:
    """A 160×120 porch, BGR, with who's square at its step of the way."""
    image = np.full((120, 160, 3), 120, np.uint8)
    image[:, ::20] = 90
    if who is not None:
        left = 10 + 4 * (step % 20)
        image[40:100, left : left + 50] = COLOURS_BGR[who]
    return image


@pytest.fixture
def draw_clip(tmp_path: Path) -> Callable[..., Path]:
    """`draw_clip("own", [(1, None), (2, "own")])`: a clip of one second without and two with a square."""

    def draw(name: str, script: list[tuple[float, str | None]]) -> Path:
        path = tmp_path / f"{name}.mp4"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
        for seconds, who in script:
            for step in range(round(seconds * FPS)):
                writer.write(porch(who, step))
        writer.release()
        return path

    return draw
