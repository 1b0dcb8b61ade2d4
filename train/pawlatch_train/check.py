"""`pawlatch train --check photos/`: every photo decoded once, what is wrong with the set, and what to do about it."""

from __future__ import annotations

import os
import textwrap
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pawlatch.errors import ImageError, PhotosError
from pawlatch.image import Image, decode_image
from pawlatch.photos import EMPTY, SPLITS, Photo, SetAside, list_splits
from pawlatch_train.duplicates import near_duplicate_groups
from pawlatch_train.facts import FLAGS, PhotoFacts, measure
from pawlatch_train.findings import Finding, by_severity, find

__all__ = ["Finding", "PhotoCheck", "PhotoFacts", "check_photos", "render_check"]

_AHEAD = 2  # pictures that are decoded beside one for each core
_COLUMNS = 100
_SHOWN = 10  # of the files set aside
_TELL_EVERY = 500


@dataclass(frozen=True, eq=False)
class PhotoCheck:
    """A folder of photos, looked at.

    Attributes:
        facts: of each readable photo, in listing order.
        groups: (n,) int64, numbers of near-duplicate groups, one for each of `facts`.
        listed: photos by (split, label), unreadable ones too.
    """

    folder: Path
    facts: list[PhotoFacts]
    groups: NDArray[np.int64]
    findings: list[Finding]
    set_aside: list[SetAside]
    listed: Counter[tuple[str, str]]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, sorted."""
        return tuple(sorted({label for _, label in self.listed}))

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of train, valid, test that the user made, or "" alone."""
        return tuple(split for split in ("", *SPLITS) if any(made == split for made, _ in self.listed))

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Readable photos by (split, label)."""
        return Counter((fact.split, fact.photo.label) for fact in self.facts)

    def relative(self, path: Path) -> str:
        """A photo's path as a person knows it: from the folder on."""
        return path.relative_to(self.folder).as_posix()

    def indices(self, label: str) -> list[int]:
        """Of a label's photos in `facts`."""
        return [i for i, fact in enumerate(self.facts) if fact.photo.label == label]


def check_photos(folder: Path, *, on_photo: Callable[[int, Photo, Image], None] = lambda *_: None,
                 progress: Callable[[str], None] = lambda line: None) -> PhotoCheck:
    """Decode every photo of a folder once and say what is wrong with the set. Nothing in the folder is changed.

    Args:
        on_photo: called in listing order from this thread with an index into `facts`, the photo, and its pixels
            (H, W, 3), uint8, RGB; the pixels are not kept.
        progress: told by lines how far the reading is.

    Raises:
        PhotosError: no such folder, no photo in it, photos of fewer than two labels, or none that can be read.
    """
    listed = [(split, photo) for split, photos in list_splits(folder).items() for photo in photos]
    _require_labels(folder, [photo.label for split, photo in listed if split in ("", "train")])
    facts: list[PhotoFacts] = []
    set_aside: list[SetAside] = []
    for done, (photo, outcome) in enumerate(_looked_at(folder, listed), 1):
        if isinstance(outcome, ImageError):
            set_aside.append(SetAside(photo.path, str(outcome)))
        else:
            fact, image = outcome
            facts.append(fact)
            on_photo(len(facts) - 1, photo, image)
        if done % _TELL_EVERY == 0 or done == len(listed):
            progress(f"read {done} of {len(listed)} photos")
    if not any(fact.split in ("", "train") for fact in facts):
        raise PhotosError(f"no readable photo is left to train on in {folder}; the first set aside: {set_aside[0].reason}")
    groups = near_duplicate_groups([fact.hash for fact in facts], labels=[fact.photo.label for fact in facts],
                                   stamps=[fact.taken for fact in facts])
    findings = by_severity([*_unreadable(set_aside), *find(facts, groups)])
    return PhotoCheck(folder, facts, groups, findings, set_aside, Counter((split, photo.label) for split, photo in listed))


def render_check(check: PhotoCheck) -> str:
    """The counts by label and split, the findings, and what was set aside, for a terminal of 100 columns."""
    rows = [["", *(split or "photos" for split in check.splits), "moments", *FLAGS]]
    for label in check.labels:
        mine = check.indices(label)
        rows.append([
            _shorten(label), *(str(check.counts[split, label]) for split in check.splits),
            str(len(set(check.groups[mine].tolist()))), *(str(_flagged(check, mine, flag) or "-") for flag in FLAGS),
        ])  # fmt: skip
    first = max(_width(row[0]) for row in rows)
    lines = [f"{check.folder}: {len(check.facts)} photos of {len(check.labels)} labels, {len(check.set_aside)} files set aside"]
    lines += [row[0] + " " * (first - _width(row[0])) + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    lines += _findings_lines(check)
    lines += [_wrap(f"{check.relative(item.path)}: {item.reason}", "  ") for item in check.set_aside[:_SHOWN]]
    if len(check.set_aside) > _SHOWN:
        lines.append(f"  and {len(check.set_aside) - _SHOWN} more")
    return "\n".join(lines)


def _looked_at(folder: Path, listed: Sequence[tuple[str, Photo]]) -> Iterator[
        tuple[Photo, tuple[PhotoFacts, Image] | ImageError]]:
    """Decode on all cores (OpenCV lets go of the interpreter meanwhile), in order, and never far ahead of the consumer."""
    workers = os.cpu_count() or 1
    pending: deque[Future[tuple[PhotoFacts, Image] | ImageError]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for i, (_, photo) in enumerate(listed):
            while i + len(pending) < min(len(listed), i + workers + _AHEAD):
                split, ahead = listed[i + len(pending)]
                pending.append(pool.submit(_look, folder, split, ahead))
            yield photo, pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look(folder: Path, split: str, photo: Photo) -> tuple[PhotoFacts, Image] | ImageError:
    name = photo.path.relative_to(folder).as_posix()
    try:
        data = photo.path.read_bytes()
        image = decode_image(data, name=name)
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(f"cannot read {name}: {error.strerror}; check its permissions")
    return measure(photo, split, data, image), image


def _require_labels(folder: Path, labels: Sequence[str]) -> None:
    if len(set(labels)) < 2:
        named = ", ".join(sorted(set(labels))) or "none"
        raise PhotosError(
            f"training needs photos of at least two labels, but {folder} has {named}; add a folder of others beside it, "
            f"for example {folder}/_other/ with other animals or {folder}/{EMPTY}/ with the place alone"
        )


def _unreadable(set_aside: Sequence[SetAside]) -> Iterator[Finding]:
    if set_aside:
        yield Finding("unreadable", "warning", (), f"set aside, each with its reason below: {len(set_aside)} of the files")


def _findings_lines(check: PhotoCheck) -> list[str]:
    if not check.findings:
        return ["nothing to complain of"]
    lines = []
    for finding in check.findings:
        lines.append(_wrap(f"{finding.severity + ':':<8} {finding.sentence}", " " * 9))
        if finding.photos and len(finding.photos) <= len(check.facts) // 2:
            named = [check.relative(check.facts[i].photo.path) for i in finding.photos[:2]]
            lines.append(_wrap(f"{' ' * 9}for example {', '.join(named)}", " " * 9))
    return lines


def _flagged(check: PhotoCheck, indices: Sequence[int], flag: str) -> int:
    return sum(flag in check.facts[i].flags for i in indices)


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False)


def _shorten(label: str) -> str:
    while _width(label) > 24:
        label = label[:-2] + "…"
    return label


def _width(text: str) -> int:
    """Columns of a terminal; Hangul and the like take two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
