"""Who trains, who chooses, who is held out: stratified by label, seeded, and one moment on one side only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pawlatch.errors import PhotosError
from pawlatch_train.check import Finding, PhotoCheck

HELD_OUT_SHARE = 0.15
CHOOSE_SHARE = 0.15
MOST_TO_CHOOSE = 200  # of many photos: what more would choose is worth more where it trains
MIN_TO_CHOOSE = 6  # a label with fewer photos trains with all it has


@dataclass(frozen=True)
class Splits:
    """Indices into the facts of a check, ascending.

    `fit` fits weights, `choose` picks epochs and the threshold, `held_out` is only ever measured on. `findings` says what
    had to be left out of training, and of which labels one moment had to be divided.
    """

    fit: list[int]
    choose: list[int]
    held_out: list[int]
    findings: tuple[Finding, ...] = ()


def split(check: PhotoCheck, *, seed: int) -> Splits:
    """Use the user's own splits where there are any, else draw: near-duplicate groups stay whole.

    Without a `test` folder, `valid` is what is held out, and part of `train` does the choosing. Copies of a held-out file
    never train. Only a label whose photos are all of one group has that group divided, and a finding says so.

    Raises:
        PhotosError: a label with too few photos to train and to hold one out, or that only one of the splits has.
    """
    rng = np.random.default_rng(seed)
    given = {name: [i for i, fact in enumerate(check.facts) if fact.split == name] for name in check.splits}
    train = given.get("train", given.get("", []))
    held_out = given.get("test", given.get("valid", []))
    choose = given["valid"] if "test" in given and "valid" in given else []
    _require(check, train, held_out)
    divided: list[str] = []
    copies: list[int] = []
    if held_out:
        choose, copied = _without_copies(check, choose, held_out)
        train, left_out = _without_copies(check, train, [*held_out, *choose])
        copies = [*copied, *left_out]
        _require_left(check, train)
    else:
        train, held_out = _draw(check, train, HELD_OUT_SHARE, rng, least=2, divided=divided)
        _require_held_out(check, held_out)
    if not choose:
        share = min(CHOOSE_SHARE, MOST_TO_CHOOSE / max(1, len(train)))
        train, choose = _draw(check, train, share, rng, least=MIN_TO_CHOOSE, divided=divided)
    return Splits(train, choose, held_out, tuple(_findings(check, copies, sorted(set(divided)))))


def pooled(splits: Splits, check: PhotoCheck) -> Splits:
    """For folds, which choose and judge by themselves: all train, also what was drawn to be held out, but not a user's own."""
    spare, held_out = (splits.held_out, []) if check.splits in (("",), ("train",)) else ([], splits.held_out)
    return replace(splits, fit=sorted([*splits.fit, *splits.choose, *spare]), choose=[], held_out=held_out)


def folds(check: PhotoCheck, indices: Sequence[int], *, k: int, seed: int) -> list[list[int]]:
    """Divide photos into `k` folds alike in size and labels, groups whole; each index stands in exactly one.

    Every label is in two folds or more, so that whichever is left out, the others have it.

    Raises:
        PhotosError: fewer than two folds, more folds than groups, or a label with one photo only.
    """
    rng = np.random.default_rng(seed)
    units, _ = _units(check, indices)
    if not 2 <= k <= len(units):
        raise PhotosError(f"expected 2 to {len(units)} folds (the photos are of so many moments), got {k}")
    totals = Counter(check.facts[i].photo.label for i in indices)
    if poor := sorted(label for label in totals if sum(_holds(check, unit, label) for unit in units) < 2):
        raise PhotosError(f"folds need two different photos of each label; too few: {', '.join(poor)}")
    filled: list[Counter[str]] = [Counter() for _ in range(k)]
    parts: list[list[int]] = [[] for _ in range(k)]
    order = sorted(rng.permutation(len(units)).tolist(), key=lambda u: -len(units[u]))
    for unit in (units[u] for u in order):
        mine = Counter(check.facts[i].photo.label for i in unit)
        fullness = [sum(mine[label] * fold[label] / totals[label] for label in mine) for fold in filled]
        best = min(range(k), key=lambda f: (fullness[f], len(parts[f])))
        parts[best] += unit
        filled[best] += mine
    return [sorted(part) for part in parts]


def _draw(check: PhotoCheck, indices: Sequence[int], share: float, rng: np.random.Generator, *, least: int,
          divided: list[str]) -> tuple[list[int], list[int]]:
    """Take about `share` of each label away in whole groups, one group at least, and none from a label under `least`.

    The labels of which a group had to be divided are added to `divided`.
    """
    units, newly = _units(check, indices)
    left = Counter(check.facts[i].photo.label for i in indices)
    wanted = {label: max(1, round(share * count)) if count >= least else 0 for label, count in left.items()}
    taken: Counter[str] = Counter()
    drawn: set[int] = set()
    for label in sorted(wanted):
        mine = [unit for unit in units if _holds(check, unit, label)]
        mine = [mine[u] for u in rng.permutation(len(mine))]
        for nth, unit in enumerate([*mine, *sorted(mine, key=len)]):  # if none fits, the smallest overshoots least
            counts = Counter(check.facts[i].photo.label for i in unit)
            fits = taken[label] + counts[label] <= wanted[label] or (nth >= len(mine) and not taken[label])
            if wanted[label] and fits and drawn.isdisjoint(unit) and all(left[name] > counts[name] for name in counts):
                drawn.update(unit)
                taken += counts
                left -= counts
    divided += [label for label in newly if wanted[label]]
    return [i for i in indices if i not in drawn], sorted(drawn)


def _units(check: PhotoCheck, indices: Sequence[int]) -> tuple[list[list[int]], list[str]]:
    """What must stay together among `indices`: groups, but single files of labels that have one group; and those labels."""
    whole: dict[int, list[int]] = {}
    for i in indices:
        whole.setdefault(int(check.groups[i]), []).append(i)
    labels = sorted({check.facts[i].photo.label for i in indices})
    lone = [label for label in labels if sum(_holds(check, unit, label) for unit in whole.values()) == 1]
    units: dict[tuple[int, str], list[int]] = {}
    for group, members in whole.items():
        divide = any(_holds(check, members, label) for label in lone)
        for i in members:
            units.setdefault((group, check.facts[i].sha256 if divide else ""), []).append(i)
    divided = [label for label in lone if sum(_holds(check, unit, label) for unit in units.values()) > 1]
    return list(units.values()), divided


def _holds(check: PhotoCheck, unit: Sequence[int], label: str) -> bool:
    return any(check.facts[i].photo.label == label for i in unit)


def _without_copies(check: PhotoCheck, indices: Sequence[int], others: Collection[int]) -> tuple[list[int], list[int]]:
    """Those of `indices` whose files are not among the others', and those whose are."""
    files = {check.facts[i].sha256 for i in others}
    copies = [i for i in indices if check.facts[i].sha256 in files]
    return [i for i in indices if check.facts[i].sha256 not in files], copies


def _findings(check: PhotoCheck, copies: Sequence[int], divided: Sequence[str]) -> list[Finding]:
    found = []
    if copies:
        found.append(Finding("copies left out", "warning", tuple(copies),
                             f"copies of held-out files, left out of training: {len(copies)}; remove them"))
    if divided:
        photos = tuple(i for label in divided for i in check.indices(label))
        found.append(Finding("one moment", "warning", photos,
                             f"nearly the same picture is on both sides of a split for {', '.join(divided)}, of which there is "
                             "too little else: what is measured looks better than it is; take photos of other moments"))
    return found


def _require(check: PhotoCheck, train: Sequence[int], held_out: Sequence[int]) -> None:
    """Each label of the folder needs readable photos to train on, and to hold out: either the user's, or one more."""
    labels = {label for split, label in check.listed if split in ("", "train")}
    first = f"; the first set aside: {check.set_aside[0].reason}" if check.set_aside else ""
    for name in ("valid", "test"):
        if strange := sorted({label for split, label in check.listed if split == name} - labels):
            raise PhotosError(f"{check.folder}/{name} has labels that {check.folder}/train lacks: {', '.join(strange)}")
    files: dict[str, set[str]] = {label: set() for label in labels}
    for i in train:
        files[check.facts[i].photo.label].add(check.facts[i].sha256)
    if missing := sorted(label for label in labels if not files[label]):
        raise PhotosError(f"no readable photo is left to train on for {', '.join(missing)}{first}")
    least = 1 if set(check.splits) & {"valid", "test"} else 2
    if poor := [f"{label} ({len(files[label])})" for label in sorted(labels) if len(files[label]) < least]:
        raise PhotosError(
            f"each label needs at least {least} photos that differ, one of them to hold out; too few: {', '.join(poor)}; "
            "20 to 100 a label make a good door"
        )
    if least == 1 and (missing := sorted(labels - {check.facts[i].photo.label for i in held_out})):
        where = check.folder / ("test" if "test" in check.splits else "valid")
        raise PhotosError(f"no readable photo is left to hold out for {', '.join(missing)} in {where}{first}")


def _require_held_out(check: PhotoCheck, held_out: Sequence[int]) -> None:
    if missing := sorted(set(check.labels) - {check.facts[i].photo.label for i in held_out}):
        named = ", ".join(missing)
        raise PhotosError(f"the photos of {named} are nearly those of other labels, so that none can be held out; add others")


def _require_left(check: PhotoCheck, train: Sequence[int]) -> None:
    if missing := sorted(set(check.labels) - {check.facts[i].photo.label for i in train}):
        raise PhotosError(f"all training photos of {', '.join(missing)} are copies of held-out ones; add others")
