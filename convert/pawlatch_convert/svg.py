"""Two small figures as inline SVG: scores against scores, and scores against shares of right answers."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from pawlatch.calibration import Reliability

SIDE = 220  # of the plot, in CSS pixels
_LEFT, _BELOW, _ABOVE, _RIGHT = 38, 34, 20, 8  # for what is written around it
_TICKS = (0.0, 0.5, 1.0)
ENOUGH = 5  # photos in a bin; of fewer the share of right answers jumps

Floats = NDArray[np.float64]


def scatter(before: Floats, after: Floats, *, title: str, marked: NDArray[np.bool_], threshold: float | None) -> str:
    """A score of each photo (n,), 0..1, by the SavedModel (across) and by a variant (up); `marked` ones in red, on top."""
    lines = ""
    if threshold is not None:
        x, y = _x(threshold), _y(threshold)
        lines = f'<path class="threshold" d="M{x} {_y(0)}V{_y(1)}M{_x(0)} {y}H{_x(1)}"/>'
    plain = f'<path class="dots" d="{_dots(before[~marked], after[~marked])}"/>'
    red = f'<path class="dots marked" d="{_dots(before[marked], after[marked])}"/>'
    return _plot(title, "SavedModel", "variant", lines + plain + red)


def calibration(before: Reliability, after: Reliability, *, title: str) -> str:
    """Shares of right answers (up) by mean score (across): the SavedModel's in grey, the variant's in green."""
    drawn = "".join(
        f'<path class="{kind}" d="{_polyline(curve)}"/><path class="dots {kind}" d="{_dots(*_filled(curve))}"/>'
        for kind, curve in (("before", before), ("after", after))
    )
    return _plot(title, "score", "share right", drawn)


def _plot(title: str, across: str, up: str, inside: str) -> str:
    width, height = _LEFT + SIDE + _RIGHT, _ABOVE + SIDE + _BELOW
    ticks = "".join(
        f'<text x="{_x(tick)}" y="{_y(0) + 14}" text-anchor="middle">{tick:g}</text>'
        f'<text x="{_LEFT - 5}" y="{_y(tick) + 4}" text-anchor="end">{tick:g}</text>'
        for tick in _TICKS
    )
    middle = _y(0.5)
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
        f'<text class="title" x="{_x(0.5)}" y="13" text-anchor="middle">{escape(title)}</text>'
        f'<rect class="frame" x="{_LEFT}" y="{_ABOVE}" width="{SIDE}" height="{SIDE}"/>'
        f'<path class="diagonal" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>{inside}{ticks}'
        f'<text x="{_x(0.5)}" y="{height - 4}" text-anchor="middle">{across}</text>'
        f'<text x="10" y="{middle}" text-anchor="middle" transform="rotate(-90 10 {middle})">{up}</text></svg>'
    )


def _dots(x: Floats, y: Floats) -> str:
    """A line of no length for each point, which round ends make a dot: a tenth of the text that circles take."""
    return "".join(f"M{_x(a)} {_y(b)}h0" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _polyline(curve: Reliability) -> str:
    x, y = _filled(curve)
    points = [f"{_x(a)} {_y(b)}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    return "M" + "L".join(points) if points else ""


def _filled(curve: Reliability) -> tuple[Floats, Floats]:
    enough = curve.photos >= ENOUGH
    return curve.confidence[enough], curve.accuracy[enough]


def _x(value: float) -> float:
    return round(_LEFT + SIDE * value, 1)


def _y(value: float) -> float:
    return round(_ABOVE + SIDE * (1 - value), 1)
