"""Curves, as PNG. matplotlib is imported when the first is drawn (half a second); it has no Hangul, so labels stay out.

What carries label names is drawn in `grids`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.calibration import reliability
from pawlatch.files import write_atomic
from pawlatch_train.grids import draw_confusion
from pawlatch_train.history import History
from pawlatch_train.judged import Judged

__all__ = ["draw_comparison", "draw_confusion", "draw_curves", "draw_reliability"]

GREY, GREEN, ORANGE = "#8a8f98", "#1f6f4a", "#b5541c"
BINS = 10


def draw_curves(history: History, path: Path) -> None:
    """Loss and accuracy over the epochs of both stages, with the line where fine-tuning began."""
    figure, axes = _figure(10, 3.8, columns=2)
    epochs = np.arange(1, len(history.loss) + 1)
    turn = history.stage.index("fine-tuned") + 0.5 if "fine-tuned" in history.stage else None
    for axis, name in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, getattr(history, name), label="training (augmented)", color=GREY, marker=_dot(history))
        if np.isfinite(judged := getattr(history, f"val_{name}")).any():  # else no photos were left to choose
            axis.plot(epochs, judged, label="validation", color=GREEN, marker=_dot(history))
        if turn is not None:
            axis.axvline(turn, color=ORANGE, linewidth=1, linestyle="--", label="fine-tuning begins")
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(0, 1.02)
    axes[1].legend(loc="lower right")
    _write(figure, path)


def draw_comparison(histories: Mapping[str, History], path: Path, *, field: str) -> None:
    """Training and validation curves of all runs in one plot; a dot marks the first epoch of fine-tuning.

    `histories` by the value of the recipe's `field` that each run had.
    """
    figure, axes = _figure(11, 7, rows=2, columns=2)
    ceiling = 1.1 * max((value for history in histories.values() for value in (*history.loss[:1], *history.val_loss[:1])
                         if math.isfinite(value)), default=1.0)
    for row, (prefix, which) in enumerate((("", "training"), ("val_", "validation"))):
        for axis, name in zip(axes[row], ("loss", "accuracy"), strict=True):
            for i, (value, history) in enumerate(histories.items()):
                curve = getattr(history, prefix + name)
                dots = [] if history.turn is None else [history.turn]
                axis.plot(np.arange(1, len(curve) + 1), curve, label=value.replace("$", r"\$"), color=f"C{i % 10}",
                          linestyle="-" if i < 10 else "--", marker="o", markevery=dots, markersize=5)
            axis.set(xlabel="epoch", title=f"{which} {name}")
            axis.set_ylim(*((0, ceiling) if name == "loss" else (0, 1.02)))  # a run that diverges leaves the plot
            axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside right upper", title=field)
    _write(figure, path)


def draw_reliability(judged: Judged, path: Path) -> None:
    """How often the model was right where it said so with a score of 0.5, 0.6, ...; on the diagonal it can be believed."""
    figure, (axis, counts) = _figure(5.4, 5.4, rows=2, height_ratios=[3, 1], sharex=True)
    axis.plot([0, 1], [0, 1], color="#c9c9c4", linewidth=1)
    for scores, label, colour in ((judged.raw_scores, "before the temperature", GREY), (judged.scores, "after", GREEN)):
        by_bin = reliability(scores, judged.targets, bins=BINS)
        low, high = (end[by_bin.photos > 0] for end in by_bin.intervals())
        middle, share = (part[by_bin.photos > 0] for part in (by_bin.confidence, by_bin.accuracy))
        offset = 0.006 if colour == GREEN else -0.006
        axis.errorbar(middle + offset, share, yerr=[share - low, high - share], label=label, color=colour, fmt="o-", capsize=2,
                      linewidth=1.2, markersize=4, elinewidth=0.8)
    axis.set(ylabel="share that was right (95 % interval)", ylim=(0, 1.02), xlim=(0, 1))
    axis.legend(loc="upper left")
    counts.hist(judged.confidence, bins=np.linspace(0, 1, 2 * BINS + 1), color=GREEN)
    counts.set(xlabel="score of what was predicted", ylabel="photos")
    _write(figure, path)


def _dot(history: History) -> str | None:
    return "o" if len(history.loss) == 1 else None  # a line needs two epochs


def _figure(width: float, height: float, *, rows: int = 1, columns: int = 1, **how: Any) -> tuple[Any, Any]:
    """Without pyplot, which keeps figures of its own and looks for a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, **how)
    for axis in np.ravel(axes):
        axis.grid(alpha=0.2)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _write(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    write_atomic(path, buffer.getvalue())
