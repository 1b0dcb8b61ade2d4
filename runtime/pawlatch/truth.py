"""Who really came: `truth.csv`, against which policies are counted, and the counting."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from pawlatch.errors import PawlatchError
from pawlatch.stats import binomial_upper

HEADER = ("clip", "start_s", "end_s", "label")
AFTER_S = 1.0  # an unlock so soon after a visit is still for who has just left the picture


class TruthError(PawlatchError, ValueError):
    """A `truth.csv` that is not one, or does not go with its clips."""


@dataclass(frozen=True)
class TruthVisit:
    """An animal that is in the picture from `start_s` to `end_s` of a clip, in clip time."""

    clip: str
    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class VisitOutcome:
    """What became of a visit under one policy: `unlock_s` after its beginning, None where the door stayed shut."""

    visit: TruthVisit
    may_pass: bool
    unlock_s: float | None

    @property
    def is_right(self) -> bool:
        """Whether an own animal was let in, and anyone else kept out."""
        return self.may_pass == (self.unlock_s is not None)


@dataclass(frozen=True)
class PolicyCount:
    """What a policy did with n visits of each kind. `elsewhen` counts unlocks while nobody was there.

    `false_unlock_upper_95` and `lock_out_upper_95` are exact one-sided bounds of the shares; the times, in seconds from when
    the animal came into the picture, are those of own visits that were let in, None of none.
    """

    policy: str
    false_unlocks: int
    strangers: int
    false_unlock_upper_95: float
    elsewhen: int
    lock_outs: int
    own: int
    lock_out_upper_95: float
    time_p50_s: float | None
    time_p95_s: float | None
    within_1_s: int

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def read_truth(path: Path) -> list[TruthVisit]:
    """The visits in a CSV file with the header `clip,start_s,end_s,label`, in its order.

    Raises:
        TruthError: it cannot be read, has another header, or a line that says nothing; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        detail = getattr(error, "strerror", None) or error
        raise TruthError(f"cannot read {path} as CSV: {detail}; name another --truth") from error
    if not rows or tuple(name.strip() for name in rows[0]) != HEADER:
        raise TruthError(f"the first line of {path} must be {','.join(HEADER)}, got {','.join(rows[0]) if rows else 'nothing'}")
    return [_visit(row, f"{path}, line {number}") for number, row in enumerate(rows[1:], 2) if any(row)]


def _visit(row: Sequence[str], where: str) -> TruthVisit:
    if len(row) != len(HEADER) or not row[0].strip() or not row[3].strip():
        raise TruthError(f"{where}: expected {','.join(HEADER)}, got {','.join(row)}")
    try:
        start_s, end_s = float(row[1]), float(row[2])
    except ValueError:
        start_s, end_s = inf, inf
    if not 0 <= start_s < end_s < inf:
        raise TruthError(f"{where}: a visit has seconds with 0 <= start_s < end_s, got {row[1]} and {row[2]}")
    return TruthVisit(row[0].strip(), start_s, end_s, row[3].strip())


def assign(visits: Iterable[TruthVisit], clips: Sequence[str]) -> dict[str, list[TruthVisit]]:
    """The visits of each clip: by its whole name as given, else by its file's name. Clips without any have an empty list.

    Raises:
        TruthError: a visit's clip is not among `clips`, or could be two of them.
    """
    found: dict[str, list[TruthVisit]] = {clip: [] for clip in clips}
    for visit in visits:
        end = Path(visit.clip).parts
        named = [clip for clip in clips if clip == visit.clip] or [
            clip for clip in clips if Path(clip).parts[-len(end):] == end]
        if len(named) != 1:
            raise TruthError(f"the truth's clip {visit.clip!r} must be one of {', '.join(clips)}; it is "
                             f"{'none' if not named else 'more than one'} of them")
        found[named[0]].append(visit)
    return found


def outcomes(visits: Sequence[TruthVisit], unlocks_s: Sequence[float], *, unlock: Sequence[str]) -> list[VisitOutcome]:
    """What became of a clip's visits, given when a policy said to open. While two animals are there it opens for both."""
    told = []
    for visit in visits:
        inside = [time_s for time_s in unlocks_s if visit.start_s <= time_s <= _until_s(visit, visits)]
        told.append(VisitOutcome(visit, visit.label in unlock, min(inside) - visit.start_s if inside else None))
    return told


def elsewhen(visits: Sequence[TruthVisit], unlocks_s: Sequence[float]) -> int:
    """How often a policy said to open while nobody was there; within a second counts once."""
    nobody = [time_s for time_s in unlocks_s
              if not any(visit.start_s <= time_s <= _until_s(visit, visits) for visit in visits)]
    return sum(i == 0 or time_s - nobody[i - 1] > AFTER_S for i, time_s in enumerate(nobody))


def count(policy: str, told: Sequence[VisitOutcome], *, nobody: int) -> PolicyCount:
    """Sum up the outcomes of all clips; `nobody` are unlocks while nobody was there."""
    own, strangers = ([outcome for outcome in told if outcome.may_pass is kind] for kind in (True, False))
    times = [outcome.unlock_s for outcome in own if outcome.unlock_s is not None]
    let_in = sum(not outcome.is_right for outcome in strangers)
    refused = sum(not outcome.is_right for outcome in own)
    p50, p95 = (float(np.quantile(times, q)) for q in (0.5, 0.95)) if times else (None, None)
    return PolicyCount(policy, let_in, len(strangers), binomial_upper(let_in, len(strangers)), nobody, refused, len(own),
                       binomial_upper(refused, len(own)), p50, p95, sum(time_s <= 1.0 + 1e-9 for time_s in times))


def _until_s(visit: TruthVisit, visits: Sequence[TruthVisit]) -> float:
    """A little longer than a visit, but not into the next one's."""
    following = [other.start_s for other in visits if other.start_s >= visit.end_s]
    return min([visit.end_s + AFTER_S, *(start_s - 1e-9 for start_s in following)])


def table(counts: Iterable[PolicyCount]) -> list[str]:
    """Policies side by side, for a terminal."""
    lines = [f"{'policy':<15}{'let in':>12}{'at most':>9}{'for nobody':>12}{'locked out':>12}{'at most':>9}"
             f"{'p50 s':>7}{'p95 s':>7}{'in 1 s':>9}"]
    for row in counts:
        p50, p95 = ("-" if value is None else f"{value:.2f}" for value in (row.time_p50_s, row.time_p95_s))
        let_in, locked_out = f"{row.false_unlocks} of {row.strangers}", f"{row.lock_outs} of {row.own}"
        lines.append(f"{row.policy:<15}{let_in:>12}{row.false_unlock_upper_95:>9.1%}{row.elsewhen:>12}{locked_out:>12}"
                     f"{row.lock_out_upper_95:>9.1%}{p50:>7}{p95:>7}{f'{row.within_1_s}/{row.own}':>9}")
    return lines
