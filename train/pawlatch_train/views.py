"""What the frozen part of a network says of each photo and of augmented views of it, computed once and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import OutputError
from pawlatch.image import Image
from pawlatch_train.augment import Augmentation, augment
from pawlatch_train.store import ArrayFile

CHUNK = 32
Function = Callable[[NDArray[np.uint8]], NDArray[Any]]  # pixels (n, H, W, 3) -> (n, ...)


@dataclass(frozen=True)
class Variations:
    """Augmented views of photos. View 0 is the photo itself; any other follows from (seed, view, photo) alone."""

    pixels: ArrayFile  # uint8 (n, H, W, 3)
    how: Augmentation
    seed: int

    def view(self, photo: int, view: int) -> Image:
        """One view of one photo, uint8 (H, W, 3)."""
        image: Image = self.pixels.take([photo])[0]
        if view == 0:
            return image
        rng = np.random.default_rng([self.seed, view, photo])
        return augment(image, rng, size_hw=(image.shape[0], image.shape[1]), how=self.how)

    def views(self, photos: Sequence[int] | NDArray[np.int64], views: Sequence[int] | NDArray[np.int64]) -> NDArray[np.uint8]:
        """The views (n, H, W, 3) of photos, pair by pair."""
        return np.stack([self.view(int(photo), int(view)) for photo, view in zip(photos, views, strict=True)])


class Views:
    """A function of views, kept: of every photo as it is, and of `count` augmented views of the `varied` ones."""

    def __init__(self, file: ArrayFile, photos: int, varied: NDArray[np.int64], count: int) -> None:
        self._file, self._photos, self.varied, self.count = file, photos, varied, count
        self._place = np.full(photos, -1)
        self._place[varied] = np.arange(len(varied))

    def take(self, photos: Sequence[int] | NDArray[np.int64], views: int | NDArray[np.int64] = 0) -> NDArray[Any]:
        """What is kept of these views of these photos: (n, ...)."""
        photos = np.asarray(photos, np.int64)
        views = np.broadcast_to(views, photos.shape)
        varied = self._photos + (views - 1) * len(self.varied) + self._place[photos]
        return self._file.take(np.where(views == 0, photos, varied))

    def derive(self, function: Callable[[NDArray[Any]], NDArray[Any]], path: Path) -> Views:
        """What `function` makes of everything that is kept, kept as float32."""
        file = ArrayFile(path, function(self._file.take([0])).shape[1:], np.float32)
        for start in range(len(file), len(self._file), CHUNK):
            file.append(function(self._file.take(range(start, min(start + CHUNK, len(self._file))))))
        return Views(file, self._photos, self.varied, self.count)


def compute_views(function: Function, variations: Variations, varied: NDArray[np.int64], *, count: int, path: Path,
                  dtype: type[np.generic]) -> Views:
    """Run `function` over every photo and over `count` augmented views of the `varied` ones; what lies in `path` is not redone.

    Raises:
        OutputError: the disk is full.
    """
    photos = len(variations.pixels)
    pairs = [(photo, 0) for photo in range(photos)]
    pairs += [(int(photo), view) for view in range(1, count + 1) for photo in varied]
    file = ArrayFile(path, function(variations.views([0], [0])).shape[1:], dtype)
    try:
        for pixels in _ahead(variations, pairs[len(file):]):
            file.append(function(pixels))
    except OSError as error:
        file.close()
        raise OutputError(f"cannot write {path} ({error.strerror}); make room, or name another place with -o") from error
    return Views(file, photos, varied, count)


def _ahead(variations: Variations, pairs: Sequence[tuple[int, int]]) -> Iterator[NDArray[np.uint8]]:
    """The pixels of the pairs, a chunk at a time, drawn one chunk ahead in a thread of its own."""
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]

    def draw(chunk: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
        return variations.views([photo for photo, _ in chunk], [view for _, view in chunk])

    with ThreadPoolExecutor(1, "views") as thread:
        waiting = [thread.submit(draw, chunk) for chunk in chunks[:2]]
        for index in range(len(chunks)):
            pixels = waiting.pop(0).result()
            if index + 2 < len(chunks):
                waiting.append(thread.submit(draw, chunks[index + 2]))
            yield pixels

