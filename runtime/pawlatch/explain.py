"""Why a door did what it did with a visit, frame by frame, and what would have changed it. Computed only when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from math import exp
from statistics import median
from typing import Any

from pawlatch.decide import Consensus, Evidence, Observation, Policy, Single, Verdict
from pawlatch.photos import EMPTY

REMEMBERED = 256  # observations, as many as the door's loop keeps
MORE_FRAMES = 20
LEFT_OUT = 24  # frames that are left out one by one
SHOWN, SHOWN_AFTER = 40, 3  # rows for a terminal: in all, and after it opened

Known = Evidence | Consensus | Single


@dataclass(frozen=True)
class FrameRow:
    """A frame of the visit. Times in seconds since its first frame. What is None was not asked: the gate kept the frame.

    `own` is the summed score of the unlock labels, `ratio` and `correlation` are those of `pawlatch.evidence`, `evidence`
    and `needed` the verdict's.
    """

    time_s: float
    reason: str
    unlock: bool = False
    label: str | None = None
    score: float | None = None
    own: float | None = None
    threshold: float | None = None
    stranger: float | None = None
    infrared: bool = False
    ratio: float | None = None
    correlation: float | None = None
    evidence: float | None = None
    needed: float | None = None


@dataclass(frozen=True)
class Explanation:
    """`verdict` is the one that opened at `unlock_s`, else the nearest to it; `would` says what would have changed it."""

    policy: str
    verdict: Verdict
    unlock_s: float | None
    used: int
    refused: int
    rows: tuple[FrameRow, ...]
    would: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """For a terminal."""
        did = "stayed shut" if self.unlock_s is None else f"opened after {self.unlock_s:.1f} s"
        told = [f"{self.policy}: {did}: {self.verdict.reason}",
                f"{self.used} frames counted, {self.refused} did not (nobody in them, or refused by the gate)",
                f"{'s':>6}  {'frame':<22}{'own':>6}{'ratio':>7}{'corr.':>7}{'so far':>8}{'needed':>8}  "]
        told += [_row_line(row) for row in _thinned(self.rows)]
        return told + [f"- {sentence}" for sentence in self.would]


def explain(policy: Policy, observations: Sequence[Observation], *, refused: Iterable[tuple[float, str]] = ()) -> Explanation:
    """Judge a visit's observations (oldest first, at least one) as the door did, each when it came.

    `refused` are time and reason of frames that the gate kept from the model.

    Raises:
        ValueError: there is no observation.
    """
    if not observations:
        raise ValueError("there is nothing to explain: no frame of the visit was classified")
    start_s = observations[0].time_s
    verdicts = list(_verdicts(policy, observations))
    first = next((i for i, verdict in enumerate(verdicts) if verdict.unlock), None)
    rows = [_row(policy, observations[: i + 1], verdict, start_s) for i, verdict in enumerate(verdicts)]
    gated = [FrameRow(time_s - start_s, reason) for time_s, reason in refused]
    nearest = max(verdicts, key=lambda verdict: (verdict.label != EMPTY, verdict.evidence))
    shown = sum(seen.prediction.label != EMPTY for seen in observations)
    verdict, unlock_s = (nearest, None) if first is None else (verdicts[first], observations[first].time_s - start_s)
    return Explanation(
        policy.name, verdict, unlock_s, shown, len(observations) - shown + len(gated),
        tuple(sorted([*rows, *gated], key=lambda row: row.time_s)), tuple(_would(policy, observations, first)),
    )


def first_unlock(policy: Policy, observations: Sequence[Observation]) -> int | None:
    """Which observation opens, each judged when it came; None where none does."""
    return next((i for i, verdict in enumerate(_verdicts(policy, observations)) if verdict.unlock), None)


def _verdicts(policy: Policy, observations: Sequence[Observation]) -> Iterator[Verdict]:
    for i, seen in enumerate(observations):
        yield policy.decide(observations[max(0, i + 1 - REMEMBERED) : i + 1], seen.time_s)


def _row(policy: Policy, so_far: Sequence[Observation], verdict: Verdict, start_s: float) -> FrameRow:
    seen = so_far[-1]
    prediction = seen.prediction
    threshold = policy.threshold_of(seen) if isinstance(policy, Known) else policy.threshold
    row = FrameRow(
        seen.time_s - start_s, verdict.reason, verdict.unlock, prediction.label, prediction.score,
        prediction.score_of(policy.unlock), threshold, prediction.stranger, seen.infrared,
        evidence=verdict.evidence, needed=verdict.needed,
    )
    if not isinstance(policy, Evidence):
        return row
    window = [it for it in so_far if seen.time_s - it.time_s <= policy.window_s]
    weighed = policy.last_weighed(window)
    if weighed is None or weighed.seen is not seen:
        return row
    return replace(row, ratio=weighed.ratio, correlation=weighed.correlation)


# -------------------------------------------------------------------------------- what would have changed it


def _would(policy: Policy, observations: Sequence[Observation], first: int | None) -> Iterator[str]:
    if not isinstance(policy, Known) or not policy.unlock:
        return
    if first is not None:
        yield from _shut(policy, observations[: first + 1], observations)
        return
    found = [*_lower(policy, observations), *_more(policy, observations), *_without(policy, observations),
             *_otherwise(policy, observations)]
    yield from found or ["neither a lower threshold, nor more such frames, nor leaving out a frame would have opened it"]


def _lower(policy: Known, observations: Sequence[Observation]) -> Iterator[str]:
    """The highest evidence, or score, from which on it would have opened."""
    if isinstance(policy, Evidence):
        needed = _highest(lambda upper: _with_upper(policy, upper), 0.7, policy.upper, observations)
        if needed is not None:
            lower = _with_upper(policy, needed)
            yield (f"with a threshold of {needed:.1f} instead of {policy.upper:.1f} (false_unlock = {lower.false_unlock:.2g} "
                   f"instead of {policy.false_unlock:.2g}) it would have opened {_after(lower, observations)}")
    now = policy.threshold_of(observations[-1])
    score = _highest(lambda score: _with_score(policy, score), 0.01, now, observations)
    if score is not None and score < now - 0.005:
        yield (f"with a score of {score:.2f} instead of {now:.2f} enough it would have opened "
               f"{_after(_with_score(policy, score), observations)}")


def _more(policy: Known, observations: Sequence[Observation]) -> Iterator[str]:
    """How many more frames like the best one, at the visit's own pace, would have been enough."""
    best = max(observations, key=lambda seen: seen.prediction.score_of(policy.unlock) - policy.threshold_of(seen))
    gaps_s = [after.time_s - before.time_s for before, after in pairwise(observations)]
    step_s = median(gaps_s) if gaps_s else 0.1
    more = list(observations)
    for count in range(1, MORE_FRAMES + 1):
        more.append(replace(best, time_s=more[-1].time_s + max(step_s, 1e-3)))
        if policy.decide(more[-REMEMBERED:], more[-1].time_s).unlock:
            yield f"{count} more frame{'s' if count > 1 else ''} like the one at {_at(best, observations)} would have opened it"
            return


def _without(policy: Known, observations: Sequence[Observation]) -> Iterator[str]:
    """Frames that spoke against it: each alone, else all of them."""
    against = sorted((seen for seen in observations if seen.prediction.label != EMPTY and not _speaks(policy, seen)),
                     key=lambda seen: seen.prediction.score_of(policy.unlock))
    for seen in against[:LEFT_OUT]:
        rest = [it for it in observations if it is not seen]
        if (found := first_unlock(policy, rest)) is not None:
            yield (f"without the {_what(policy, seen)} frame at {_at(seen, observations)} it would have opened after "
                   f"{rest[found].time_s - observations[0].time_s:.1f} s")
            return
    left = set(map(id, against))
    rest = [it for it in observations if id(it) not in left]
    if len(against) > 1 and (found := first_unlock(policy, rest)) is not None:
        yield (f"without the {len(against)} frames that say something else it would have opened after "
               f"{rest[found].time_s - observations[0].time_s:.1f} s")


def _otherwise(policy: Known, observations: Sequence[Observation]) -> Iterator[str]:
    """Without what is special of the night, of strangers, and of a veto."""
    by_day = [replace(seen, infrared=False) for seen in observations]
    if any(seen.infrared for seen in observations) and first_unlock(policy, by_day) is not None:
        yield f"by the daylight's operating point it would have opened {_after(policy, by_day)}"
    known = [replace(seen, prediction=replace(seen.prediction, stranger=None, is_stranger=False)) for seen in observations]
    if any(seen.prediction.stranger is not None for seen in observations) and first_unlock(policy, known) is not None:
        yield f"without the stranger score it would have opened {_after(policy, known)}"
    free = replace(policy, veto=replace(policy.veto, labels=()))
    if policy.veto.labels and first_unlock(free, observations) is not None:
        yield f"without the veto of {' or '.join(policy.veto.labels)} it would have opened {_after(free, observations)}"


def _shut(policy: Known, used: Sequence[Observation], whole: Sequence[Observation]) -> Iterator[str]:
    """By how much it opened: the threshold it would still have passed, and whether one frame made the difference."""
    if isinstance(policy, Evidence):
        most = _highest(lambda upper: _with_upper(policy, upper), policy.upper, 40.0, whole)
        if most is not None and most < 39.9:
            yield f"with a threshold above {most:.1f} instead of {policy.upper:.1f} it would have stayed shut"
    else:
        now = policy.threshold_of(used[-1])
        most = _highest(lambda score: _with_score(policy, score), now, 1.0, whole)
        if most is not None and most < 0.995:
            yield f"with a score above {most:.2f} instead of {now:.2f} needed it would have stayed shut"
    speaking = [seen for seen in used if _speaks(policy, seen)]
    alone = [seen for seen in speaking[-LEFT_OUT:] if first_unlock(policy, [it for it in whole if it is not seen]) is None]
    for seen in alone[:3]:
        yield f"without the frame at {_at(seen, whole)} it would have stayed shut"
    if not alone:
        yield f"no single one of the {len(speaking)} frames that spoke for it decided it"


def _speaks(policy: Known, seen: Observation) -> bool:
    if isinstance(policy, Evidence):
        return any(weighed.speaks for weighed in policy.weigh([seen]))
    prediction = seen.prediction
    return prediction.label != EMPTY and prediction.score_of(policy.unlock) >= policy.threshold_of(seen) and not (
        isinstance(policy, Consensus) and prediction.is_stranger)


def _highest(make: Callable[[float], Known], low: float, high: float, observations: Sequence[Observation]) -> float | None:
    """The highest value from `low` to `high` at which `make(value)` opens, to a hundredth; None where `low` does not."""
    if first_unlock(make(low), observations) is None:
        return None
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (middle, high) if first_unlock(make(middle), observations) is not None else (low, middle)
    return low


def _with_upper(policy: Evidence, upper: float) -> Evidence:
    """The same with another upper bound."""
    return replace(policy, false_unlock=min(0.499, (1 - policy.miss) * exp(-upper)))


def _with_score(policy: Known, score: float) -> Known:
    """The same with another score enough for one frame, by day and by night."""
    return replace(policy, threshold=score, infrared=score)


def _after(policy: Policy, observations: Sequence[Observation]) -> str:
    found = first_unlock(policy, observations)
    return "" if found is None else f"after {observations[found].time_s - observations[0].time_s:.1f} s"


def _at(seen: Observation, observations: Sequence[Observation]) -> str:
    return f"{seen.time_s - observations[0].time_s:.1f} s"


def _what(policy: Known, seen: Observation) -> str:
    prediction = seen.prediction
    return "stranger" if prediction.is_stranger else "unsure" if prediction.label in policy.unlock else prediction.label


def _row_line(row: FrameRow | None) -> str:
    if row is None:
        return f"{'...':>6}"
    if row.label is None:
        return f"{row.time_s:6.1f}  refused by the gate: {row.reason}"
    numbers = [(row.own, 6, 2), (row.ratio, 7, 1), (row.correlation, 7, 2), (row.evidence, 8, 2), (row.needed, 8, 2)]
    told = "".join(" " * width if value is None else f"{value:{width}.{digits}f}" for value, width, digits in numbers)
    frame = f"{row.label} {row.score:.2f}{' infra-red' if row.infrared else ''}"
    return f"{row.time_s:6.1f}  {frame:<22}{told}  {'OPENS: ' if row.unlock else ''}{row.reason}"


def _thinned(rows: Sequence[FrameRow]) -> list[FrameRow | None]:
    """The rows up to where it opened, and a few more; None stands for what is left out."""
    first = next((i for i, row in enumerate(rows) if row.unlock), None)
    end = len(rows) if first is None else min(len(rows), first + 1 + SHOWN_AFTER)
    start = max(0, end - SHOWN)
    return [*([None] if start else []), *rows[start:end], *([None] if end < len(rows) else [])]
