"""What a person looks at after training: the curves and the confusion matrix, as PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pawlatch.files import write_atomic
from pawlatch_train.model import History


def draw_curves(history: History, path: Path) -> None:
    """Loss and accuracy over the epochs of both stages."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    epochs = np.arange(1, len(history.loss) + 1)
    turn = history.stage.index("fine-tuned") + 0.5 if "fine-tuned" in history.stage else None
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), constrained_layout=True)
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, getattr(history, name), label="training (augmented)", color="#8a8f98")
        axis.plot(epochs, getattr(history, f"val_{name}"), label="validation", color="#1f6f4a")
        if turn is not None:
            axis.axvline(turn, color="#b5541c", linewidth=1, linestyle="--", label="fine-tuning starts")
        axis.set(xlabel="epoch", title=name)
        axis.grid(alpha=0.2)
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    plt.close(figure)
    write_atomic(path, buffer.getvalue())


def draw_confusion(confusion: NDArray[np.int64], labels: tuple[str, ...], path: Path) -> None:
    """The confusion matrix (n, n), rows truth, columns prediction, on held-out photos.

    Drawn with OpenCV's own font, which holds Hangul; matplotlib's does not.
    """
    import cv2

    from pawlatch.text import put_text, text_width

    cell, size = 72, 18
    margin = max(text_width(label, size) for label in labels) + 24
    top = margin + 40
    side = cell * len(labels)
    picture = np.full((top + side + 16, margin + side + 24, 3), 255, np.uint8)
    put_text(picture, "rows: truth   columns: prediction", (12, 26), (90, 90, 90), 15)
    shares = confusion / np.maximum(1, confusion.sum(axis=1, keepdims=True))
    for row, label in enumerate(labels):
        put_text(picture, label, (12, top + row * cell + cell // 2 + 6), (30, 30, 30), size)
        _put_upright(picture, label, (margin + row * cell + cell // 2 - 10, top - 10), size)
        for column, share in enumerate(shares[row]):
            corner = (margin + column * cell, top + row * cell)
            ink = (74, 111, 31) if row == column else (28, 84, 181)
            colour = tuple(255 - (255 - channel) * share for channel in ink)
            cv2.rectangle(picture, corner, (corner[0] + cell - 3, corner[1] + cell - 3), colour, cv2.FILLED)
            number = str(int(confusion[row, column]))
            at = (corner[0] + (cell - text_width(number, size)) // 2, corner[1] + cell // 2 + 6)
            put_text(picture, number, at, (255, 255, 255) if share > 0.5 else (60, 60, 60), size)
    write_atomic(path, cv2.imencode(".png", picture)[1].tobytes())


def _put_upright(picture: NDArray[np.uint8], text: str, foot_xy: tuple[int, int], size: int) -> None:
    """Write a text upwards, its beginning at `foot_xy`."""
    from pawlatch.text import put_text, text_width

    strip = np.full((size + 8, text_width(text, size) + 4, 3), 255, np.uint8)
    put_text(strip, text, (0, size), (30, 30, 30), size)
    upright = np.rot90(strip)
    left, bottom = foot_xy
    picture[bottom - upright.shape[0] : bottom, left : left + upright.shape[1]] = upright
