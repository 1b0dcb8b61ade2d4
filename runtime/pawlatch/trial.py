"""The champion and the challenger: what two models make of the visits in a journal, and whether the new one is worse.

Each judges the same kept frames, the champion again too, since an older one may have decided then. What is true a person has
said; the animals that may pass are those of the champion, to which the owner has agreed.

The rule is counts, not a test: where 20 visits of strangers were labelled and none got in, one that would get in with the new
model is no significant difference (McNemar: p = 1), and yet the one thing that a door must not do. So one visit is enough to
refuse it, and no gain elsewhere makes up for it. None seen still proves little, and `let_in_upper` says how little.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pawlatch.classify import Classifier
from pawlatch.decide import DecisionOptions, Policy, policy_from_card
from pawlatch.errors import JournalError
from pawlatch.records import Event, JournalReader, RecordedVisit
from pawlatch.rejudge import Judged, judge, taken_again
from pawlatch.stats import binomial_upper
from pawlatch.summary import OWN_VISITS, STRANGER_VISITS

VISITS = 500  # that are judged at most, labelled ones first: 12 frames each take a Raspberry Pi some minutes

Who = Literal["own", "stranger", "unknown"]


@dataclass(frozen=True)
class Row:
    """A visit by both models. `who` came, as a person said it: strangers are all who may not pass, and nobody."""

    event: int
    started: datetime
    truth: str | None
    who: Who
    frames: int
    old: Judged
    new: Judged

    @property
    def differs(self) -> bool:
        """Whether one opens and the other does not."""
        return _opens(self.old) != _opens(self.new)


@dataclass(frozen=True)
class Count:
    """What a model did with the labelled visits; `*_upper` are exact upper bounds of the share, with 95 % confidence."""

    strangers: int
    let_in: int
    let_in_upper: float
    own: int
    locked_out: int
    locked_out_upper: float


@dataclass(frozen=True)
class Trial:
    """Both models on the same visits. `without` had no pictures; `unreadable` are events whose file is damaged.

    `newcomers` are labels that the new model alone opens for; `left_out` visits were more than should be judged.
    """

    rows: tuple[Row, ...]
    without: int
    unreadable: tuple[int, ...]
    newcomers: tuple[str, ...] = ()
    left_out: int = 0

    @property
    def differences(self) -> tuple[Row, ...]:
        """The visits that they decide otherwise."""
        return tuple(row for row in self.rows if row.differs)

    @property
    def is_labelled(self) -> bool:
        """Whether a person has labelled enough visits for the unlabelled ones not to count."""
        return self.old.own >= OWN_VISITS and self.old.strangers >= STRANGER_VISITS

    @property
    def old(self) -> Count:
        """The champion's."""
        return _count(self.rows, lambda row: row.old)

    @property
    def new(self) -> Count:
        """The challenger's."""
        return _count(self.rows, lambda row: row.new)

    @property
    def harms(self) -> dict[int, str]:
        """What makes the new model worse, by event: strangers let in, own visits locked out, and, while too few are labelled,
        unlabelled visits that it decides otherwise."""
        found = {}
        for row in self.differences:
            opens = _opens(row.new)
            if row.who == "stranger" and opens:
                found[row.event] = "lets in"
            elif row.who == "own" and not opens:
                found[row.event] = "locks out"
            elif row.who == "unknown" and not self.is_labelled:
                found[row.event] = "opens for whom?" if opens else "shut to whom?"
        return found

    @property
    def is_worse(self) -> bool:
        """Whether the new model must not take over."""
        return bool(self.harms)

    @property
    def sentence(self) -> str:
        """The verdict."""
        if not self.rows:
            return "no recorded visit could be judged, so nothing is known of how it decides at this door"
        harms = list(self.harms.values())
        if harms:
            told = [f"{harms.count(kind)} {what}" for kind, what in _HARMS.items() if kind in harms]
            return f"the new model is worse: {', '.join(told)}"
        return f"the new model is not worse on {len(self.rows)} visits, of which {len(self.differences)} are decided otherwise"

    @property
    def doubts(self) -> list[str]:
        """What a person should know of the verdict."""
        told = []
        if not self.is_labelled:
            told.append(f"{self.old.own} own and {self.old.strangers} strangers' visits are labelled, {OWN_VISITS} and "
                        f"{STRANGER_VISITS} are needed (pawlatch events --label NAME EVENT ...); until then every unlabelled "
                        "visit that it decides otherwise counts against it")
        if self.newcomers:
            told.append(f"the new model may open for {', '.join(self.newcomers)} too, for whom the old one does not")
        if self.left_out:
            told.append(f"{self.left_out} more visits have pictures and were not judged (--visits)")
        if self.without:
            told.append(f"{self.without} visits have no pictures and were not judged")
        if self.unreadable:
            told.append(f"the pictures of the events {', '.join(map(str, self.unreadable))} are damaged")
        return told

    def to_json(self) -> dict[str, Any]:
        """As JSON: the differences, and the counts."""
        harms = self.harms
        rows = [{"event": row.event, "started": row.started.isoformat(timespec="seconds"), "truth": row.truth, "who": row.who,
                 "frames": row.frames, "old": row.old.unlock_s, "new": row.new.unlock_s, "harm": harms.get(row.event)}
                for row in self.differences]
        return {"visits": len(self.rows), "is_worse": self.is_worse, "verdict": self.sentence, "doubts": self.doubts,
                "old": vars(self.old), "new": vars(self.new), "differences": rows}


_HARMS = {
    "lets in": "let in of those that should stay out",
    "locks out": "locked out of those that may pass",
    "opens for whom?": "opened for whom nobody has labelled",
    "shut to whom?": "kept shut to whom nobody has labelled",
}


def hold_trial(journal: JournalReader, old: Classifier, new: Classifier, options: DecisionOptions, *, visits: int = VISITS,
               progress: Callable[[int, int], object] = lambda done, of: None) -> Trial:
    """Let both models judge the newest `visits`, labelled ones first.

    Raises:
        JournalError: the journal cannot be read.
        ModelCardError, ConfigError: a model does not go with `options`.
    """
    policies = [(model, policy_from_card(model.card, model.variant, options)) for model in (old, new)]
    events = journal.events()
    kept = sorted((event for event in events if "data" in event.pictures), key=lambda event: (event.truth is None, -event.id))
    rows: list[Row] = []
    unreadable = []
    for done, event in enumerate(kept[:visits]):
        progress(done, min(visits, len(kept)))
        try:
            visit = journal.visit(event.id)
            took, (was, now) = len(visit.inputs), [_judged(visit, *each) for each in policies]
        except JournalError:
            unreadable.append(event.id)
            continue
        if took:
            rows.append(Row(event.id, event.started, event.truth, _who(event, old.card.unlock), took, was, now))
    rows.sort(key=lambda row: row.event)
    left_out = max(0, len(kept) - visits)
    without = len(events) - len(rows) - len(unreadable) - left_out
    newcomers = tuple(label for label in new.card.unlock if label not in old.card.unlock)
    return Trial(tuple(rows), without, tuple(unreadable), newcomers, left_out)


def trial_lines(trial: Trial, old: str, new: str) -> list[str]:
    """For a terminal: the visits that are decided otherwise, the counts, and the verdict."""
    harms = trial.harms
    lines = []
    if trial.differences:
        width = max(len(row.truth or "-") for row in trial.differences) + 2
        lines.append(f"{'event':>6}  {'when':<19}  {'it was':<{width}}{'the old model':<20}{'the new model':<20}")
        lines += [f"{row.event:>6}  {row.started:%Y-%m-%d %H:%M:%S}  {row.truth or '-':<{width}}{_did(row.old):<20}"
                  f"{_did(row.new):<20}{harms.get(row.event, '')}".rstrip() for row in trial.differences]
    for name, version, count in (("old", old, trial.old), ("new", new, trial.new)):
        lines.append(f"{name} ({version}): {count.let_in} of {count.strangers} strangers' visits let in (at most "
                     f"{count.let_in_upper:.1%}), {count.locked_out} of {count.own} own visits locked out (at most "
                     f"{count.locked_out_upper:.1%})")
    return [*lines, *(f"note: {doubt}" for doubt in trial.doubts), trial.sentence]


def _judged(visit: RecordedVisit, model: Classifier, policy: Policy) -> Judged:
    return judge(policy, taken_again(visit, model))


def _who(event: Event, unlock: Sequence[str]) -> Who:
    return "unknown" if event.truth is None else "own" if event.truth in unlock else "stranger"


def _opens(judged: Judged) -> bool:
    return judged.unlock_s is not None


def _did(judged: Judged) -> str:
    return "stays shut" if judged.unlock_s is None else f"opens after {judged.unlock_s:.1f} s"


def _count(rows: Sequence[Row], of: Callable[[Row], Judged]) -> Count:
    strangers = [_opens(of(row)) for row in rows if row.who == "stranger"]
    own = [not _opens(of(row)) for row in rows if row.who == "own"]
    return Count(len(strangers), sum(strangers), binomial_upper(sum(strangers), len(strangers)),
                 len(own), sum(own), binomial_upper(sum(own), len(own)))
