"""The same moment photographed, saved or uploaded twice: fingerprints of pictures, and groups of those that agree.

A photo and its near duplicate on the two sides of a split make a model look better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pawlatch.image import Image, fit

HASH_BYTES = 64  # 8 of the DCT, 8 of gradients, 48 of colours

_BITS = 128  # of the DCT and of gradients; pictures that have nothing in common differ in about 64
_SAME = 18  # bits; what recompression, resizing, recolouring and watermarks change
_BURST_S = 10.0  # two photos taken closer than this are of one moment if they are at all alike
_BURST = (48, 30.0)
_LEVELS = ((34, 18.0), (20, 10.0), (8, 6.0))  # bits, and grey levels (root mean square of the colours)
_MISLABELLED = (6, 6.0)  # what it takes to be of one moment under different labels: one camera sees different animals alike
_BLOCK = 512  # rows of the distance matrix that are in memory at once


def perceptual_hash(image_rgb: Image) -> bytes:
    """64 bytes that hardly change when a picture (H, W, 3), uint8, RGB, is resized, recompressed or recoloured.

    8 bytes: signs against their median of the 8×8 lowest frequencies of the DCT of 32×32 grey levels (pHash: C. Zauner,
    "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2). 8 bytes: whether each of 8×9
    grey cells is darker than its right neighbour (dHash: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013).
    48 bytes: the mean RGB of 4×4 cells (a colour layout, as in MPEG-7; E. Kasutani and A. Yamada, ICIP 2001).
    """
    small = fit(image_rgb, (32, 32), policy="stretch")
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    lowest = cv2.dct(grey)[:8, :8].ravel()
    cells = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    bits = np.concatenate([lowest > np.median(lowest[1:]), (cells[:, :-1] < cells[:, 1:]).ravel()])
    return np.packbits(bits).tobytes() + fit(small, (4, 4), policy="stretch").tobytes()


def near_duplicate_groups(hashes: Sequence[bytes], *, labels: Sequence[str] | None = None,
                          stamps: Sequence[datetime | None] | None = None) -> NDArray[np.int64]:
    """Number the groups of photos that show the same moment, (n,), in order of their first photos.

    Two photos are alike if their 128 bits differ in at most 18, or in at most 34 where the colours agree too, or in at most
    48 where both were taken (`stamps`) within ten seconds; in at most 6 if their labels differ. Whatever is alike goes
    together, through others too. Only a group of more than a twentieth of the photos (6 at least, 25 at most) is rather one
    place than one moment and is cut at stricter levels, so that what a fixed camera sees does not become one group.

    Memory is some 512 rows of the distances.
    """
    packed = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, HASH_BYTES)
    photos = _Photos(
        np.unpackbits(packed[:, : _BITS // 8], axis=1).astype(np.float32) * 2 - 1,
        packed[:, _BITS // 8 :].astype(np.float32),
        np.unique(labels, return_inverse=True)[1] if labels else np.zeros(len(packed), np.int64),
        np.array([np.nan if stamp is None else stamp.timestamp() for stamp in stamps or [None] * len(packed)]),
    )
    groups = np.arange(len(packed))
    most = min(25, max(6, len(packed) // 20))
    pending = [(groups, 0)]
    while pending:
        members, level = pending.pop()
        groups = groups.copy()
        groups[members] = members[_connected(photos.take(members), level)]
        if level + 1 < len(_LEVELS):
            names, sizes = np.unique(groups[members], return_counts=True)
            pending += [(members[groups[members] == name], level + 1) for name in names[sizes > most]]
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


class _Photos(NamedTuple):
    """`signs` (n, 128) ±1, `colours` (n, 48), `labels` (n,) numbers, `times` (n,) seconds or NaN."""

    signs: NDArray[Any]
    colours: NDArray[Any]
    labels: NDArray[Any]
    times: NDArray[Any]

    def take(self, which: NDArray[Any] | slice) -> _Photos:
        return _Photos(*(column[which] for column in self))


def _connected(photos: _Photos, level: int) -> NDArray[np.int64]:
    """The index of each photo's first relative, itself or another, through any number of alike ones: (n,)."""
    first = np.arange(len(photos.labels))
    for start in range(0, len(first), _BLOCK):
        alike = _alike(photos.take(slice(start, start + _BLOCK)), photos, level)
        for row in np.flatnonzero(np.count_nonzero(alike, axis=1) > 1):  # each is like itself
            relatives = first[alike[row]]
            if (least := relatives.min()) != relatives.max():
                first[np.isin(first, np.unique(relatives))] = least
    return first


def _alike(some: _Photos, others: _Photos, level: int) -> NDArray[np.bool_]:
    """Whether two photos show one moment, (some, others). By matrix products: of ±1, s·t = 128 − 2 · (bits that differ)."""
    bits = (_BITS - some.signs @ others.signs.T) / 2
    squares = (some.colours**2).sum(axis=1)[:, None] + (others.colours**2).sum(axis=1) - 2 * some.colours @ others.colours.T
    rms = np.sqrt(np.maximum(squares, 0) / some.colours.shape[1])

    def within(limits: tuple[float, float]) -> NDArray[np.bool_]:
        return np.asarray((bits <= limits[0]) & (rms <= limits[1]))

    alike = within(_LEVELS[level])
    if level == 0:
        alike |= bits <= _SAME
        if np.isfinite(some.times).any():
            alike |= (np.abs(some.times[:, None] - others.times) <= _BURST_S) & within(_BURST)
    return np.asarray(np.where(some.labels[:, None] == others.labels, alike, within(_MISLABELLED)))
