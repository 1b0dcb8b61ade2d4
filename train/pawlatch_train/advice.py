"""What to photograph next. Each sentence rests on a count, and says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pawlatch.photos import EMPTY, OTHER
from pawlatch_train.findings import Finding
from pawlatch_train.judged import Judged, LabelRow

FEW_MOMENTS = 20
WIDE = 0.2  # an interval wider than this leaves open whether a label is learned
MORE = 20  # photos that one can take in an afternoon
IMBALANCE = 3.0
SUSPECT = ("one background", "one day")


@dataclass(frozen=True)
class Photographed:
    """What there is of one label, over all splits: near-duplicates are one moment; `grey` ones are infra-red or look so."""

    photos: int
    moments: int
    grey: int


def photograph_next(judged: Judged, photographed: Mapping[str, Photographed], unlock: Sequence[str],
                    findings: Sequence[Finding] = ()) -> list[str]:
    """What to photograph next: sentences that each rest on a count; one that says so where nothing stands out.

    Of the data check's findings those count that other photos would mend: one background, one day.
    """
    sentences = [
        *_missing_reserved(photographed, unlock),
        *_no_grey(photographed, unlock),
        *_few_moments(photographed),
        *_imbalance(photographed),
        *_confused(judged),
        *_widest(judged),
        *(one.sentence[:1].upper() + one.sentence[1:] + "." for one in findings if one.kind in SUSPECT),
    ]
    fewest = min((own.moments for own in photographed.values()), default=0)
    return sentences or [f"Nothing stands out: each label has at least {fewest} different moments, "
                         f"and no label's share of recognised photos is less certain than ± {WIDE * 50:.0f} points."]


def _missing_reserved(photographed: Mapping[str, Photographed], unlock: Sequence[str]) -> Iterable[str]:
    if not unlock:
        return
    if OTHER not in photographed and not set(photographed) - set(unlock) - {EMPTY}:
        yield (f"0 photos show an animal that must stay outside: photograph the neighbours' animals and put them into "
               f"photos/{OTHER}/, or the door has never seen what to refuse.")
    elif OTHER not in photographed:
        yield (f"0 photos are in photos/{OTHER}/: the door knows {count(len(set(photographed) - {EMPTY}), 'animal')} by name "
               "and no other; put photos of any others there.")
    if EMPTY not in photographed:
        yield f"0 photos are in photos/{EMPTY}/: photograph the door's view without an animal, by day and by night."


def _no_grey(photographed: Mapping[str, Photographed], unlock: Sequence[str]) -> Iterable[str]:
    if without := [label for label in unlock if label in photographed and not photographed[label].grey]:
        photos = sum(photographed[label].photos for label in without)
        yield (f"0 of the {photos} photos of {_names(without)} are grey: a door's camera sees infra-red at night; take some "
               "at night with that camera.")


def _few_moments(photographed: Mapping[str, Photographed]) -> Iterable[str]:
    few = sorted((own.moments, label) for label, own in photographed.items() if own.moments < FEW_MOMENTS)
    if few:
        told = [f"{label} ({count(moments, 'moment')} in {count(photographed[label].photos, 'photo')})"
                for moments, label in few]
        yield (f"Fewer than {FEW_MOMENTS} different moments: {_names(told)}. Photos of one burst count as one moment; "
               "photograph on other days, in other places.")


def _imbalance(photographed: Mapping[str, Photographed]) -> Iterable[str]:
    by_count = sorted(photographed, key=lambda label: photographed[label].moments)
    if len(by_count) > 1:
        least, most = photographed[by_count[0]].moments, photographed[by_count[-1]].moments
        if most > IMBALANCE * least:
            yield (f"{by_count[-1]} has {most} moments and {by_count[0]} {least}: the next photos should be of {by_count[0]}.")


def _confused(judged: Judged) -> Iterable[str]:
    mutual = judged.confusion()
    np.fill_diagonal(mutual, 0)
    mutual = np.triu(mutual + mutual.T)
    if mutual.max(initial=0) >= 2:
        a, b = np.unravel_index(int(mutual.argmax()), mutual.shape)
        photos = int(np.isin(judged.targets, (a, b)).sum())
        yield (f"{judged.labels[a]} and {judged.labels[b]} were taken for each other in {mutual[a, b]} of their {photos} "
               "photos: photograph both in the same places and the same light.")


def _widest(judged: Judged) -> Iterable[str]:
    rows = [row for row in judged.label_rows() if row.recall.n]
    if rows and _width(row := max(rows, key=_width)) > WIDE:
        share, (low, high), (then_low, then_high) = row.recall, row.recall.interval(), row.recall.interval(more=MORE)
        yield (f"{row.label} is the least certain: {share.k} of {share.n} recognised, so the true share may be anything from "
               f"{low:.0%} to {high:.0%}. {MORE} more held-out photos, each of another moment, would narrow that to about "
               f"{then_low:.0%} to {then_high:.0%}.")


def _width(row: LabelRow) -> float:
    low, high = row.recall.interval()
    return high - low


def _names(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def count(n: int, thing: str) -> str:
    """A number with its noun: "1 photo", "2 photos"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
