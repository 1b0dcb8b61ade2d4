"""One animal: a build of tubes in a pose, dyed with its markings, as a sprite.

A dog here is one shape in two coat colours. The shape is the same for every dog and the colours come from one
distribution, so neither tells the own dog from a stranger; what does is the arrangement of the dark markings, which
cover the same share of every coat. Counting colours must fail on these pictures, looking at them must not.

Animals are made of tubes: spines of circles `x, y, radius` in body units, shoulder height 1, facing right, ground at
y = 0, y downwards. Points are complex numbers, so that turning a limb is a multiplication.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

OWN, OTHER, CAT = "own", "other", "cat"
KINDS = 3  # of strangers' markings

_DARK_SHARE = 0.42  # of the visible coat, the same for every animal

Array = NDArray[Any]  # of the dtype and shape that the line says
_Tubes = dict[str, Array]  # part -> (N, 2) complex128: centre, radius


# ------------------------------------------------------------------------------------------------------ bodies

_DOG = {
    "torso": [(-.56, -.76, .2), (-.36, -.8, .19), (.0, -.76, .21), (.34, -.72, .28), (.46, -.74, .25)],
    "neck": [(.38, -.8, .22), (.58, -1.02, .18), (.7, -1.22, .16)],
    "head": [(.68, -1.3, .18), (.8, -1.29, .19), (.98, -1.22, .115), (1.14, -1.19, .085)],
    "ear": [(.66, -1.42, .06), (.57, -1.34, .1), (.55, -1.16, .09), (.57, -1.08, .05)],
    "tail": [(-.66, -.84, .08), (-.86, -.96, .07), (-1.02, -1.14, .06), (-1.05, -1.32, .035)],
    "front": [(.42, -.66, .17), (.4, -.38, .1), (.42, -.14, .075), (.43, -.06, .07), (.51, -.05, .05)],
    "rear": [(-.5, -.72, .23), (-.42, -.46, .15), (-.6, -.27, .08), (-.56, -.06, .07), (-.46, -.05, .05)],
    "seat": [(-.22, -.29, .26), (-.02, -.27, .21), (.0, -.12, .1), (.06, -.06, .065), (.18, -.05, .05)],
    "nose": [(1.2, -1.23, .045), (1.22, -1.22, .045)],
    "eye": [(.885, -1.335, .026), (.895, -1.335, .026)],
}
_CAT = {
    "torso": [(-.58, -.65, .19), (-.2, -.67, .19), (.1, -.66, .2), (.36, -.68, .2), (.42, -.7, .18)],
    "neck": [(.38, -.74, .17), (.5, -.86, .14), (.58, -.96, .14)],
    "head": [(.58, -1.02, .17), (.66, -1.02, .2), (.74, -.99, .16), (.83, -.95, .08)],
    "ear": [(.58, -1.12, .11), (.56, -1.24, .055), (.54, -1.36, .008)],
    "tail": [(-.68, -.72, .06), (-.98, -.66, .05), (-1.18, -.86, .045), (-1.16, -1.22, .04), (-1.0, -1.44, .03)],
    "front": [(.36, -.6, .13), (.34, -.36, .07), (.36, -.12, .055), (.37, -.05, .05), (.44, -.04, .04)],
    "rear": [(-.54, -.58, .2), (-.42, -.38, .12), (-.58, -.22, .06), (-.54, -.05, .05), (-.46, -.04, .04)],
    "seat": [(-.2, -.25, .22), (-.02, -.22, .17), (.0, -.1, .08), (.05, -.05, .05), (.14, -.04, .04)],
    "nose": [(.895, -.985, .018), (.9, -.98, .018)],
    "eye": [(.745, -1.055, .032), (.755, -1.055, .032)],
}  # fmt: skip
_BUILDS: dict[str, _Tubes] = {
    who: {part: np.array([(complex(x, y), r) for x, y, r in rows]) for part, rows in shape.items()}
    for who, shape in {OWN: _DOG, OTHER: _DOG, CAT: _CAT}.items()
}
_LIMBS = ("far front", "far rear", "tail", "torso", "rear", "neck", "front", "head", "ear")  # back to front


class Pose(NamedTuple):
    """How an animal holds itself; all zeros is the rest position, in which its markings are laid out."""

    phase: float = 0.0  # of the gait, radians
    stride: float = 0.0  # 0 stands, 1 walks
    sit: float = 0.0  # 0 stands, 1 sits
    head: float = 0.0  # radians, nose down is positive
    tail: float = 0.0  # radians


def _turned(tube: Array, angle: float, pivot: complex, *, start: int = 0) -> Array:
    """The tube with its circles from `start` on turned about `pivot`."""
    tube = tube.copy()
    tube[start:, 0] = pivot + (tube[start:, 0] - pivot) * np.exp(1j * angle)
    return tube


def _leg(tube: Array, pose: Pose, *, beat: float) -> Array:
    """A leg at its beat of the gait: swung at the root, and bent at the knee while it comes forward."""
    stride = pose.stride * (1 - pose.sit)
    bend = 0.75 * stride * max(0.0, np.cos(pose.phase + beat))
    return _turned(_turned(tube, bend, tube[1, 0], start=2), -0.42 * stride * np.sin(pose.phase + beat), tube[0, 0])


def _tubes(build: _Tubes, pose: Pose) -> _Tubes:
    """The animal's parts in a pose: its back turns about the shoulder, its head about the neck, its legs in pairs."""
    shoulder, nape, root = build["torso"][-1, 0], build["neck"][1, 0], build["tail"][0, 0]
    recline, lift, far = -0.62 * pose.sit, (-0.05j * pose.sit, 0), (0.10 - 0.035j, 0)
    rear = build["rear"] + (build["seat"] - build["rear"]) * pose.sit
    legs = {
        "far front": _leg(build["front"], pose, beat=np.pi) + far,
        "far rear": _leg(rear, pose, beat=0) + far,
        "rear": _leg(rear, pose, beat=np.pi),
        "front": _leg(build["front"], pose, beat=0),
    }
    body = {
        "tail": _turned(_turned(build["tail"], 0.9 * pose.sit + pose.tail, root), recline, shoulder),
        "torso": _turned(build["torso"], recline, shoulder),
        "neck": _turned(build["neck"], pose.head, nape, start=2),
        **{part: _turned(build[part], pose.head, nape) for part in ("head", "ear", "nose", "eye")},
    }
    return legs | {part: tube + lift for part, tube in body.items()}


def outline(tube: Array) -> Array:
    """The rim of a tube, (M, 2) x, y: three rounds of Chaikin's corner cutting, offset to both sides, round ends."""
    for _ in range(3):
        cut = np.stack([0.75 * tube[:-1] + 0.25 * tube[1:], 0.25 * tube[:-1] + 0.75 * tube[1:]], axis=1)
        tube = np.concatenate([tube[:1], cut.reshape(-1, 2), tube[-1:]])
    centre, along = tube[:, 0], np.gradient(tube[:, 0])
    side = 1j * along / np.abs(along) * tube[:, 1].real
    cap = np.exp(-1j * np.linspace(0, np.pi, 9)[1:-1])
    rim = np.concatenate([centre + side, centre[-1] + side[-1] * cap, (centre - side)[::-1], centre[0] - side[0] * cap])
    return np.stack([rim.real, rim.imag], axis=1)


# ---------------------------------------------------------------------------------------------------- markings

_GRAIN = 64  # markings are kept at this many points a body unit
_CORNER = -1.5 - 1.7j  # of the body's plane
_X, _Y = np.meshgrid(np.arange(-1.5, 1.5, 1 / _GRAIN), np.arange(-1.7, 0.2, 1 / _GRAIN))


class Animal(NamedTuple):
    """One animal: its build, its markings and fur laid out in the rest position, and its two coat colours."""

    build: _Tubes
    markings: Array  # float32, dark where high
    fur: Array  # float32, about 0
    light_rgb: Array
    dark_rgb: Array


def _own_markings() -> Array:
    """Dark rump, hind legs and saddle; light face, chest and front. The same in every picture."""
    return np.asarray(-_X - 0.55 * _Y + 0.10 * np.sin(7 * _Y))


def _other_markings(rng: np.random.Generator, kind: int) -> Array:
    """A stranger's field; the coat is dark where it is high. Three kinds, none of them like the own dog's."""
    rough = cv2.resize(rng.uniform(-1, 1, (8, 12)), _X.shape[::-1], interpolation=cv2.INTER_CUBIC)
    size = rng.uniform(0.26, 0.34)
    row = np.round(_Y / size)
    stagger = 0.5 * (row % 2)
    column = np.round(_X / size - stagger) + stagger
    spots = 0.1 * rough - np.hypot(_X / size - column, _Y / size - row)
    if kind == 0:
        return np.asarray(spots)
    if kind == 1:  # light spots
        return np.asarray(-spots)
    angle = rng.uniform(0, np.pi)  # of bands
    across = _X * np.cos(angle) + _Y * np.sin(angle)
    return np.asarray(np.sin(2 * np.pi * across / (1.2 * size) + 0.8 * rough))


def any_animal(rng: np.random.Generator, who: str, *, kind: int | None = None) -> Animal:
    """An animal, marked as its `kind` if given; its colours come from one distribution, whoever it is."""
    kind = int(rng.integers(KINDS)) if kind is None else kind
    field = _own_markings() if who == OWN else _other_markings(rng, kind)
    fur = cv2.GaussianBlur(rng.standard_normal(_X.shape), (0, 0), sigmaX=2.5, sigmaY=0.8)
    light = np.array([232, 212, 184]) * rng.uniform(0.85, 1.05) + np.array([0.1, 0.45, 1.0]) * rng.uniform(-44, 28)
    dark = np.array([74, 56, 46]) * rng.uniform(0.55, 1.1) + np.array([1.0, 0.4, 0.1]) * rng.uniform(-20, 30)
    return Animal(_BUILDS[who], field.astype(np.float32), fur.astype(np.float32), light, dark)


# ------------------------------------------------------------------------------------------------------ sprite


def _unbent(tube: Array, rest: Array) -> tuple[complex, complex]:
    """`turn, shift` of the similarity that lays a posed part best, its thick end first, on its rest position."""
    weight = tube[:, 1].real ** 2 / np.sum(tube[:, 1].real ** 2)
    here, home = weight @ tube[:, 0], weight @ rest[:, 0]
    offset = (tube[:, 0] - here) * weight
    turn = np.vdot(offset, rest[:, 0] - home) / np.vdot(offset, tube[:, 0] - here)
    return turn, home - turn * here


def polygon(image: Array, points_xy: ArrayLike, colour: ArrayLike) -> None:
    """Fill a polygon (M, 2), in pixels, with a smooth edge; the colour is clipped to 0..255."""
    points = np.round(np.asarray(points_xy) * 16).astype(np.int32)
    cv2.fillPoly(image, [points], np.clip(np.atleast_1d(colour), 0, 255).tolist(), cv2.LINE_AA, shift=4)


def _coat(
    animal: Animal, tube: Array, rest: Array, *, corner: complex, scale: float, size_wh: tuple[int, int]
) -> tuple[Array, Array]:
    """The markings and the fur of a posed part, looked up where its pixels lie in the rest position."""
    turn, shift = _unbent(tube, rest)
    step = turn * _GRAIN / scale
    start = step * corner + (shift - _CORNER) * _GRAIN
    matrix = np.array([[step.real, -step.imag, start.real], [step.imag, step.real, start.imag]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    markings, fur = (
        cv2.warpAffine(plane, matrix, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        for plane in (animal.markings, animal.fur)
    )
    return markings, fur


def _dyed(animal: Animal, field: Array, cover: Array, shade: Array) -> Array:
    """The coat in its two colours, uint8 (h, w, 3): dark where the field is in the top share of what is covered."""
    threshold = np.quantile(field[cover > 0.5][::5], 1 - _DARK_SHARE)
    dark = cv2.blur((field > threshold).astype(np.float32), (3, 3))  # an edge of one width for all
    pairs = zip(animal.light_rgb, animal.dark_rgb, strict=True)
    rgb = cv2.merge([(light + dark * (deep - light)) * shade for light, deep in pairs])
    return np.asarray(np.clip(rgb, 0, 255).astype(np.uint8))


def sprite(animal: Animal, pose: Pose, *, scale: float, shine: bool) -> tuple[Array, complex]:
    """The animal facing right, `scale` pixels a unit: float32 (h, w, 4) RGB and coverage, premultiplied; its foot."""
    tubes, rest = _tubes(animal.build, pose), _tubes(animal.build, Pose())
    rims = {part: outline(tube) * scale for part, tube in tubes.items()}
    points = np.concatenate(list(rims.values()))
    corner = np.floor(points.min(axis=0)).astype(int) - 2
    width, height = np.ceil(points.max(axis=0)).astype(int) + 3 - corner
    rims = {part: rim - corner for part, rim in rims.items()}
    cover, field, shade = np.zeros((3, height, width), np.float32)
    for part in _LIMBS:
        rim, radius = rims[part], int(tubes[part][:, 1].real.max() * scale)
        (x0, y0), (x1, y1) = np.floor(rim.min(axis=0)).astype(int) - 1, np.ceil(rim.max(axis=0)).astype(int) + 2
        region = np.s_[y0:y1, x0:x1]
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        polygon(mask, rim - (x0, y0), 255)
        alpha = mask.astype(np.float32) / 255
        origin = complex(corner[0] + x0, corner[1] + y0)
        markings, fur = _coat(animal, tubes[part], rest[part], corner=origin, scale=scale, size_wh=mask.shape[::-1])
        field[region] += alpha * (markings - field[region])
        box = (max(3, radius) | 1,) * 2
        soft = cv2.blur(cv2.blur(alpha, box, borderType=cv2.BORDER_CONSTANT), box, borderType=cv2.BORDER_CONSTANT)
        slope = cv2.Sobel(soft, cv2.CV_32F, 0, 1, scale=0.027 * box[0])  # light falls from above
        tone = (0.72 if part.startswith("far") else 0.92) + slope + 0.06 * fur
        # Where a part lies on another its shade fades in from the rim, or each joint would show.
        fade = alpha if part in ("head", "ear") else alpha * (1 - cover[region] * (1 - np.minimum(1, 1.6 * soft**2)))
        shade[region] += fade * (tone - shade[region])
        np.maximum(cover[region], alpha, out=cover[region])
    rgb = _dyed(animal, field, cover, shade)
    polygon(rgb, rims["nose"], (34, 28, 30))
    polygon(rgb, rims["eye"], (248,) * 3 if shine else (28,) * 3)
    return cv2.merge([*(channel * cover for channel in cv2.split(rgb)), cover]), complex(*-corner)
