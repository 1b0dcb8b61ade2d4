"""Another model while the door works: a new card is loaded, tested and warmed up aside, and taken between two frames.

A bundle that is not good changes nothing: the model in memory goes on, and the reason is told once. One that is still being
copied is tried again as its files arrive.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from pawlatch.card import CARD_NAME, read_bundle
from pawlatch.classify import Classifier
from pawlatch.errors import ModelCardError, PawlatchError
from pawlatch.selftest import FOLDER, selftest

logger = logging.getLogger(__name__)

_JOIN_S = 10.0
Signature = tuple[tuple[str, int, int, int], ...]  # of files: path, modified, inode, size


class ModelSlot:
    """Holds the model that a door runs, and looks about once a second whether `folder` (a bundle) has another card.

    `load` opens what is in `folder` now; `check` may refuse a model by raising PawlatchError. Both run in a thread.
    `suits` tells whether a model is still as it is to be, as in its number of threads: else the same card is loaded again.
    """

    def __init__(self, classifier: Classifier, *, folder: Path, load: Callable[[], Classifier],
                 check: Callable[[Classifier], object] = lambda classifier: None,
                 suits: Callable[[Classifier], bool] = lambda classifier: True, interval_s: float = 1.0) -> None:
        self._current, self._folder, self._load, self._check = classifier, folder, load, check
        self._suits = suits
        self._interval_s, self._looked_s = interval_s, float("inf")
        self._seen: Signature | None = None  # the card when it was last read; not yet
        self._whole: Signature | None = None  # all of the bundle at the last look, where that matters
        self._failed: Signature | None = None  # all of the bundle when it was refused
        self._thread: threading.Thread | None = None
        self._ready: Classifier | None = None
        self._refusal: str | None = None

    @property
    def current(self) -> Classifier:
        """The model in use."""
        return self._current

    @property
    def refusal(self) -> str | None:
        """Why the bundle on the disk is not the one in use; None if it is, or will be in a moment."""
        return self._refusal

    @property
    def is_loading(self) -> bool:
        """Whether another model is being prepared."""
        return self._thread is not None and self._thread.is_alive()

    def poll(self, now_s: float) -> None:
        """Look for a new card. To be called in each turn of the loop; it never waits and never raises."""
        self._looked_s = min(self._looked_s, now_s)  # the first time, a second after the first turn
        if self.is_loading or self._ready is not None or now_s - self._looked_s < self._interval_s:
            return
        self._looked_s = now_s
        seen = _signature(self._folder, with_files=False)
        is_news = seen != self._seen or not self._suits(self._current)
        is_open = is_news or self._failed is not None  # there may be something to do
        before, self._whole = self._whole, _signature(self._folder, with_files=True) if is_open else None
        is_settled = self._whole == before  # nobody has written for a second
        if is_open and is_settled and (seen != self._seen or self._whole != self._failed):
            self._seen = seen
            self._thread = threading.Thread(target=self._prepare, name="loader of the next model", daemon=True)
            self._thread.start()

    def take(self) -> Classifier | None:
        """The new model, which is `current` from now on, if one is ready. To be called between two frames."""
        if self._ready is None:
            return None
        self._current, self._ready = self._ready, None
        logger.info("the model is now %s, %s", self._current.card.name, self._current.variant)
        return self._current

    def close(self) -> None:
        """Wait for a model that is being prepared; one that hangs is left behind with a logged error. May be called twice."""
        if self._thread is not None:
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                logger.error("the %s does not end; its model cannot be loaded", self._thread.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _prepare(self) -> None:
        before = _signature(self._folder, with_files=True)
        try:
            _, card = read_bundle(self._folder)
            self._ready = self._good() if card != self._current.card or not self._suits(self._current) else None
        except PawlatchError as error:
            self._refuse(before, str(error))
        except Exception as error:  # whatever it is, the model in use goes on
            self._refuse(before, f"{type(error).__name__}: {error}")
        else:
            self._failed = self._refusal = None

    def _good(self) -> Classifier:
        """The model on the disk, tested on its bundle's photos, which also warms it up."""
        classifier = self._load()
        report = selftest(classifier)
        if not report.ok:
            raise ModelCardError(str(report))
        if not report.photos:
            classifier.warm_up()
        self._check(classifier)
        return classifier

    def _refuse(self, whole: Signature, reason: str) -> None:
        self._failed = whole
        if reason != self._refusal:
            logger.error("the bundle in %s is not used, %s goes on: %s", self._folder, self._current.card.name, reason)
        self._refusal = reason


def _signature(folder: Path, *, with_files: bool) -> Signature:
    """What shows that a file was changed or replaced, for the card alone or for all of the bundle."""
    return tuple(sorted(_stated(folder, with_files=with_files)))


def _stated(folder: Path, *, with_files: bool) -> Iterator[tuple[str, int, int, int]]:
    for each in (folder, folder / "edge"):
        for path in _files(each) if with_files else (each / CARD_NAME,):
            try:
                found = path.stat()
            except OSError:  # gone, or not there yet
                continue
            yield str(path), found.st_mtime_ns, found.st_ino, found.st_size


def _files(bundle: Path) -> Iterator[Path]:
    for each in (bundle, bundle / FOLDER):
        try:
            yield from each.iterdir()
        except OSError:
            continue
