"""What a folder of photos will do to a model, told before any training: each finding with its remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pawlatch.photos import EMPTY
from pawlatch_train.facts import BLURRED, DARK, FLAGS, GREY, TINY, TINY_SIDE_PX, PhotoFacts

Severity = Literal["error", "warning", "note"]

IMBALANCE = 3
FEW = 20  # photos of a label
SUSPECT_LEAST = 8  # photos of a label; fewer agree by chance
SUSPECT_GAIN = 0.7  # three sets of real photos, taken in many places, reach 0.1 to 0.4
SUSPECT_DAY = 0.8  # share of a label's dated photos
_NEIGHBOURS = 3
_BLOCK = 512

_FLAGGED: dict[str, tuple[str, Severity, str]] = {
    TINY: (f"under {TINY_SIDE_PX} pixels on a side", "warning", "take larger ones, or the camera's own"),
    DARK: ("dark all over", "warning", "such photos help only if the animal can be seen; add light at the door"),
    BLURRED: ("blurred", "warning", "such photos help only if the animal can be told"),
    GREY: ("near grey, as from an infra-red camera", "note", "good if the door's camera sees so at night"),
}


@dataclass(frozen=True)
class Finding:
    """What was found, `sentence` with its remedy, and `photos`: indices into the facts, those of one group side by side."""

    kind: str
    severity: Severity
    photos: tuple[int, ...]
    sentence: str


def find(facts: Sequence[PhotoFacts], groups: NDArray[np.int64]) -> list[Finding]:
    """All findings about readable photos, the gravest first."""
    found = [*_strange_labels(facts), *_amounts(facts), *_copies(facts), *_near_duplicates(facts, groups),
             *_background(facts, groups), *_day(facts), *_flagged(facts)]  # fmt: skip
    return by_severity(found)


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes."""
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))


def training(facts: Sequence[PhotoFacts]) -> list[int]:
    """Indices of what may be trained on: the user's train/, or everything where there are no splits."""
    return [i for i, fact in enumerate(facts) if fact.split in ("", "train")]


def _strange_labels(facts: Sequence[PhotoFacts]) -> Iterator[Finding]:
    known = {facts[i].photo.label for i in training(facts)}
    for split in ("valid", "test"):
        mine = {fact.photo.label for fact in facts if fact.split == split}
        if strange := sorted(mine - known):
            photos = tuple(i for i, fact in enumerate(facts) if fact.split == split and fact.photo.label in strange)
            yield Finding("strange label", "error", photos,
                          f"{split}/ has labels that train/ lacks: {', '.join(strange)}; add photos of them to train/")
        if mine and (missing := sorted(known - mine)):
            yield Finding("missing label", "error", (),
                          f"{split}/ has no photo of {', '.join(missing)}; move some there, or make no splits at all")


def _amounts(facts: Sequence[PhotoFacts]) -> Iterator[Finding]:
    counts = Counter(facts[i].photo.label for i in training(facts))
    if few := [f"{label} ({count})" for label, count in sorted(counts.items()) if count < FEW]:
        yield Finding("few", "note", (),
                      f"few photos: {', '.join(few)}; {FEW} to 100 a label, on several days, make a good door")
    ranked = counts.most_common()
    most, least = ranked[0], ranked[-1]
    if most[1] > IMBALANCE * least[1]:
        yield Finding("imbalance", "warning", (),
                      f"{most[0]} has {most[1]} photos and {least[0]} {least[1]}, over {IMBALANCE} to 1; training weighs the "
                      f"labels evenly, but only more photos of {least[0]} show it from all sides")


def _copies(facts: Sequence[PhotoFacts]) -> Iterator[Finding]:
    sets: dict[str, list[int]] = {}
    for i, fact in enumerate(facts):
        sets.setdefault(fact.sha256, []).append(i)
    copies = [members for members in sets.values() if len(members) > 1]
    labels = [_facing(members, [facts[i].photo.label for i in members]) for members in copies]
    splits = [_facing(members, [facts[i].split for i in members]) for members in copies]
    yield from _grouped("copies across labels", "error", labels, "the same file stands under different labels ({})",
                        "keep the right one")
    yield from _grouped("copies across splits", "warning", splits, "the same file stands in different splits ({})",
                        "training leaves out what is held out; remove the copies")
    within = [members for members, *across in zip(copies, labels, splits, strict=True) if not any(across)]
    yield from _grouped("copies", "note", within, "the same file stands there twice or more ({})",
                        "it only counts more often; remove the copies")


def _near_duplicates(facts: Sequence[PhotoFacts], groups: NDArray[np.int64]) -> Iterator[Finding]:
    members: dict[int, dict[str, int]] = {}  # of each group, the first photo of each file; copies are told apart from this
    for i, (fact, group) in enumerate(zip(facts, groups.tolist(), strict=True)):
        members.setdefault(group, {}).setdefault(fact.sha256, i)
    several = [list(files.values()) for files in members.values() if len(files) > 1]
    labels = [_facing(group, [facts[i].photo.label for i in group]) for group in several]
    splits = [_facing(group, [facts[i].split for i in group]) for group in several]
    yield from _grouped("near duplicates across labels", "warning", labels,
                        "nearly the same picture stands under different labels ({})", "look which label is right")
    yield from _grouped("near duplicates across splits", "warning", splits,
                        "nearly the same picture stands in different splits ({})",
                        "what is measured there looks better than it is; move each group into one split")
    within = [group for group, *across in zip(several, labels, splits, strict=True) if not any(across)]
    yield from _grouped("near duplicates", "note", within, f"{sum(map(len, within))} photos show the same as others ({{}})",
                        "they stay together when photos are split, and count once")


def _facing(group: Sequence[int], values: Sequence[str]) -> list[int]:
    """The group with one photo of each value first, or nothing if it has but one value."""
    firsts = [group[values.index(value)] for value in dict.fromkeys(values)]
    return [*firsts, *(i for i in group if i not in firsts)] if len(firsts) > 1 else []


def _grouped(kind: str, severity: Severity, groups: Sequence[Sequence[int]], what: str, remedy: str) -> Iterator[Finding]:
    if kept := [group for group in groups if group]:
        times = f"{len(kept)} group{'s' * (len(kept) > 1)}"
        yield Finding(kind, severity, tuple(i for group in kept for i in group), f"{what.format(times)}; {remedy}")


def _background(facts: Sequence[PhotoFacts], groups: NDArray[np.int64]) -> Iterator[Finding]:
    """Whether the borders of pictures alone tell a label: leave-one-group-out nearest neighbours, each label weighing alike.

    The gain of a label is the share of its photos that are taken for it, minus the share of the others' (Youden's J):
    0 by chance, 1 if the border tells it always.
    """
    counts = Counter(fact.photo.label for fact in facts if fact.photo.label != EMPTY)  # that one is one place by nature
    labels = sorted(label for label, count in counts.items() if count >= SUSPECT_LEAST)
    chosen = [i for i, fact in enumerate(facts) if fact.photo.label in labels]
    if len(labels) < 2:
        return
    truth = np.array([labels.index(facts[i].photo.label) for i in chosen])
    guess = _nearest(np.stack([facts[i].border for i in chosen]).astype(np.float32), truth, groups[chosen])
    gains = [float((guess[truth == k] == k).mean() - (guess[truth != k] == k).mean()) for k in range(len(labels))]
    if suspects := [k for k, gain in enumerate(gains) if gain >= SUSPECT_GAIN]:
        rows = zip_longest(*([i for i, k in zip(chosen, truth, strict=True) if k == suspect] for suspect in suspects))
        photos = tuple(i for row in rows for i in row if i is not None)
        named = ", ".join(f"{labels[k]} ({(guess[truth == k] == k).mean():.0%} right)" for k in suspects)
        yield Finding("one background", "warning", photos,
                      f"the picture's border alone, without the animal, tells {named}: the model may learn the place; take "
                      "photos of every label in the same places")


def _nearest(points: NDArray[np.float32], truth: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each point's label, guessed from its three nearest that are not of its group; a rare label's vote weighs more."""
    squares = (points**2).sum(axis=1)
    weights = 1 / np.bincount(truth)
    guessed = []
    for start in range(0, len(points), _BLOCK):
        rows = slice(start, start + _BLOCK)
        distances = squares[rows, None] + squares[None] - 2 * points[rows] @ points.T
        distances[groups[rows, None] == groups[None]] = np.inf
        nearest = np.argpartition(distances, min(_NEIGHBOURS, len(points) - 1), axis=1)[:, :_NEIGHBOURS]
        votes = np.zeros((len(nearest), len(weights)))
        np.add.at(votes, (np.arange(len(nearest))[:, None], truth[nearest]), weights[truth[nearest]])
        guessed.append(votes.argmax(axis=1))
    return np.concatenate(guessed)


def _day(facts: Sequence[PhotoFacts]) -> Iterator[Finding]:
    """Whether a label was photographed on one day on which the others hardly were. Needs dates, and asks for most of them."""
    days = {label: Counter(fact.taken.date() for fact in facts if fact.taken and fact.photo.label == label)
            for label in sorted({fact.photo.label for fact in facts})}  # fmt: skip
    counts = Counter(fact.photo.label for fact in facts)
    dated = [label for label, mine in days.items() if mine.total() >= max(SUSPECT_LEAST, SUSPECT_DAY * counts[label])]
    for label in dated:
        day, most = days[label].most_common(1)[0]
        elsewhere = [days[other][day] / days[other].total() for other in dated if other != label]
        if label == EMPTY or not elsewhere or most < SUSPECT_DAY * days[label].total() or max(elsewhere) > 1 - SUSPECT_DAY:
            continue
        photos = tuple(i for i, fact in enumerate(facts) if fact.photo.label == label)
        yield Finding("one day", "warning", photos,
                      f"{most} of {days[label].total()} dated photos of {label} are of {day}, and hardly one of the others: "
                      "the model may learn that day's light; take photos of it on other days")


def _flagged(facts: Sequence[PhotoFacts]) -> Iterator[Finding]:
    counts = Counter(fact.photo.label for fact in facts)
    for flag in FLAGS:
        photos = tuple(i for i, fact in enumerate(facts) if flag in fact.flags)
        what, severity, remedy = _FLAGGED[flag]
        shares = {label: sum(facts[i].photo.label == label for i in photos) / counts[label] for label in counts}
        if flag == GREY and max(shares.values()) > 0.5 and min(shares.values()) < 0.1:
            mostly = ", ".join(sorted(label for label, share in shares.items() if share > 0.5))
            severity, remedy = "warning", f"mostly of {mostly}: the model may learn the light; add such photos of every label"
        if photos:
            number = "1 photo is" if len(photos) == 1 else f"{len(photos)} photos are"
            yield Finding(flag, severity, photos, f"{number} {what}; {remedy}")
